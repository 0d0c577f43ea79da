//! The shop: what a team would run. Namespace `shop` everywhere; Deployments, autoscalers and disruption budgets in each region; a Gateway and weighted
//! routes on the hub.
//!
//! Most of it is applied server-side by the field manager `shop-gitops`; the last two Deployments of a region and the last route are applied
//! client-side, as a person at a terminal does. The functions that write manifests are public: a test changes a weight or a size and applies again, as
//! the owner would.

use std::{fmt::Write as _, time::Duration};

use crate::{
    bed::Bed,
    cluster::Cluster,
    error::Result,
    wait::{http_get, until},
};

/// The namespace of all of it.
pub const NAMESPACE: &str = "shop";

/// The Gateway that all routes name as their parent, on the hub.
pub const GATEWAY: &str = "edge";

/// The field manager of what is applied server-side.
pub const FIELD_MANAGER: &str = "shop-gitops";

/// The routes, each for the path prefix of its name, such as `/cart`. They share the first Deployments' names.
pub const ROUTES: [&str; 4] = ["shop", "cart", "catalog", "checkout"];

/// The Deployments of each region. The first four have an autoscaler, the next two a disruption budget, the last two are applied client-side.
pub const DEPLOYMENTS: [&str; 12] =
    ["shop", "cart", "catalog", "checkout", "payments", "orders", "search", "reviews", "pricing", "shipping", "mail", "gifts"];

/// How many of [`DEPLOYMENTS`] have an autoscaler.
pub const AUTOSCALED: usize = 4;
const BUDGETED: usize = 2;
const CLIENT_SIDE: usize = 2;

/// How much of the shop there is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// The first so many of [`DEPLOYMENTS`].
    pub deployments: usize,
    /// The first so many of [`ROUTES`].
    pub routes: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { deployments: DEPLOYMENTS.len(), routes: ROUTES.len() }
    }
}

impl Size {
    /// Two Deployments (both with an autoscaler) and one route, for tests that need no more.
    #[must_use]
    pub fn small() -> Self {
        Self { deployments: 2, routes: 1 }
    }
}

/// Installs the shop and waits until every Deployment is available and, if the bed has an edge, every route answers 200 there.
pub async fn install(bed: &Bed, size: Size) -> Result<()> {
    tokio::try_join!(install_hub(bed, size), install_regions(bed, size))?;
    let Ok(edge) = bed.edge() else { return Ok(()) };
    for route in ROUTES.iter().take(size.routes) {
        let url = format!("http://{edge}/{route}");
        until(&format!("{url} answers 200"), Duration::from_secs(30), || async {
            match http_get(&url).await? {
                (200, _) => Ok(()),
                (status, body) => Err(format!("{status} {}", body.trim())),
            }
        })
        .await?;
    }
    Ok(())
}

async fn install_regions(bed: &Bed, size: Size) -> Result<()> {
    futures_util::future::try_join_all(bed.regions().iter().map(|region| install_region(region, size))).await.map(drop)
}

async fn install_region(region: &Cluster, size: Size) -> Result<()> {
    let names: Vec<&str> = DEPLOYMENTS.iter().take(size.deployments).copied().collect();
    let (mut server_side, mut client_side) = (namespace(), String::new());
    for (index, name) in names.iter().enumerate() {
        let target = if index + CLIENT_SIDE < DEPLOYMENTS.len() { &mut server_side } else { &mut client_side };
        target.push_str(&deployment(name, replicas(index)));
        if index < AUTOSCALED {
            target.push_str(&autoscaler(name, replicas(index), 40));
        } else if index < AUTOSCALED + BUDGETED {
            target.push_str(&disruption_budget(name));
        }
    }
    apply_server_side(region, &server_side).await?;
    if !client_side.is_empty() {
        region.kubectl(&["apply", "--filename", "-"], Some(&client_side)).await?;
    }
    until(&format!("{}: the shop is available", region.name()), Duration::from_mins(2), || async {
        let columns = "--output=jsonpath={range .items[*]}{.metadata.name}={.spec.replicas}/{.status.availableReplicas} {end}";
        let seen = region
            .kubectl(&["get", "deployments", "--namespace", NAMESPACE, columns], None)
            .await
            .map_err(|error| error.to_string())?;
        let waiting: Vec<&str> = seen.split_whitespace().filter(|one| !available(one)).collect();
        if waiting.is_empty() && seen.split_whitespace().count() >= names.len() {
            Ok(())
        } else {
            Err(format!("waiting for {}", waiting.join(", ")))
        }
    })
    .await
}

/// `NAME=WANTED/AVAILABLE`, with as many available as wanted.
fn available(seen: &str) -> bool {
    seen.split_once('=').and_then(|(_, counts)| counts.split_once('/')).is_some_and(|(wanted, available)| wanted == available)
}

