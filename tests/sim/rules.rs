use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod};
use kube::api::{
    DeleteParams, DynamicObject, EvictParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::core::{ApiResource, GroupVersionKind, PartialObjectMeta};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::{client, deployments, named, raw, refused, run, seconds, server, typed, web};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";

fn config(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": {"a": "1"}})
}

fn drills(server: &firedrill::sim::Server) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("firedrill.dev", "v1alpha1", "Drill");
    Api::all_with(client(server), &ApiResource::from_gvk_with_plural(&kind, "drills"))
}

fn drill(name: &str) -> DynamicObject {
    typed(json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "Drill", "metadata": {"name": name}, "spec": {"plan": "shop"}}))
}

#[test]
fn a_kind_that_is_not_served_is_the_plain_404_of_the_mux() {
    run(async {
        let server = server();
        for path in
            ["/apis/nothing.dev/v1/things", "/apis/apps/v1beta1/deployments", "/api/v1/namespaces/shop/nodes/a", "/nothing"]
        {
            let status = refused(raw(&server, "GET", path, "", Value::Null).await);
            assert_eq!(
                (status.code, status.message.as_str(), status.reason.as_str()),
                (404, "404 page not found", "Failed to parse error data")
            );
        }
        assert_eq!(client(&server).apiserver_version().await.unwrap().minor, "33");
    });
}

#[test]
fn an_absent_object_is_not_found_with_details() {
    run(async {
        let status = refused(deployments(&server()).get("web").await);
        assert_eq!(
            (status.code, status.reason.as_str(), status.message.as_str()),
            (404, "NotFound", "deployments.apps \"web\" not found")
        );
        let details = status.details.unwrap();
        assert_eq!((details.name.as_str(), details.group.as_str(), details.kind.as_str()), ("web", "apps", "deployments"));
    });
}

#[test]
fn a_created_object_has_uid_version_generation_and_a_time_of_whole_seconds() {
    run(async {
        let server = server();
        let made = deployments(&server).create(&PostParams::default(), &typed(web(2))).await.unwrap();
        assert_eq!(made.metadata.uid.unwrap().len(), 36);
        assert_eq!(made.metadata.generation, Some(1));
        assert_eq!(server.get("Deployment", "shop", "web").unwrap()["metadata"]["creationTimestamp"], "2026-11-23T08:00:00Z");
        assert!(made.metadata.resource_version.unwrap().parse::<u64>().unwrap() > 5_000_000);
    });
}

