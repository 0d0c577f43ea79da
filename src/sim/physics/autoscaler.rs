use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::{Physics, count, put};
use crate::sim::json::{at, items, text};
use crate::sim::kind::Kind;
use crate::sim::store::{Key, Store};

/// How long the highest size that was wanted holds before it may fall.
const STABILIZATION: i64 = 300;

impl Physics {
    /// An autoscaler holds its workload between its bounds, and by CPU where it has such a metric and the load is known: every pod of a cluster
    /// is as busy as the cluster. One that was scaled to 0 by hand is left alone.
    pub(super) fn autoscaler(&mut self, store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
        let scaler = store.get(key)?.clone();
        let reference = at(&scaler, "spec.scaleTargetRef");
        let target_kind = store.kind(text(reference, "kind"))?;
        let target_key = Key::new(&target_kind, &key.namespace, text(reference, "name"));
        let target = store.get(&target_key)?.clone();
        let replicas = count(&target, "spec.replicas", 1);
        let least = count(&scaler, "spec.minReplicas", 1);
        let most = count(&scaler, "spec.maxReplicas", u64::MAX).max(least);
        let metric = items(&scaler, "spec.metrics").find(|metric| text(metric, "resource.name") == "cpu");
        let by_load = metric.and_then(|metric| {
            let ratio = self.load? * 100.0 / at(metric, "resource.target.averageUtilization").as_f64()?;
            self.come(now + TimeDelta::from_std(self.pace.scaled_after).ok()?);
            // Within a tenth nothing happens.
            let is_near = (ratio - 1.0).abs() <= 0.1;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let scaled = (replicas as f64 * ratio).ceil() as u64;
            Some(if is_near { replicas } else { scaled })
        });
        let uid = text(&scaler, "metadata.uid").to_owned();
        let wanted = match by_load {
            _ if replicas == 0 => 0,
            None => replicas.clamp(least, most),
            Some(by_load) => {
                let lately = self.wanted.entry(uid).or_default();
                lately.retain(|(at, _)| *at > now - TimeDelta::seconds(STABILIZATION));
                lately.push((now, by_load));
                lately
                    .iter()
                    .map(|(_, wanted)| *wanted)
                    .max()
                    .map_or(by_load, |most| most.min(replicas).max(by_load))
                    .clamp(least, most)
            }
        };
        if wanted != replicas && !self.is_due(&scaler, "scaled", replicas.to_string(), self.pace.scaled_after, now) {
            return None;
        }
        put(store, &target_kind, &target_key, vec![("spec.replicas", json!(wanted))]);
        let active = if wanted == 0 { ("False", "ScalingDisabled") } else { ("True", "ValidMetricFound") };
        let values = vec![
            ("status.currentReplicas", json!(count(&target, "status.replicas", 0))),
            ("status.desiredReplicas", json!(wanted)),
            ("status.conditions", json!([{"type": "ScalingActive", "status": active.0, "reason": active.1}])),
        ];
        put(store, kind, key, values);
        Some(())
    }
}
