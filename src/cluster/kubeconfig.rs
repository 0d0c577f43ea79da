use kube::config::{KubeConfigOptions, Kubeconfig};

/// Why a kubeconfig is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeconfigError {
    /// It does not parse. What it says is not repeated: it may hold secrets.
    #[error("the kubeconfig does not parse")]
    Malformed,
    /// It has no usable context.
    #[error("the kubeconfig is not usable: {0}")]
    Unusable(String),
    /// It would run a program or read a file of the operator's machine.
    #[error(
        "the kubeconfig uses `{0}`; only data in it is used: embed it (for example with `kubectl config view --flatten --minify`), and use a token or a client certificate"
    )]
    NotData(&'static str),
}

/// Parses a kubeconfig of which only data is used, never a program or a file.
///
/// # Errors
/// [`KubeconfigError`]; no secret of it is in the message.
pub async fn parse(text: &str) -> Result<kube::Config, KubeconfigError> {
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|_| KubeconfigError::Malformed)?;
    for user in kubeconfig.auth_infos.iter().filter_map(|user| user.auth_info.as_ref()) {
        let file = [
            (user.exec.is_some(), "exec"),
            (user.auth_provider.is_some(), "auth-provider"),
            (user.token_file.is_some(), "tokenFile"),
            (user.client_certificate.is_some(), "client-certificate"),
            (user.client_key.is_some(), "client-key"),
        ];
        if let Some((_, name)) = file.into_iter().find(|(used, _)| *used) {
            return Err(KubeconfigError::NotData(name));
        }
    }
    for cluster in kubeconfig.clusters.iter().filter_map(|cluster| cluster.cluster.as_ref()) {
        if cluster.certificate_authority.is_some() {
            return Err(KubeconfigError::NotData("certificate-authority"));
        }
    }
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| KubeconfigError::Unusable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(user: &str, cluster: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: \"https://127.0.0.1:1\"{cluster}}}}}]\nusers: [{{name: a, user: {{{user}}}}}]\n"
        )
    }

    #[tokio::test]
    async fn only_data_in_a_kubeconfig_is_used() {
        assert_eq!(parse(&with("token: abc", "")).await.unwrap().cluster_url.to_string(), "https://127.0.0.1:1/");
        for (user, name) in [
            ("exec: {apiVersion: client.authentication.k8s.io/v1, command: id}", "exec"),
            ("auth-provider: {name: gcp, config: {}}", "auth-provider"),
            ("tokenFile: /etc/passwd", "tokenFile"),
            ("client-certificate: /etc/passwd", "client-certificate"),
            ("client-key: /etc/passwd", "client-key"),
        ] {
            assert_eq!(parse(&with(user, "")).await.unwrap_err(), KubeconfigError::NotData(name));
        }
        let file = parse(&with("token: abc", ", certificate-authority: /etc/passwd")).await.unwrap_err();
        assert_eq!(file, KubeconfigError::NotData("certificate-authority"));
        assert_eq!(parse("{]").await.unwrap_err(), KubeconfigError::Malformed);
        assert!(matches!(parse("{}").await.unwrap_err(), KubeconfigError::Unusable(_)));
    }
}
