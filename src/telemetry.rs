//! Metrics. Gauges are a pure function of the objects, so a restart loses nothing; histograms are observed once per drill.

use crate::api::{Drill, DrillStatus, Phase, Region, Running, SingletonWorkload, TrafficRoute, Verdict};
use crate::cluster::{Category, Observation};
use crate::terms::{Kind, Timestamp};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

type Labels = Vec<(String, String)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// All metrics of one instance.
pub struct Telemetry {
    registry: Mutex<Registry>,
    time_to_healthy: Histograms,
    phases: Histograms,
    drills: Family<Labels, Counter>,
    writes: Family<Labels, Counter>,
    calls: Histograms,
    activations: Histograms,
    errors: Family<Labels, Counter>,
    leader: Gauge,
    phase: Family<Labels, Gauge>,
    weight: Family<Labels, Gauge<f64, AtomicU64>>,
    proven: Family<Labels, Gauge<f64, AtomicU64>>,
    findings: Family<Labels, Gauge>,
    share: Family<Labels, Gauge<f64, AtomicU64>>,
    holders: Family<Labels, Gauge>,
    epoch: Family<Labels, Gauge>,
    claims: Family<Labels, Gauge>,
    debts: Family<Labels, Gauge>,
}

fn minutes() -> Histogram {
    Histogram::new([5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0])
}