#[test]
fn versions_skip_and_two_servers_share_none() {
    run(async {
        let (one, two) = (server(), named("eu", 900_000_000));
        let mut seen = BTreeSet::new();
        for server in [&one, &two] {
            for index in 0..50 {
                let made = server.seed(config(&format!("c{index}"))).unwrap();
                assert!(seen.insert(made["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap()));
            }
        }
        let gaps = seen.iter().zip(seen.iter().skip(1)).filter(|(a, b)| **b - **a > 1).count();
        assert!(gaps > 50, "{gaps}");
        // A version of the other server is of the future here.
        let line = format!("/api/v1/pods?resourceVersion={}", two.with(|store| store.revision()));
        assert_eq!(refused(raw(&one, "GET", &line, "", Value::Null).await).code, 504);
    });
}

#[test]
fn creating_what_is_there_is_already_exists_and_needs_a_namespace() {
    run(async {
        let server = server();
        let api: Api<ConfigMap> = Api::namespaced(client(&server), "shop");
        api.create(&PostParams::default(), &typed(config("c"))).await.unwrap();
        let status = refused(api.create(&PostParams::default(), &typed(config("c"))).await);
        assert_eq!(
            (status.code, status.reason.as_str(), status.message.as_str()),
            (409, "AlreadyExists", "configmaps \"c\" already exists")
        );
        let nowhere: Api<ConfigMap> = Api::namespaced(client(&server), "nowhere");
        let status = refused(nowhere.create(&PostParams::default(), &typed(json!({"metadata": {"name": "c"}}))).await);
        assert_eq!((status.code, status.message.as_str()), (404, "namespaces \"nowhere\" not found"));
    });
}

#[test]
fn generate_name_makes_names_that_differ() {
    run(async {
        let server = server();
        let api: Api<ConfigMap> = Api::namespaced(client(&server), "shop");
        let mut names = BTreeSet::new();
        for _ in 0..20 {
            let made = api.create(&PostParams::default(), &typed(json!({"metadata": {"generateName": "copy-"}}))).await.unwrap();
            assert!(made.name_any().starts_with("copy-") && made.name_any().len() == 10);
            names.insert(made.name_any());
        }
        assert_eq!(names.len(), 20);
    });
}

#[test]
fn a_put_with_an_old_version_conflicts_and_without_one_wins() {
    run(async {
        let server = server();
        server.seed(config("c")).unwrap();
        let api: Api<ConfigMap> = Api::namespaced(client(&server), "shop");
        let old = api.get("c").await.unwrap();
        let mut new = old.clone();
        new.data.as_mut().unwrap().insert("a".into(), "2".into());
        let written = api.replace("c", &PostParams::default(), &new).await.unwrap();
        assert_ne!(written.resource_version(), old.resource_version());
        let status = refused(api.replace("c", &PostParams::default(), &new).await);
        let words = "Operation cannot be fulfilled on configmaps \"c\": the object has been modified; please apply your changes to the latest version and try again";
        assert_eq!((status.code, status.reason.as_str(), status.message.as_str()), (409, "Conflict", words));
        new.metadata.resource_version = None;
        new.data.as_mut().unwrap().insert("a".into(), "3".into());
        api.replace("c", &PostParams::default(), &new).await.unwrap();
        assert_eq!(refused(api.replace("d", &PostParams::default(), &typed(json!({"metadata": {"name": "d"}}))).await).code, 404);
    });
}

#[test]
fn a_json_patch_guarded_by_the_version_applies_once() {
    run(async {
        let server = server();
        let version = server.seed(web(2)).unwrap()["metadata"]["resourceVersion"].clone();
        let patch = json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
            {"op": "replace", "path": "/spec/replicas", "value": 5},
            {"op": "add", "path": "/metadata/annotations", "value": {"firedrill.dev/claim": "{}"}},
        ]);
        let done = raw(&server, "PATCH", WEB, JSON_PATCH, patch.clone()).await.unwrap();
        assert_eq!((&done["spec"]["replicas"], &done["metadata"]["generation"]), (&json!(5), &json!(2)));
        let status = refused(raw(&server, "PATCH", WEB, JSON_PATCH, patch).await);
        assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    });
}

#[test]
fn the_version_of_an_object_deleted_and_made_again_conflicts() {
    run(async {
        let server = server();
        let version = server.seed(web(2)).unwrap()["metadata"]["resourceVersion"].clone();
        server.delete("Deployment", "shop", "web").unwrap();
        server.seed(web(2)).unwrap();
        let patch = json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": version}, {"op": "replace", "path": "/spec/replicas", "value": 5}]);
        assert_eq!(refused(raw(&server, "PATCH", WEB, JSON_PATCH, patch).await).code, 409);
    });
}

#[test]
fn a_patch_of_nothing_moves_no_version() {
    run(async {
        let server = server();
        let version = server.seed(web(2)).unwrap()["metadata"]["resourceVersion"].clone();
        for patch in [
            json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": version}]),
            json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]),
            json!([{"op": "add", "path": "/metadata/annotations", "value": {}}]),
            json!([{"op": "add", "path": "/status", "value": {"replicas": 9}}]),
        ] {
            let same = raw(&server, "PATCH", WEB, JSON_PATCH, patch).await.unwrap();
            assert_eq!(same["metadata"]["resourceVersion"], version);
        }
        assert_eq!(server.get("Deployment", "shop", "web").unwrap()["metadata"]["resourceVersion"], version);
    });
}

