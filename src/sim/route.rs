use std::collections::BTreeMap;

use http::{HeaderMap, Method, Uri, header};

use super::json::at;
use super::kind::Kind;
use super::refusal::Refusal;
use super::select::Selector;

/// What a path names, before anybody asks whether it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub group: String,
    pub version: String,
    /// `None` = not in a namespace, or in all.
    pub namespace: Option<String>,
    pub plural: String,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

/// One request, read.
#[derive(Clone, Debug)]
pub struct Ask {
    /// As in RBAC: get, list, watch, create, update, patch, delete, deletecollection.
    pub verb: &'static str,
    /// Path without query.
    pub path: String,
    /// Path and query as sent.
    pub line: String,
    /// Nothing is to be stored. The real server reads it from the query, for deletions from the body too.
    pub dry_run: bool,
    pub(crate) place: Option<Place>,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) content_type: String,
    pub(crate) metadata_only: bool,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    /// Reads a request from its parts. Never fails: what cannot be served is refused by the server, and shows in its log.
    #[must_use]
    pub fn read(method: &Method, uri: &Uri, headers: &HeaderMap, body: Vec<u8>) -> Self {
        let query: BTreeMap<String, String> = pairs(uri.query().unwrap_or_default()).into_iter().collect();
        let place = place(uri.path());
        let is_true = |key: &str| query.get(key).is_some_and(|value| value == "1" || value == "true");
        let named = place.as_ref().is_some_and(|place| place.name.is_some());
        let verb = match *method {
            Method::GET if is_true("watch") && !named => "watch",
            Method::GET if place.is_some() && !named => "list",
            Method::GET => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if named => "delete",
            Method::DELETE => "deletecollection",
            _ => "",
        };
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let in_body = || {
            serde_json::from_slice::<serde_json::Value>(&body)
                .is_ok_and(|body| is_dry(&body) || is_dry(at(&body, "deleteOptions")))
        };
        let may_say_in_body =
            *method == Method::DELETE || place.as_ref().is_some_and(|place| place.subresource.as_deref() == Some("eviction"));
        Self {
            verb,
            path: uri.path().into(),
            line: uri.path_and_query().map_or_else(|| uri.path().into(), |line| line.as_str().into()),
            // A deletion with options in its body is read by those alone: a dry run asked for in the query would be none.
            dry_run: if *method == Method::DELETE && !body.is_empty() {
                in_body()
            } else {
                query.get("dryRun").is_some_and(|value| value == "All") || may_say_in_body && in_body()
            },
            metadata_only: header(header::ACCEPT).contains("as=PartialObjectMetadata"),
            content_type: header(header::CONTENT_TYPE),
            place,
            query,
            body,
        }
    }

    /// A parameter of the query; empty counts as absent, as in the real server.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        matches!(self.parameter(name), Some("1" | "true"))
    }

    /// A number in the query.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let parsed = |text: &str| {
            text.parse().map_err(|_| Refusal::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
        };
        self.parameter(name).map(parsed).transpose()
    }

    pub(crate) fn selector(&self, kind: &Kind) -> Result<Selector, Refusal> {
        Selector::parse(
            kind,
            self.parameter("labelSelector").unwrap_or_default(),
            self.parameter("fieldSelector").unwrap_or_default(),
        )
    }
}

fn is_dry(options: &serde_json::Value) -> bool {
    at(options, "dryRun").as_array().is_some_and(|values| values.iter().any(|value| value == "All"))
}

fn place(path: &str) -> Option<Place> {
    let mut parts = path.trim_matches('/').split('/').filter(|part| !part.is_empty()).map(decoded);
    let group = match parts.next()?.as_str() {
        "api" => String::new(),
        "apis" => parts.next()?,
        _ => return None,
    };
    let version = parts.next()?;
    let rest: Vec<String> = parts.collect();
    let (namespace, rest) = match rest.as_slice() {
        // `/namespaces/x/status` is about the namespace itself, `/namespaces/x/pods` is not.
        [first, namespace, third, ..] if first == "namespaces" && third != "status" && third != "finalize" => {
            (Some(namespace.clone()), rest.get(2..)?)
        }
        all => (None, all),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (plural, None, None),
        [plural, name] => (plural, Some(name.clone()), None),
        [plural, name, subresource] => (plural, Some(name.clone()), Some(subresource.clone())),
        _ => return None,
    };
    Some(Place { group, version, namespace, plural: plural.clone(), name, subresource })
}

/// A query string as pairs, decoded.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        part.split_once('=').map_or_else(|| (decoded(part), String::new()), |(key, value)| (decoded(key), decoded(value)))
    };
    query.split('&').filter(|part| !part.is_empty()).map(|part| pair(&part.replace('+', " "))).collect()
}

/// Percent-decoding; what is not valid stays as it is.
fn decoded(text: impl AsRef<str>) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_ref().as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok()).and_then(|two| u8::from_str_radix(two, 16).ok());
        if let (b'%', Some(value)) = (byte, hex) {
            out.push(value);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
