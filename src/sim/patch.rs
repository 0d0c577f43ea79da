use json_patch::{AddOperation, PatchOperation, ReplaceOperation};
use serde_json::Value;

use super::json::at;
use super::refusal::Refusal;

/// The patched object. The two types that are one operation each; strategic merge needs Go's struct tags and apply the whole of managedFields, so both
/// are refused rather than approximated.
pub(crate) fn patched(object: &Value, content_type: &str, body: &[u8], is_custom: bool) -> Result<Value, Refusal> {
    let mut next = object.clone();
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/json-patch+json" => {
            let what = "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp";
            let operations: Value = parse(body)?;
            if !operations.is_array() {
                return Err(Refusal::bad_request(what));
            }
            let patch: json_patch::Patch = parse(body)?;
            for operation in patch.0 {
                let operation = as_applied(&next, operation);
                json_patch::patch(&mut next, &[operation]).map_err(|_| Refusal::patch_failed())?;
            }
        }
        "application/merge-patch+json" => {
            let patch: Value = parse(body)?;
            if !patch.is_object() {
                return Err(Refusal::bad_request(
                    "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
                ));
            }
            json_patch::merge(&mut next, &patch);
        }
        _ if is_custom => {
            return Err(Refusal::unsupported(
                "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        _ => return Err(Refusal::unsupported_type()),
    }
    // A patch may put anything anywhere; an object without metadata is none, and the rules below rely on it.
    if at(&next, "metadata").is_object() { Ok(next) } else { Err(Refusal::patch_failed()) }
}

/// The real server replaces a member that is not there, if only what would hold it is: no guard that it exists.
fn as_applied(object: &Value, operation: PatchOperation) -> PatchOperation {
    match operation {
        PatchOperation::Replace(ReplaceOperation { path, value })
            if path.resolve(object).is_err()
                && path.parent().is_some_and(|parent| parent.resolve(object).is_ok_and(Value::is_object)) =>
        {
            PatchOperation::Add(AddOperation { path, value })
        }
        other => other,
    }
}

/// A body as what it should be.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("error decoding request body: {error}")))
}