#[test]
fn a_patch_that_cannot_be_applied_is_invalid_and_leaves_all_as_it_was() {
    run(async {
        let server = server();
        let before = server.seed(web(2)).unwrap();
        for patch in [
            json!([{"op": "replace", "path": "/spec/replicas", "value": 9}, {"op": "test", "path": "/spec/replicas", "value": 3}]),
            json!([{"op": "replace", "path": "/spec/replicas", "value": 9}, {"op": "replace", "path": "/spec/no/such", "value": 3}]),
            json!([{"op": "remove", "path": "/metadata/annotations"}]),
        ] {
            let status = refused(raw(&server, "PATCH", WEB, JSON_PATCH, patch).await);
            let words = "the server rejected our request due to an error in our request";
            assert_eq!((status.code, status.reason.as_str(), status.message.as_str()), (422, "Invalid", words));
        }
        assert_eq!(server.get("Deployment", "shop", "web").unwrap(), before);
    });
}

#[test]
fn apply_and_strategic_merge_are_refused() {
    run(async {
        let server = server();
        server.seed(web(2)).unwrap();
        let api = deployments(&server);
        let apply = refused(api.patch("web", &PatchParams::apply("x"), &Patch::Apply(web(3))).await);
        let strategic = refused(api.patch("web", &PatchParams::default(), &Patch::Strategic(json!({}))).await);
        assert_eq!((apply.code, apply.reason.as_str(), strategic.code), (415, "UnsupportedMediaType", 415));
    });
}

#[test]
fn a_merge_patch_merges_and_null_removes() {
    run(async {
        let server = server();
        server.seed(config("c")).unwrap();
        let api: Api<ConfigMap> = Api::namespaced(client(&server), "shop");
        let done = api.patch("c", &PatchParams::default(), &Patch::Merge(json!({"data": {"a": null, "b": "2"}}))).await.unwrap();
        assert_eq!(done.data.unwrap().into_iter().collect::<Vec<_>>(), [("b".to_owned(), "2".to_owned())]);
        let guarded = Patch::Merge(json!({"metadata": {"resourceVersion": "1"}, "data": {"a": "1"}}));
        assert_eq!(refused(api.patch("c", &PatchParams::default(), &guarded).await).code, 409);
    });
}

#[test]
fn a_dry_run_answers_and_stores_nothing() {
    run(async {
        let server = server();
        let before = server.seed(web(2)).unwrap();
        let api = deployments(&server);
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        let shown = api.patch("web", &dry, &Patch::Merge(json!({"spec": {"replicas": 7}}))).await.unwrap();
        assert_eq!((shown.spec.unwrap().replicas, shown.metadata.generation), (Some(7), Some(2)));
        let stale = Patch::Merge(json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 7}}));
        assert_eq!(refused(api.patch("web", &dry, &stale).await).code, 409);
        let create = PostParams { dry_run: true, ..PostParams::default() };
        let mut other = web(1);
        other["metadata"]["name"] = json!("other");
        assert_eq!(api.create(&create, &typed(other)).await.unwrap().resource_version(), None);
        api.delete("web", &DeleteParams::default().dry_run()).await.unwrap();
        assert_eq!(server.list("Deployment", ""), [before]);
        assert!(server.log().iter().all(|entry| entry.dry_run));
    });
}

#[test]
fn generation_counts_the_spec_and_not_metadata_or_status() {
    run(async {
        let server = server();
        let api = drills(&server);
        let made = api.create(&PostParams::default(), &drill("d")).await.unwrap();
        let patch = async |line: &str, body: Value| {
            raw(&server, "PATCH", line, MERGE, body).await.unwrap()["metadata"]["generation"].clone()
        };
        let path = "/apis/firedrill.dev/v1alpha1/drills/d";
        assert_eq!(made.metadata.generation, Some(1));
        assert_eq!(patch(path, json!({"metadata": {"labels": {"a": "b"}}})).await, 1);
        assert_eq!(patch(&format!("{path}/status"), json!({"status": {"phase": "Done"}})).await, 1);
        assert_eq!(patch(path, json!({"spec": {"control": "Pause"}})).await, 2);
        // Kinds of the core have none.
        assert!(server.seed(config("c")).unwrap()["metadata"].get("generation").is_none());
    });
}