fn moments() -> Histogram {
    Histogram::new([0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0])
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Telemetry {
    /// No metric observed yet.
    #[must_use]
    pub fn new() -> Self {
        let all = Self {
            registry: Mutex::default(),
            time_to_healthy: Family::new_with_constructor(minutes as fn() -> Histogram),
            phases: Family::new_with_constructor(minutes as fn() -> Histogram),
            drills: Family::default(),
            writes: Family::default(),
            calls: Family::new_with_constructor(moments as fn() -> Histogram),
            activations: Family::new_with_constructor(moments as fn() -> Histogram),
            errors: Family::default(),
            leader: Gauge::default(),
            phase: Family::default(),
            weight: Family::default(),
            proven: Family::default(),
            findings: Family::default(),
            share: Family::default(),
            holders: Family::default(),
            epoch: Family::default(),
            claims: Family::default(),
            debts: Family::default(),
        };
        let mut registry = Registry::with_prefix("firedrill");
        let drill = "(plan, region, scenario, mode)";
        registry.register(
            "time_to_healthy_seconds",
            help("From a drill's start until users were healthy without the region; once per drill that got there", drill),
            all.time_to_healthy.clone(),
        );
        registry.register(
            "phase_duration_seconds",
            help("How long each phase of a drill took; once per drill", "(plan, region, scenario, mode, phase)"),
            all.phases.clone(),
        );
        registry.register(
            "drills",
            help("Drills that ended since this instance started", "(plan, region, scenario, mode, verdict)"),
            all.drills.clone(),
        );
        registry.register(
            "writes",
            help("Writes to objects that are not firedrill's and to its contracts and locks", "(kind, outcome)"),
            all.writes.clone(),
        );
        registry.register(
            "api_request_duration_seconds",
            help("Calls to API servers but watches; each has a time-out of at most 5 s", "(verb, resource, outcome)"),
            all.calls.clone(),
        );
        registry.register(
            "activation_duration_seconds",
            help("One look at one object, with what followed from it", "(kind)"),
            all.activations.clone(),
        );
        registry.register(
            "activation_errors",
            help("Looks that failed; each is tried again", "(kind, category)"),
            all.errors.clone(),
        );
        registry.register("leader", "1 while this instance leads, else 0", all.leader.clone());
        registry.register(
            "drill_phase",
            help("1 for the phase in which a drill is", "(plan, region, scenario, mode, drill, phase)"),
            all.phase.clone(),
        );
        registry.register(
            "traffic_weight_ratio",
            help("Each region's share of a route by its weights, 0 to 1", "(namespace, route, region)"),
            all.weight.clone(),
        );
        registry.register(
            "drill_moved_ratio",
            help(
                "How much of the leaving region's share an acting drill has moved, 0 to 1",
                "(plan, region, scenario, mode, drill)",
            ),
            all.share.clone(),
        );
        registry.register(
            "last_proven_timestamp_seconds",
            help("When a drill was last Passed, in seconds since 1970", drill),
            all.proven.clone(),
        );
        registry.register(
            "findings",
            help("Findings of a drill's checks", "(plan, region, scenario, mode, drill, check, severity)"),
            all.findings.clone(),
        );
        all.register_singletons(&mut registry);
        Self { registry: Mutex::new(registry), ..all }
    }

    fn register_singletons(&self, registry: &mut Registry) {
        let all = self;
        registry.register(
            "singleton_holders",
            help(
                "How many regions run a singleton, as last seen: 1, while it is handed over 0; 2 is an alarm. A region that cannot be seen does not count",
                "(namespace, singleton)",
            ),
            all.holders.clone(),
        );
        registry.register(
            "singleton_epoch",
            help("A singleton's epoch: rises with every hand-over, never falls", "(namespace, singleton)"),
            all.epoch.clone(),
        );
        registry.register(
            "claims",
            help("Objects in a region that have a claim of a drill or a singleton, as last counted", "(region)"),
            all.claims.clone(),
        );
        registry.register(
            "drill_debts",
            help("What a drill that is over could not put back yet", "(plan, region, scenario, mode, drill)"),
            all.debts.clone(),
        );
    }

    /// Counts one call to an API server.
    pub fn call(&self, call: &Observation) {
        let labels = labels([("verb", &call.verb), ("resource", &call.resource), ("outcome", &call.outcome)]);
        self.calls.get_or_create(&labels).observe(call.seconds);
    }

    /// Counts one write to an object that is not ours, or to an own one beside statuses.
    pub fn write(&self, kind: Kind, failed: Option<Category>) {
        let outcome = failed.map_or_else(|| "ok".to_owned(), |category| format!("{category:?}"));
        self.writes.get_or_create(&labels([("kind", &kind.to_string()), ("outcome", &outcome)])).inc();
    }

    /// Counts one activation.
    pub fn activation(&self, kind: Kind, seconds: f64, failed: Option<String>) {
        let kind = kind.to_string();
        self.activations.get_or_create(&labels([("kind", &kind)])).observe(seconds);
        if let Some(category) = failed {
            self.errors.get_or_create(&labels([("kind", &kind), ("category", &category)])).inc();
        }
    }

    /// Observes a drill that has just ended. Check runs are in none of the histograms.
    pub fn finished(&self, drill: &Drill, status: &DrillStatus) {
        let of = of(drill);
        let times = &status.times;
        let mut verdict = of.clone();
        verdict
            .push(("verdict".to_owned(), status.verdict.map_or_else(|| "Checked".to_owned(), |verdict| format!("{verdict:?}"))));
        self.drills.get_or_create(&verdict).inc();
        let seconds = |from: Option<Timestamp>, to: Option<Timestamp>| Some((to? - from?).to_std().ok()?.as_secs_f64());
        if let Some(took) = seconds(times.declared, times.healthy) {
            self.time_to_healthy.get_or_create(&of).observe(took);
        }
        let phases = [
            ("Evacuating", times.evacuating, times.evacuated.or(times.returning)),
            ("Evacuated", times.evacuated, times.returning),
            ("Returning", times.returning, times.done),
        ];
        for (phase, from, to) in phases {
            if let Some(took) = seconds(from, to) {
                let mut labels = of.clone();
                labels.push(("phase".to_owned(), phase.to_owned()));
                self.phases.get_or_create(&labels).observe(took);
            }
        }
    }

    /// All metrics in the text format of Prometheus, the gauges as the objects are now.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact in a double")]
    pub fn render(
        &self,
        drills: &[Drill],
        routes: &[TrafficRoute],
        singletons: &[SingletonWorkload],
        regions: &[Region],
        leads: bool,
    ) -> String {
        self.leader.set(i64::from(leads));
        self.phase.clear();
        self.weight.clear();
        self.proven.clear();
        self.findings.clear();
        self.share.clear();
        self.holders.clear();
        self.epoch.clear();
        self.claims.clear();
        self.debts.clear();
        for region in regions {
            let name = region.metadata.name.clone().unwrap_or_default();
            if let Some(claims) = region.status.as_ref().and_then(|status| status.claims) {
                self.claims.get_or_create(&labels([("region", &name)])).set(i64::from(claims));
            }
        }
        for singleton in singletons {
            let Some(status) = &singleton.status else { continue };
            let (namespace, name) = (singleton.metadata.namespace.clone(), singleton.metadata.name.clone());
            let labels = labels([("namespace", &namespace.unwrap_or_default()), ("singleton", &name.unwrap_or_default())]);
            let holders = status.regions.iter().filter(|region| region.running == Running::Yes).count();
            self.holders.get_or_create(&labels).set(i64::try_from(holders).unwrap_or(i64::MAX));
            self.epoch.get_or_create(&labels).set(i64::try_from(status.epoch.0).unwrap_or(i64::MAX));
        }
        for drill in drills {
            let Some(status) = &drill.status else { continue };
            let name = drill.metadata.name.clone().unwrap_or_default();
            let mut labels = of(drill);
            labels.push(("drill".to_owned(), name));
            if status.phase == Phase::Done {
                self.debts.get_or_create(&labels).set(i64::try_from(status.debts.len()).unwrap_or(i64::MAX));
            }
            if let Some(level) = status.steps.iter().find_map(|step| step.level).filter(|_| status.phase != Phase::Done) {
                self.share.get_or_create(&labels).set(f64::from(level.moved_percent) / 100.0);
            }
            for finding in &status.findings {
                let mut labels = labels.clone();
                labels.extend(self::labels([("check", &finding.check), ("severity", &format!("{:?}", finding.severity))]));
                self.findings.get_or_create(&labels).inc();
            }
            labels.push(("phase".to_owned(), format!("{:?}", status.phase)));
            self.phase.get_or_create(&labels).set(1);
            if let (Some(Verdict::Passed), Some(done)) = (status.verdict, status.times.done) {
                let gauge = self.proven.get_or_create(&of(drill));
                gauge.set(gauge.get().max(done.timestamp() as f64));
            }
        }
        for route in routes {
            let (namespace, name) =
                (route.metadata.namespace.clone().unwrap_or_default(), route.metadata.name.clone().unwrap_or_default());
            for share in route.status.iter().flat_map(|status| &status.shares) {
                let labels = labels([("namespace", &namespace), ("route", &name), ("region", &share.region)]);
                self.weight.get_or_create(&labels).set(f64::from(share.desired_percent) / 100.0);
            }
        }
        let mut text = String::new();
        if let Ok(registry) = self.registry.lock()
            && let Err(error) = encode(&mut text, &registry)
        {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }
}

fn of(drill: &Drill) -> Labels {
    labels([
        ("plan", &drill.spec.plan),
        ("region", &drill.spec.region),
        ("scenario", &format!("{:?}", drill.spec.scenario.unwrap_or_default())),
        ("mode", &format!("{:?}", drill.spec.mode)),
    ])
}

/// A metric's text with its labels.
fn help(text: &str, labels: &str) -> String {
    format!("{text} {labels}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `FIREDRILL_BLESS=1 cargo test` rewrites the page.
    #[test]
    fn the_page_about_metrics_is_the_generated_one() {
        // A family shows when it has a member.
        let at = "2026-12-08T10:00:00Z";
        let status = |phase: &str| {
            json!({
                "phase": phase, "verdict": "Passed", "findings": [{"severity": "Info", "check": "c", "message": "m"}],
                "times": {"declared": at, "healthy": at, "evacuating": at, "evacuated": at, "returning": at, "done": at},
                "steps": [{
                    "name": "traffic", "direction": "Out", "state": "Moving",
                    "level": {"movedPercent": 1, "fromPercent": 0, "greenPercent": 0},
                }],
            })
        };
        let drills = ["Evacuating", "Done"].map(|phase| -> Drill {
            let spec = json!({"plan": "p", "region": "r", "mode": "Exercise"});
            let metadata = json!({"name": phase});
            serde_json::from_value(json!({
                "apiVersion": "firedrill.dev/v1alpha1", "kind": "Drill", "metadata": metadata, "spec": spec, "status": status(phase),
            }))
            .unwrap()
        });
        let route: TrafficRoute = serde_json::from_value(json!({
            "apiVersion": "firedrill.dev/v1alpha1", "kind": "TrafficRoute", "metadata": {"name": "t", "namespace": "n"},
            "spec": {"httpRoute": {"name": "t"}, "backends": []}, "status": {"shares": [{"region": "r", "desiredPercent": 1}]},
        }))
        .unwrap();
        let singleton: SingletonWorkload = serde_json::from_value(json!({
            "apiVersion": "firedrill.dev/v1alpha1", "kind": "SingletonWorkload", "metadata": {"name": "s", "namespace": "n"},
            "spec": {"workload": {"kind": "CronJob", "name": "s"}, "regions": ["r", "s"], "enforcement": "Enforce"},
            "status": {"epoch": 1},
        }))
        .unwrap();
        let region: Region = serde_json::from_value(json!({
            "apiVersion": "firedrill.dev/v1alpha1", "kind": "Region", "metadata": {"name": "r"},
            "spec": {"cluster": {"local": {}}}, "status": {"claims": 1},
        }))
        .unwrap();
        let telemetry = Telemetry::new();
        telemetry.call(&Observation { verb: "GET".into(), resource: "pods".into(), outcome: "ok".into(), seconds: 1.0 });
        telemetry.write(Kind::Node, None);
        telemetry.activation(Kind::Drill, 1.0, Some("Conflict".into()));
        telemetry.finished(&drills[1], drills[1].status.as_ref().unwrap());
        let text = telemetry.render(&drills, &[route], &[singleton], &[region], false);
        let shown = text.lines().filter(|line| line.starts_with("# HELP ")).count();
        assert_eq!(shown, 17, "a metric has no member here:\n{text}");
        let mut page = String::from(
            "# Metrics\n\nServed at `/metrics` in the OpenMetrics text format. Gauges are a pure function of the objects on the hub, so a restart\n\
             loses nothing; histograms are observed once per drill, by the instance that ended it.\n\n\
             | name | type | what (labels) |\n| --- | --- | --- |\n",
        );
        for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
            let (name, help) = line.split_once(' ').unwrap();
            let kind = text.lines().find_map(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name)?.strip_prefix(' ')).unwrap();
            let total = if kind == "counter" { "_total" } else { "" };
            page = format!("{page}| `{name}{total}` | {kind} | {} |\n", help.trim_end_matches('.'));
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("FIREDRILL_BLESS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == page, "docs/metrics.md is not what the code generates: run `FIREDRILL_BLESS=1 cargo test`");
    }
}