async fn install_hub(bed: &Bed, size: Size) -> Result<()> {
    let mut server_side = namespace();
    // Without an edge nobody serves the Gateway, but the objects are the same.
    let port = bed.edge_port().unwrap_or(80);
    let _ = write!(
        server_side,
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata:\n  name: traefik\nspec:\n  \
         controllerName: traefik.io/gateway-controller\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: {GATEWAY}\n  \
         namespace: {NAMESPACE}\nspec:\n  gatewayClassName: traefik\n  listeners:\n  - name: web\n    port: {port}\n    protocol: HTTP\n"
    );
    let regions: Vec<&str> = bed.regions().iter().map(Cluster::name).collect();
    let weights = even(regions.len());
    let routes: Vec<&str> = ROUTES.iter().take(size.routes).copied().collect();
    let mut client_side = String::new();
    for name in &routes {
        for region in bed.regions() {
            server_side.push_str(&backend_service(name, region));
        }
        let all: Vec<(&str, u32)> = regions.iter().copied().zip(weights.iter().copied()).collect();
        let last = routes.len() > 1 && routes.last() == Some(name);
        if last { &mut client_side } else { &mut server_side }.push_str(&route(name, &all));
    }
    apply_server_side(bed.hub(), &server_side).await?;
    if !client_side.is_empty() {
        bed.hub().kubectl(&["apply", "--filename", "-"], Some(&client_side)).await?;
    }
    Ok(())
}

/// Applies a manifest as the shop's owner does: server-side, by [`FIELD_MANAGER`], without force.
pub async fn apply_server_side(cluster: &Cluster, manifest: &str) -> Result<()> {
    let apply = ["apply", "--server-side", "--validate=false", "--field-manager", FIELD_MANAGER, "--filename", "-"];
    cluster.kubectl(&apply, Some(manifest)).await.map(drop)
}

/// How many replicas the Deployment at this place of [`DEPLOYMENTS`] has: 2 or 3.
#[must_use]
pub fn replicas(index: usize) -> u32 {
    if index.is_multiple_of(2) { 3 } else { 2 }
}

/// Weights of `count` regions that add up to 100, the first ones getting what is left over: 34, 33, 33.
fn even(count: usize) -> Vec<u32> {
    let count = u32::try_from(count).unwrap_or(1).max(1);
    (0..count).map(|index| 100 / count + u32::from(index < 100 % count)).collect()
}

fn namespace() -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n")
}

/// The manifest of a Deployment of the shop: small requests, spread by the scheduler, with `replicas`.
#[must_use]
pub fn deployment(name: &str, replicas: u32) -> String {
    format!(
        "---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: {NAMESPACE}
  labels:
    app: {name}
spec:
  replicas: {replicas}
  selector:
    matchLabels:
      app: {name}
  template:
    metadata:
      labels:
        app: {name}
    spec:
      containers:
      - name: server
        image: shop.example/{name}:1
        resources:
          requests:
            cpu: 100m
            memory: 128Mi
"
    )
}

/// The manifest of the autoscaler of the Deployment of the same name, by CPU.
#[must_use]
pub fn autoscaler(name: &str, min: u32, max: u32) -> String {
    format!(
        "---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {name}
  namespace: {NAMESPACE}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {name}
  minReplicas: {min}
  maxReplicas: {max}
  metrics:
  - type: Resource
    resource:
      name: cpu
      target:
        type: Utilization
        averageUtilization: 70
"
    )
}

/// The manifest of a budget that lets one pod of the Deployment of the same name go at a time.
#[must_use]
pub fn disruption_budget(name: &str) -> String {
    format!(
        "---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {name}
  namespace: {NAMESPACE}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      app: {name}
"
    )
}

/// The manifest of a route: path prefix `/NAME`, and for each region the Service `NAME-REGION` with its weight.
#[must_use]
pub fn route(name: &str, weights: &[(&str, u32)]) -> String {
    let mut manifest = format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {name}
  namespace: {NAMESPACE}
spec:
  parentRefs:
  - name: {GATEWAY}
  rules:
  - matches:
    - path:
        type: PathPrefix
        value: /{name}
    backendRefs:
"
    );
    for (region, weight) in weights {
        let _ = write!(manifest, "    - name: {name}-{region}\n      port: 80\n      weight: {weight}\n");
    }
    manifest
}

/// The Service `ROUTE-REGION` on the hub and its one endpoint, the region's backend.
fn backend_service(route: &str, region: &Cluster) -> String {
    let (name, address, port) = (format!("{route}-{}", region.name()), region.address(), crate::backend::PORT);
    format!(
        "---
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: {NAMESPACE}
spec:
  ports:
  - name: http
    port: 80
    targetPort: {port}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}
  namespace: {NAMESPACE}
  labels:
    kubernetes.io/service-name: {name}
addressType: IPv4
endpoints:
- addresses: [{address}]
  conditions:
    ready: true
ports:
- name: http
  port: {port}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_weights_add_up_to_a_hundred() {
        assert_eq!(even(3), [34, 33, 33]);
        assert_eq!(even(1), [100]);
        assert_eq!(even(6), [17, 17, 17, 17, 16, 16]);
    }
}
