//! Certificates of one cluster: its authority, its server, its clients. All EC P-256, valid as long as anybody cares.

use std::{fs, net::Ipv4Addr, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::error::{Context as _, Error, Result};

/// A cluster's certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub certificate: String,
}

/// A certificate with its key, both PEM.
pub(crate) struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS#8.
    pub key: String,
}

impl Authority {
    /// A new authority; writes `ca.crt` and `ca.key` and the service accounts' `sa.key` and `sa.pub` into `folder`.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let key = KeyPair::generate().map_err(invalid)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "testbed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(invalid)?.pem();
        write(folder, "ca.crt", &certificate)?;
        write(folder, "ca.key", &key.serialize_pem())?;
        let tokens = KeyPair::generate().map_err(invalid)?;
        write(folder, "sa.key", &tokens.serialize_pem())?;
        write(folder, "sa.pub", &tokens.public_key_pem())?;
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// The API server's identity, for loopback, `address` and the name that pods use; writes `server.crt` and `server.key` into `folder`.
    pub(crate) fn server(&self, folder: &Path, address: Ipv4Addr) -> Result<()> {
        let mut params =
            CertificateParams::new(vec!["localhost".to_owned(), "kubernetes.default.svc".to_owned()]).map_err(invalid)?;
        params.subject_alt_names.extend([Ipv4Addr::LOCALHOST, address].map(|ip| SanType::IpAddress(ip.into())));
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let Identity { certificate, key } = self.issue(params)?;
        write(folder, "server.crt", &certificate)?;
        write(folder, "server.key", &key)
    }

    /// A client's identity: user name, and group if any.
    pub(crate) fn client(&self, user: &str, group: Option<&str>) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Identity> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(invalid)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(invalid)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}

/// How a user proves who it is.
pub(crate) enum Credential<'a> {
    /// By a certificate.
    Certificate(&'a Identity),
    /// By a bearer token.
    Token(&'a str),
}

/// The three entries of one cluster in a kubeconfig: `clusters`, `users` and `contexts`, each named `name`, with embedded data.
pub(crate) fn kubeconfig_entries(name: &str, server: &str, ca: &str, credential: &Credential<'_>) -> [String; 3] {
    let base64 = |text: &str| BASE64_STANDARD.encode(text);
    let user = match credential {
        Credential::Certificate(Identity { certificate, key }) => {
            format!("    client-certificate-data: {}\n    client-key-data: {}\n", base64(certificate), base64(key))
        }
        Credential::Token(token) => format!("    token: {token}\n"),
    };
    [
        format!("- name: {name}\n  cluster:\n    server: {server}\n    certificate-authority-data: {}\n", base64(ca)),
        format!("- name: {name}\n  user:\n{user}"),
        format!("- name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n"),
    ]
}

/// A kubeconfig of these clusters; the current context is `current`.
pub(crate) fn kubeconfig(current: &str, entries: &[[String; 3]]) -> String {
    let part = |pick: fn(&[String; 3]) -> &str| entries.iter().map(pick).collect::<String>();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {current}\nclusters:\n{}users:\n{}contexts:\n{}",
        part(|[cluster, _, _]| cluster),
        part(|[_, user, _]| user),
        part(|[_, _, context]| context)
    )
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).context(|| format!("write {}", path.display()))
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn invalid(error: rcgen::Error) -> Error {
    Error::Invalid { what: "make a certificate".to_owned(), why: error.to_string() }
}