#[test]
fn the_main_resource_ignores_status_and_the_status_resource_all_else() {
    run(async {
        let server = server();
        let api = drills(&server);
        let mut made = drill("d");
        made.data["status"] = json!({"phase": "Forged"});
        let made = api.create(&PostParams::default(), &made).await.unwrap();
        assert!(made.data.get("status").is_none());
        let path = "/apis/firedrill.dev/v1alpha1/drills/d";
        let both = json!({"spec": {"plan": "x"}, "status": {"phase": "Pending"}, "metadata": {"labels": {"a": "b"}}});
        raw(&server, "PATCH", &format!("{path}/status"), MERGE, both.clone()).await.unwrap();
        let now = server.get("Drill", "", "d").unwrap();
        assert_eq!(
            (&now["spec"]["plan"], &now["status"]["phase"], &now["metadata"]["labels"]),
            (&json!("shop"), &json!("Pending"), &Value::Null)
        );
        raw(&server, "PATCH", path, MERGE, json!({"spec": {"plan": "y"}, "status": {"phase": "Forged"}})).await.unwrap();
        let now = server.get("Drill", "", "d").unwrap();
        assert_eq!((&now["spec"]["plan"], &now["status"]["phase"]), (&json!("y"), &json!("Pending")));
    });
}

#[test]
fn a_status_put_whole_drops_what_is_absent_and_is_guarded() {
    run(async {
        let server = server();
        drills(&server).create(&PostParams::default(), &drill("d")).await.unwrap();
        let path = "/apis/firedrill.dev/v1alpha1/drills/d/status";
        let first =
            raw(&server, "PATCH", path, MERGE, json!({"status": {"phase": "Pending", "hold": {"reason": "x"}}})).await.unwrap();
        let whole = json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": first["metadata"]["resourceVersion"]},
            {"op": "add", "path": "/status", "value": {"phase": "Done"}},
        ]);
        let second = raw(&server, "PATCH", path, JSON_PATCH, whole.clone()).await.unwrap();
        assert_eq!(second["status"], json!({"phase": "Done"}));
        assert_eq!(refused(raw(&server, "PATCH", path, JSON_PATCH, whole).await).code, 409);
    });
}

#[test]
fn managed_fields_are_stored_as_given_and_kept_by_a_put_without_them() {
    run(async {
        let server = server();
        let mut object = config("c");
        object["metadata"]["managedFields"] = json!([{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:data": {}}}]);
        server.seed(object).unwrap();
        let api: Api<ConfigMap> = Api::namespaced(client(&server), "shop");
        let mut put = api.get("c").await.unwrap();
        put.metadata.managed_fields = None;
        put.data = None;
        assert_eq!(api.replace("c", &PostParams::default(), &put).await.unwrap().metadata.managed_fields.unwrap().len(), 1);
        let patch =
            json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{"manager": "other", "operation": "Update"}]}]);
        let done = raw(&server, "PATCH", "/api/v1/namespaces/shop/configmaps/c", JSON_PATCH, patch).await.unwrap();
        assert_eq!(done["metadata"]["managedFields"], json!([{"manager": "other", "operation": "Update"}]));
    });
}

#[test]
fn the_servers_fields_of_metadata_cannot_be_written() {
    run(async {
        let server = server();
        let before = server.seed(web(2)).unwrap();
        let meta =
            json!({"creationTimestamp": "2000-01-01T00:00:00Z", "generation": 99, "deletionTimestamp": "2000-01-01T00:00:00Z"});
        let after = raw(&server, "PATCH", WEB, MERGE, json!({"metadata": meta})).await.unwrap();
        assert_eq!(after, before);
        let status = refused(raw(&server, "PATCH", WEB, MERGE, json!({"metadata": {"uid": "x"}})).await);
        assert_eq!(status.code, 409);
    });
}

#[test]
fn scale_reads_and_writes_the_replicas() {
    run(async {
        let server = server();
        server.seed(web(2)).unwrap();
        let api = deployments(&server);
        let scale = api.get_scale("web").await.unwrap();
        assert_eq!((scale.spec.unwrap().replicas, scale.status.unwrap().selector.as_deref()), (Some(2), Some("app=web")));
        let scaled =
            api.patch_scale("web", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 0}}))).await.unwrap();
        assert_eq!(scaled.spec.unwrap().replicas.unwrap_or(0), 0);
        assert_eq!(server.get("Deployment", "shop", "web").unwrap()["metadata"]["generation"], 2);
        let stale = Patch::Merge(json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 3}}));
        assert_eq!(refused(api.patch_scale("web", &PatchParams::default(), &stale).await).code, 409);
    });
}

