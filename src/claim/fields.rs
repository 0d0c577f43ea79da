use crate::terms::{Json, Object};
use serde::{Deserialize, Serialize};

/// The manager's name under which all our writes are recorded in `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "firedrill";

/// What our first write takes from another manager's entry in `metadata.managedFields`; it goes back with the claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Taken(Json);

/// What `after` (the answer to a dry run of our first write) lacks of what other managers own in `before`.
#[must_use]
pub fn taken(before: &Object, after: &Object) -> Vec<Taken> {
    let after = after.list("/metadata/managedFields");
    others(before)
        .filter_map(|entry| {
            let kept = after.iter().find(|other| same(entry, other)).and_then(|other| other.get("fieldsV1"));
            let lost = difference(entry.get("fieldsV1")?, kept)?;
            let mut entry = entry.clone();
            *entry.get_mut("fieldsV1")? = lost;
            Some(Taken(entry))
        })
        .collect()
}

/// The list to set so that our own entry is gone and `taken` is with its managers again; `None` where the server keeps none.
pub(super) fn given_back(seen: &Object, taken: &[Taken]) -> Option<Json> {
    seen.at("/metadata/managedFields")?;
    let mut entries: Vec<Json> = others(seen).cloned().collect();
    for Taken(entry) in taken {
        match entries.iter_mut().find(|other| same(entry, other)) {
            Some(there) => {
                if let (Some(fields), Some(more)) = (there.get_mut("fieldsV1"), entry.get("fieldsV1")) {
                    unite(fields, more);
                }
            }
            None => entries.push(entry.clone()),
        }
    }
    Some(Json::Array(entries))
}

fn others(object: &Object) -> impl Iterator<Item = &Json> {
    object
        .list("/metadata/managedFields")
        .iter()
        .filter(|entry| entry.get("manager").and_then(Json::as_str) != Some(FIELD_MANAGER))
}

/// Whether two entries are of the same manager: what the API server merges by.
fn same(one: &Json, two: &Json) -> bool {
    ["manager", "operation", "apiVersion", "subresource"].iter().all(|&key| one.get(key) == two.get(key))
}

/// The members of the set `fields` that `kept` lacks.
fn difference(fields: &Json, kept: Option<&Json>) -> Option<Json> {
    let Some(kept) = kept else { return Some(fields.clone()) };
    let lost: serde_json::Map<String, Json> = fields
        .as_object()?
        .iter()
        .filter_map(|(key, inner)| match kept.get(key) {
            None => Some((key.clone(), inner.clone())),
            Some(there) => difference(inner, Some(there)).map(|lost| (key.clone(), lost)),
        })
        .collect();
    (!lost.is_empty()).then_some(Json::Object(lost))
}

fn unite(fields: &mut Json, more: &Json) {
    if let (Json::Object(fields), Json::Object(more)) = (fields, more) {
        for (key, inner) in more {
            match fields.get_mut(key) {
                Some(there) => unite(there, inner),
                None => {
                    fields.insert(key.clone(), inner.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(entries: &Json) -> Object {
        Object::new(json!({"metadata": {"managedFields": entries}}))
    }

    #[test]
    fn what_a_write_takes_from_others_goes_back_to_them() {
        let gitops = json!({"manager": "argocd", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {"f:spec": {"f:a": {}, "f:b": {}}}});
        let lone = json!({"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "fieldsV1": {"f:spec": {"f:c": {}}}});
        let before = object(&json!([gitops, lone]));
        let ours =
            json!({"manager": "firedrill", "operation": "Update", "apiVersion": "v1", "fieldsV1": {"f:spec": {"f:a": {}}}});
        let mut less = gitops.clone();
        less["fieldsV1"] = json!({"f:spec": {"f:b": {}}});
        let after = object(&json!([less, ours]));

        let taken = taken(&before, &after);
        assert_eq!(taken.len(), 2, "one part of an entry, and one entry whole");
        assert_eq!(given_back(&after, &taken), Some(json!([gitops, lone])));
    }

    #[test]
    fn where_the_server_keeps_no_owners_none_are_set() {
        assert_eq!(given_back(&Object::new(json!({"metadata": {}})), &[]), None);
    }
}
