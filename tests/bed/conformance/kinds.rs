//! The kinds that are compared, and a fully defaulted, valid object of each.

use super::player::{ask, bare};
use kube::Client;
use serde_json::{Value, json};

#[derive(Clone, Copy)]
pub struct Known {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
    pub status: bool,
    pub scale: bool,
    /// A field that may change, and values for it.
    pub field: &'static str,
    pub values: fn(u64) -> Value,
    /// A field of the status, where it has one.
    pub status_field: &'static str,
}

const fn known(
    api: (&'static str, &'static str),
    kind: (&'static str, &'static str),
    namespaced: bool,
    field: (&'static str, fn(u64) -> Value),
) -> Known {
    Known {
        group: api.0,
        version: api.1,
        kind: kind.0,
        plural: kind.1,
        namespaced,
        status: false,
        scale: false,
        field: field.0,
        values: field.1,
        status_field: "",
    }
}

const fn with_status(known: Known, field: &'static str) -> Known {
    Known { status: true, status_field: field, ..known }
}

/// Every kind that firedrill writes, and what the checks of this server's rules need besides.
pub const KINDS: [Known; 12] = [
    known(("", "v1"), ("ConfigMap", "configmaps"), true, ("/data/key", |n| json!(format!("value-{n}")))),
    known(("", "v1"), ("Secret", "secrets"), true, ("/data/key", |n| json!(if n % 2 == 0 { "YQ==" } else { "Yg==" }))),
    known(("coordination.k8s.io", "v1"), ("Lease", "leases"), true, ("/spec/leaseDurationSeconds", |n| json!(n + 10))),
    Known {
        scale: true,
        ..with_status(
            known(("apps", "v1"), ("Deployment", "deployments"), true, ("/spec/replicas", |n| json!(n))),
            "/status/observedGeneration",
        )
    },
    Known {
        scale: true,
        ..with_status(
            known(("apps", "v1"), ("StatefulSet", "statefulsets"), true, ("/spec/replicas", |n| json!(n))),
            "/status/observedGeneration",
        )
    },
    with_status(
        known(("batch", "v1"), ("CronJob", "cronjobs"), true, ("/spec/suspend", |n| json!(n % 2 == 0))),
        "/status/lastScheduleTime",
    ),
    with_status(
        known(
            ("autoscaling", "v2"),
            ("HorizontalPodAutoscaler", "horizontalpodautoscalers"),
            true,
            ("/spec/minReplicas", |n| json!(n % 5 + 1)),
        ),
        "/status/observedGeneration",
    ),
    with_status(
        known(
            ("policy", "v1"),
            ("PodDisruptionBudget", "poddisruptionbudgets"),
            true,
            ("/spec/maxUnavailable", |n| json!(n % 4)),
        ),
        "/status/observedGeneration",
    ),
    with_status(
        known(
            ("gateway.networking.k8s.io", "v1"),
            ("HTTPRoute", "httproutes"),
            true,
            ("/spec/rules/0/backendRefs/0/weight", |n| json!(n % 100)),
        ),
        "/status/parents",
    ),
    with_status(
        known(
            ("firedrill.dev", "v1alpha1"),
            ("EvacuationPlan", "evacuationplans"),
            false,
            ("/spec/soak", |n| json!(format!("{}s", n + 1))),
        ),
        "",
    ),
    with_status(
        known(
            ("firedrill.dev", "v1alpha1"),
            ("SingletonWorkload", "singletonworkloads"),
            true,
            ("/spec/selfFencing", |n| json!(n % 2 == 0)),
        ),
        "",
    ),
    with_status(
        known(
            ("firedrill.dev", "v1alpha1"),
            ("Region", "regions"),
            false,
            ("/spec/cluster/kubeconfigSecret/key", |n| json!(format!("key-{n}"))),
        ),
        "",
    ),
];

impl Known {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The path of its objects in a namespace.
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        let place = if self.namespaced { format!("/namespaces/{namespace}") } else { String::new() };
        format!("{root}/{}{place}/{}", self.version, self.plural)
    }
}

/// An object without name, as the real server has it when every default is filled in.
pub type Template = Value;

/// Lets the real server fill in every default, without storing anything.
pub async fn templates(real: &Client, namespace: &str) -> Vec<Template> {
    let mut all = Vec::new();
    for (known, body) in KINDS.iter().zip(bodies()) {
        let mut body = body;
        body["apiVersion"] = json!(known.api_version());
        body["kind"] = json!(known.kind);
        body["metadata"] = json!({"name": "template"});
        let (code, answer) = ask(real, "POST", &format!("{}?dryRun=All", known.path(namespace)), "", &body).await;
        assert_eq!(code, 201, "{}: {answer:#}", known.kind);
        let mut template = bare(&answer);
        template["metadata"] = json!({});
        template.as_object_mut().unwrap().remove("status");
        all.push(template);
    }
    all
}

fn bodies() -> Vec<Value> {
    let pods = json!({"metadata": {"labels": {"app": "one"}}, "spec": {"containers": [{"name": "one", "image": "one:1"}]}});
    let mut job = pods.clone();
    job["spec"]["restartPolicy"] = json!("Never");
    let selector = json!({"matchLabels": {"app": "one"}});
    vec![
        json!({"data": {"key": "value"}}),
        json!({"data": {"key": "dmFsdWU="}}),
        json!({"spec": {"leaseDurationSeconds": 15, "holderIdentity": "one"}}),
        json!({"spec": {"replicas": 2, "selector": selector, "template": pods}}),
        json!({"spec": {"replicas": 2, "selector": selector, "template": pods, "serviceName": "one"}}),
        json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": job}}}}),
        json!({"spec": {
            "minReplicas": 2, "maxReplicas": 9,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "one"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}],
        }}),
        json!({"spec": {"maxUnavailable": 1, "selector": selector}}),
        json!({"spec": {"rules": [{"backendRefs": [{"name": "one", "port": 80, "weight": 50}, {"name": "two", "port": 80, "weight": 50}]}]}}),
        json!({"spec": {"regions": ["one", "two"], "namespaces": ["shop"], "soak": "1m"}}),
        json!({"spec": {"workload": {"kind": "CronJob", "name": "one"}, "regions": ["one", "two"], "enforcement": "Report"}}),
        json!({"spec": {"cluster": {"kubeconfigSecret": {"name": "one"}}}}),
    ]
}