#[test]
fn an_eviction_honours_its_preconditions_and_deletes_the_pod() {
    run(async {
        let server = server();
        let pod =
            server.seed(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}})).unwrap();
        let path = "/api/v1/namespaces/shop/pods/p/eviction";
        let eviction = |uid: &Value| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": {"preconditions": {"uid": uid}}});
        let status = refused(raw(&server, "POST", path, "application/json", eviction(&json!("other"))).await);
        assert!(status.code == 409 && status.message.contains("does not match the UID in record"), "{status:?}");
        raw(&server, "POST", path, "application/json", eviction(&pod["metadata"]["uid"])).await.unwrap();
        let api: Api<Pod> = Api::namespaced(client(&server), "shop");
        assert_eq!(refused(api.evict("p", &EvictParams::default()).await).code, 404);
    });
}

#[test]
fn a_deletion_with_another_uid_or_version_conflicts() {
    run(async {
        let server = server();
        let object = server.seed(config("c")).unwrap();
        let api: Api<ConfigMap> = Api::namespaced(client(&server), "shop");
        let guarded = |uid: Option<&str>, version: Option<&str>| DeleteParams {
            preconditions: Some(Preconditions { uid: uid.map(str::to_owned), resource_version: version.map(str::to_owned) }),
            ..DeleteParams::default()
        };
        assert_eq!(refused(api.delete("c", &guarded(Some("x"), None)).await).code, 409);
        assert_eq!(refused(api.delete("c", &guarded(None, Some("1"))).await).code, 409);
        let meta = &object["metadata"];
        let gone = api.delete("c", &guarded(meta["uid"].as_str(), meta["resourceVersion"].as_str())).await.unwrap();
        assert_eq!(gone.right().unwrap().details.unwrap().uid, meta["uid"].as_str().unwrap());
        assert!(server.get("ConfigMap", "shop", "c").is_none());
    });
}

#[test]
fn a_finalizer_holds_an_object_until_it_is_taken_off() {
    run(async {
        let server = server();
        let api = drills(&server);
        let mut object = drill("d");
        object.finalizers_mut().push("firedrill.dev/restore".into());
        api.create(&PostParams::default(), &object).await.unwrap();
        seconds(5).await;
        let going = api.delete("d", &DeleteParams::default()).await.unwrap().left().unwrap();
        let since = going.metadata.deletion_timestamp.clone().unwrap();
        let again = api.delete("d", &DeleteParams::default()).await.unwrap().left().unwrap();
        assert_eq!(
            (again.metadata.deletion_timestamp, again.metadata.resource_version),
            (Some(since), going.metadata.resource_version)
        );
        let path = "/apis/firedrill.dev/v1alpha1/drills/d";
        let more = json!({"metadata": {"finalizers": ["firedrill.dev/restore", "another/one"]}});
        assert_eq!(refused(raw(&server, "PATCH", path, MERGE, more).await).code, 422);
        raw(&server, "PATCH", path, MERGE, json!({"metadata": {"finalizers": []}})).await.unwrap();
        assert!(server.get("Drill", "", "d").is_none());
    });
}

#[test]
fn a_namespace_takes_its_content_along_and_waits_for_finalizers() {
    run(async {
        let server = server();
        server.seed(config("plain")).unwrap();
        let mut held = config("held");
        held["metadata"]["finalizers"] = json!(["a/b"]);
        server.seed(held).unwrap();
        let api: Api<Namespace> = Api::all(client(&server));
        let going = api.delete("shop", &DeleteParams::default()).await.unwrap().left().unwrap();
        assert_eq!(going.status.unwrap().phase.as_deref(), Some("Terminating"));
        assert_eq!(server.list("ConfigMap", "shop").len(), 1);
        let maps: Api<ConfigMap> = Api::namespaced(client(&server), "shop");
        let status = refused(maps.create(&PostParams::default(), &typed(config("new"))).await);
        assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
        server.edit("ConfigMap", "shop", "held", |object| object["metadata"]["finalizers"] = json!([])).unwrap();
        assert!(server.get("Namespace", "", "shop").is_none());
    });
}

