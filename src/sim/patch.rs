use serde_json::Value;

use super::json::at;
use super::refusal::Refusal;

/// The patched object. The two types that are one operation each; strategic merge needs Go's struct tags and apply the whole of managedFields, so both
/// are refused rather than approximated.
pub(crate) fn patched(object: &Value, content_type: &str, body: &[u8]) -> Result<Value, Refusal> {
    let mut next = object.clone();
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/json-patch+json" => {
            let patch: json_patch::Patch = parse(body)?;
            json_patch::patch(&mut next, &patch).map_err(|_| Refusal::patch_failed())?;
        }
        "application/merge-patch+json" => {
            let patch: Value = parse(body)?;
            if !patch.is_object() {
                return Err(Refusal::bad_request("a merge patch is an object"));
            }
            json_patch::merge(&mut next, &patch);
        }
        _ => return Err(Refusal::unsupported("application/json-patch+json, application/merge-patch+json")),
    }
    // A patch may put anything anywhere; an object without metadata is none, and the rules below rely on it.
    if at(&next, "metadata").is_object() { Ok(next) } else { Err(Refusal::patch_failed()) }
}

/// A body as what it should be.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("error decoding request body: {error}")))
}