#[test]
fn dependents_go_with_their_owner_unless_orphaned_or_owned_twice() {
    run(async {
        let server = server();
        let owned = |name: &str, owners: &[&Value]| {
            let mut object = config(name);
            let references = owners.iter().map(|owner| {
                json!({"apiVersion": "v1", "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]})
            });
            object["metadata"]["ownerReferences"] = references.collect();
            server.seed(object).unwrap()
        };
        let (one, two) = (server.seed(config("one")).unwrap(), server.seed(config("two")).unwrap());
        let child = owned("child", &[&one]);
        owned("grandchild", &[&child]);
        owned("shared", &[&one, &two]);
        let api: Api<ConfigMap> = Api::namespaced(client(&server), "shop");
        api.delete("one", &DeleteParams::default()).await.unwrap();
        let names = || {
            server
                .list("ConfigMap", "shop")
                .iter()
                .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(), ["shared", "two"]);
        let orphan = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
        api.delete("two", &orphan).await.unwrap();
        assert_eq!(names(), ["shared"]);
    });
}

#[test]
fn an_immutable_config_map_refuses_other_data() {
    run(async {
        let server = server();
        let mut object = config("c");
        object["immutable"] = json!(true);
        server.seed(object).unwrap();
        let path = "/api/v1/namespaces/shop/configmaps/c";
        for change in [json!({"data": {"a": "2"}}), json!({"immutable": null})] {
            let status = refused(raw(&server, "PATCH", path, MERGE, change).await);
            assert!(status.code == 422 && status.message.contains("field is immutable when `immutable` is set"), "{status:?}");
        }
        raw(&server, "PATCH", path, MERGE, json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    });
}

#[test]
fn annotations_beyond_262144_bytes_and_impossible_labels_are_invalid() {
    run(async {
        let server = server();
        server.seed(config("c")).unwrap();
        let path = "/api/v1/namespaces/shop/configmaps/c";
        let annotate = |length: usize| json!({"metadata": {"annotations": {"k": "x".repeat(length)}}});
        raw(&server, "PATCH", path, MERGE, annotate(262_143)).await.unwrap();
        let status = refused(raw(&server, "PATCH", path, MERGE, annotate(262_144)).await);
        let words = "ConfigMap \"c\" is invalid: metadata.annotations: Too long: may not be more than 262144 bytes";
        assert_eq!((status.code, status.message.as_str()), (422, words));
        let label = json!({"metadata": {"labels": {"k": "x".repeat(64)}}});
        assert_eq!(refused(raw(&server, "PATCH", path, MERGE, label).await).code, 422);
    });
}

#[test]
fn pages_of_a_list_are_of_one_moment() {
    run(async {
        let server = server();
        for index in 0..7 {
            server.seed(config(&format!("c{index}"))).unwrap();
        }
        let api: Api<ConfigMap> = Api::namespaced(client(&server), "shop");
        let first = api.list(&ListParams::default().limit(3)).await.unwrap();
        assert_eq!(first.metadata.remaining_item_count, Some(4));
        server.delete("ConfigMap", "shop", "c5").unwrap();
        server.seed(config("c4x")).unwrap();
        let mut names: Vec<String> = first.items.iter().map(ResourceExt::name_any).collect();
        let mut token = first.metadata.continue_.clone();
        while let Some(next) = token.filter(|token| !token.is_empty()) {
            let page = api.list(&ListParams::default().limit(3).continue_token(&next)).await.unwrap();
            assert_eq!(page.metadata.resource_version, first.metadata.resource_version);
            names.extend(page.items.iter().map(ResourceExt::name_any));
            token = page.metadata.continue_;
        }
        assert_eq!(names, ["c0", "c1", "c2", "c3", "c4", "c5", "c6"]);
        server.compact();
        let status = refused(api.list(&ListParams::default().limit(3).continue_token(&first.metadata.continue_.unwrap())).await);
        assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    });
}

#[test]
fn selectors_choose_by_labels_and_fields() {
    run(async {
        let server = server();
        for (name, label, node) in [("a", Some("x"), "n1"), ("b", Some("y"), "n2"), ("c", None, "n1")] {
            let labels = label.map(|label| json!({"tier": label, "firedrill.dev/claimed": "yes"}));
            let metadata = json!({"name": name, "namespace": "shop", "labels": labels});
            server.seed(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": node}})).unwrap();
        }
        let api: Api<Pod> = Api::all(client(&server));
        let list =
            async |params: ListParams| api.list(&params).await.unwrap().iter().map(ResourceExt::name_any).collect::<String>();
        let labels = |text: &str| ListParams::default().labels(text);
        let fields = |text: &str| ListParams::default().fields(text);
        assert_eq!(list(labels("tier=x")).await, "a");
        assert_eq!(list(labels("tier!=x")).await, "bc");
        assert_eq!(list(labels("tier in (x, y),tier notin (y)")).await, "a");
        assert_eq!(list(labels("tier notin (x)")).await, "bc");
        assert_eq!(list(labels("firedrill.dev/claimed")).await, "ab");
        assert_eq!(list(labels("!tier")).await, "c");
        assert_eq!(list(fields("spec.nodeName=n1")).await, "ac");
        assert_eq!(list(fields("metadata.name=b,metadata.namespace=shop")).await, "b");
        assert_eq!(list(fields("spec.nodeName=n1").labels("tier")).await, "a");
        assert_eq!(refused(api.list(&fields("status.phase=Running")).await).code, 400);
    });
}

#[test]
fn list_items_carry_their_kind_only_if_it_is_a_custom_one() {
    run(async {
        let server = server();
        server.seed(config("c")).unwrap();
        drills(&server).create(&PostParams::default(), &drill("d")).await.unwrap();
        let maps = raw(&server, "GET", "/api/v1/configmaps", "", Value::Null).await.unwrap();
        let drills = raw(&server, "GET", "/apis/firedrill.dev/v1alpha1/drills", "", Value::Null).await.unwrap();
        assert_eq!((&maps["kind"], maps["items"][0].get("kind")), (&json!("ConfigMapList"), None));
        assert_eq!((&drills["kind"], &drills["items"][0]["kind"]), (&json!("DrillList"), &json!("Drill")));
    });
}

#[test]
fn metadata_alone_can_be_asked_for() {
    run(async {
        let server = server();
        server.seed(web(2)).unwrap();
        let api = deployments(&server);
        let list = api.list_metadata(&ListParams::default()).await.unwrap();
        let one: PartialObjectMeta<Deployment> = api.get_metadata("web").await.unwrap();
        assert_eq!((list.items.len(), one.name_any().as_str(), one.labels()["app"].as_str()), (1, "web", "web"));
    });
}

#[test]
fn a_node_may_bring_its_status_and_a_deployment_may_not() {
    run(async {
        let server = server();
        let nodes: Api<Node> = Api::all(client(&server));
        let made = nodes
            .create(&PostParams::default(), &typed(json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "4"}}})))
            .await
            .unwrap();
        assert!(made.status.unwrap().allocatable.is_some());
        let mut web = web(1);
        web["status"] = json!({"readyReplicas": 1});
        assert!(deployments(&server).create(&PostParams::default(), &typed(web)).await.unwrap().status.is_none());
    });
}

#[test]
fn what_is_not_served_here_is_refused() {
    run(async {
        let server = server();
        server.seed(web(1)).unwrap();
        for (method, line, code) in [
            ("POST", "/api/v1/pods", 405),
            ("PUT", "/api/v1/namespaces/shop/pods", 405),
            ("POST", WEB, 405),
            ("GET", "/apis/apps/v1/namespaces/shop/deployments/web/rollback", 404),
            ("GET", "/api/v1/pods?watch=1&sendInitialEvents=true", 422),
            ("GET", "/api/v1/pods?limit=x", 400),
        ] {
            assert_eq!(refused(raw(&server, method, line, "application/json", Value::Null).await).code, code, "{method} {line}");
        }
    });
}
