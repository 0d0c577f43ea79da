use crate::claim::Change;
use crate::terms::{Json, Object, RegionName, Segment, Spot};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The largest weight that Gateway API allows.
const MAX_WEIGHT: u64 = 1_000_000;
/// What a reference without a weight has.
const DEFAULT_WEIGHT: u64 = 1;

/// One rule of a route with its weights as they were when the drill was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// What all weights of the rule are multiplied by while the region leaves, so that one percent of its share is at least one
    /// unit; the shares stay.
    pub factor: u64,
    /// Its backend references, foreign ones too, since the factor is on all of them.
    pub references: Vec<Reference>,
}

/// One backend reference of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// The spot of its weight.
    pub weight: Spot,
    /// The weight as written; absent is `None` and counts as 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<u64>,
    /// The region that it serves from; `None` for a foreign backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionName>,
    /// The backend's name.
    pub backend: String,
}

/// Why a route cannot be driven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No rule names the leaving region's backend.
    #[error("no rule has a backend of region {0}, so there is nothing to shift; is the TrafficRoute's `backends` complete?")]
    NotInRoute(RegionName),
    /// A rule sends to the leaving region and to no survivor.
    #[error("a rule sends to {0} and has no backend of a surviving region")]
    NoSurvivor(String),
    /// A region has two backends in one rule.
    #[error("region {0} has more than one backend in one rule; only one is supported")]
    Ambiguous(RegionName),
    /// All weights of a rule are zero.
    #[error("all weights of a rule are zero: it answers 500 to everybody already")]
    AllZero,
    /// A sum above what Gateway API allows.
    #[error("the weights of a rule are too large to be shifted: together at most 1,000,000")]
    TooLarge,
}

impl Reference {
    fn base(&self) -> u64 {
        self.was.unwrap_or(DEFAULT_WEIGHT)
    }
}

/// The rules of `route` that send to `leaving`, with their weights as they are.
///
/// `backends` says which backend serves from which region; `split` how the leaving share is dealt out.
///
/// # Errors
/// [`Problem`], the first found.
pub fn baseline(
    route: &Object,
    backends: &BTreeMap<String, RegionName>,
    leaving: &RegionName,
    split: &BTreeMap<RegionName, u64>,
) -> Result<Vec<Rule>, Problem> {
    let mut rules = Vec::new();
    let mut seen_before: Vec<Segment> = Vec::new();
    for rule in route.list("/spec/rules") {
        // A rule is known by its name, else by its matches; the ordinal tells equals apart.
        let keys: &[&str] = if rule.get("name").is_some() { &["name"] } else { &["matches"] };
        let bare = Segment::item(rule, keys, 0);
        let ordinal = seen_before.iter().filter(|segment| **segment == bare).count();
        seen_before.push(bare);
        let here = Spot::fields(&["spec", "rules"]).then(Segment::item(
            rule,
            keys,
            u16::try_from(ordinal).map_err(|_| Problem::TooLarge)?,
        ));
        let references = references(rule, &here, backends)?;
        let of_leaving: u64 = sum(&references, |region| region == Some(leaving));
        if !references.iter().any(|reference| reference.region.as_ref() == Some(leaving)) {
            continue;
        }
        let total = sum(&references, |_| true);
        if total == 0 {
            return Err(Problem::AllZero);
        }
        let survives = |reference: &Reference| {
            reference.region.as_ref().is_some_and(|region| split.get(region).is_some_and(|part| *part > 0))
        };
        if of_leaving > 0 && !references.iter().any(survives) {
            return Err(Problem::NoSurvivor(leaving.to_string()));
        }
        if total > MAX_WEIGHT {
            return Err(Problem::TooLarge);
        }
        let finest = if of_leaving == 0 { 1 } else { 100_u64.div_ceil(of_leaving) };
        rules.push(Rule { factor: finest.min(MAX_WEIGHT / total).max(1), references });
    }
    if rules.is_empty() { Err(Problem::NotInRoute(leaving.clone())) } else { Ok(rules) }
}

fn references(rule: &Json, here: &Spot, backends: &BTreeMap<String, RegionName>) -> Result<Vec<Reference>, Problem> {
    const KEYS: [&str; 5] = ["group", "kind", "name", "namespace", "port"];
    let items = rule.get("backendRefs").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let mut found: Vec<Reference> = Vec::new();
    let mut before: Vec<Segment> = Vec::new();
    for item in items {
        let bare = Segment::item(item, &KEYS, 0);
        let ordinal = before.iter().filter(|segment| **segment == bare).count();
        before.push(bare);
        let backend = item.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
        let region = backends.get(&backend).cloned();
        if let Some(region) = region.as_ref().filter(|region| found.iter().any(|other| other.region.as_ref() == Some(*region))) {
            return Err(Problem::Ambiguous(region.clone()));
        }
        let weight = here
            .then(Segment::Field("backendRefs".into()))
            .then(Segment::item(item, &KEYS, u16::try_from(ordinal).map_err(|_| Problem::TooLarge)?))
            .then(Segment::Field("weight".into()));
        found.push(Reference { weight, was: item.get("weight").and_then(Json::as_u64), region, backend });
    }
    Ok(found)
}

fn sum(references: &[Reference], of: impl Fn(Option<&RegionName>) -> bool) -> u64 {
    references.iter().filter(|reference| of(reference.region.as_ref())).map(Reference::base).sum()
}

impl Rule {
    /// The weights when `moved` percent of the leaving region's share have left; the baseline as written for 0.
    ///
    /// What leaves is dealt out in proportion to `split` by largest remainder, so every share is exact to one unit.
    #[must_use]
    pub fn weights(&self, leaving: &RegionName, split: &BTreeMap<RegionName, u64>, moved: u32) -> Vec<Option<u64>> {
        if moved == 0 {
            return self.references.iter().map(|reference| reference.was).collect();
        }
        let is_leaving = |reference: &Reference| reference.region.as_ref() == Some(leaving);
        let left = |reference: &Reference| reference.base() * self.factor * u64::from(100 - moved.min(100)) / 100;
        let gone: u64 = self.references.iter().filter(|r| is_leaving(r)).map(|r| r.base() * self.factor - left(r)).sum();
        let part = |reference: &Reference| {
            if is_leaving(reference) {
                0
            } else {
                reference.region.as_ref().and_then(|region| split.get(region)).copied().unwrap_or(0)
            }
        };
        let gains = deal(gone, &self.references.iter().map(part).collect::<Vec<_>>());
        self.references
            .iter()
            .zip(gains)
            .map(|(reference, gain)| {
                Some(if is_leaving(reference) { left(reference) } else { reference.base() * self.factor + gain })
            })
            .collect()
    }

    /// What to change to come from one level to another.
    #[must_use]
    pub fn changes(&self, leaving: &RegionName, split: &BTreeMap<RegionName, u64>, from: u32, to: u32) -> Vec<Change> {
        let json = |weight: Option<u64>| weight.map(Json::from);
        self.references
            .iter()
            .zip(self.weights(leaving, split, from))
            .zip(self.weights(leaving, split, to))
            .map(|((reference, from), to)| Change {
                spot: reference.weight.clone(),
                was: json(reference.was),
                from: json(from),
                to: json(to),
            })
            .collect()
    }

    /// The share of `region` among the regions' backends of this rule at a level, from 0 to 1; foreign backends are none of them.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "weights are at most a million")]
    pub fn share(&self, region: &RegionName, leaving: &RegionName, split: &BTreeMap<RegionName, u64>, moved: u32) -> f64 {
        let weights: Vec<u64> =
            self.weights(leaving, split, moved).into_iter().map(|weight| weight.unwrap_or(DEFAULT_WEIGHT)).collect();
        let sum = |of: &dyn Fn(&RegionName) -> bool| -> u64 {
            let chosen = |(reference, _): &(&Reference, &u64)| reference.region.as_ref().is_some_and(of);
            self.references.iter().zip(&weights).filter(chosen).map(|(_, weight)| *weight).sum()
        };
        sum(&|one| one == region) as f64 / sum(&|_| true).max(1) as f64
    }
}

/// Deals `amount` out in proportion to `parts` by largest remainder (Hamilton's method); equal remainders go by order.
fn deal(amount: u64, parts: &[u64]) -> Vec<u64> {
    let whole: u128 = parts.iter().map(|part| u128::from(*part)).sum();
    if whole == 0 {
        return vec![0; parts.len()];
    }
    let share = |part: u64| (u128::from(amount) * u128::from(part) / whole, u128::from(amount) * u128::from(part) % whole);
    let mut dealt: Vec<u64> = parts.iter().map(|part| u64::try_from(share(*part).0).unwrap_or(u64::MAX)).collect();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(parts.get(at).map_or(0, |part| share(*part).1)));
    let rest = amount - dealt.iter().sum::<u64>();
    for at in order.into_iter().take(usize::try_from(rest).unwrap_or(usize::MAX)) {
        if let Some(part) = dealt.get_mut(at) {
            *part += 1;
        }
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn region(name: &str) -> RegionName {
        name.try_into().unwrap()
    }

    fn fleet() -> (BTreeMap<String, RegionName>, BTreeMap<RegionName, u64>) {
        let backends = ["eu", "us", "ap"].iter().map(|name| (format!("shop-{name}"), region(name))).collect();
        (backends, BTreeMap::from([(region("us"), 1), (region("ap"), 1)]))
    }

    fn route(references: &Json) -> Object {
        Object::new(json!({"spec": {"rules": [{"matches": [{"path": {"value": "/"}}], "backendRefs": references}]}}))
    }

    #[test]
    fn weights_too_coarse_for_a_level_are_multiplied_first() {
        let (backends, split) = fleet();
        let object = route(
            &json!([{"name": "shop-eu", "weight": 34}, {"name": "shop-us", "weight": 33}, {"name": "shop-ap", "weight": 33}]),
        );
        let rule = &baseline(&object, &backends, &region("eu"), &split).unwrap()[0];
        assert_eq!(rule.factor, 3);
        assert_eq!(rule.weights(&region("eu"), &split, 0), [Some(34), Some(33), Some(33)]);
        assert_eq!(rule.weights(&region("eu"), &split, 1), [Some(100), Some(100), Some(100)]);
        assert_eq!(rule.weights(&region("eu"), &split, 100), [Some(0), Some(150), Some(150)]);
    }

    #[test]
    fn a_route_that_cannot_be_driven_says_why() {
        let (backends, split) = fleet();
        let problem = |references: Json| baseline(&route(&references), &backends, &region("eu"), &split).unwrap_err();
        assert_eq!(problem(json!([{"name": "shop-us"}])), Problem::NotInRoute(region("eu")));
        assert_eq!(problem(json!([{"name": "shop-eu"}])), Problem::NoSurvivor("eu".into()));
        assert_eq!(problem(json!([{"name": "shop-eu", "weight": 0}, {"name": "shop-us", "weight": 0}])), Problem::AllZero);
        assert_eq!(problem(json!([{"name": "shop-eu"}, {"name": "shop-eu"}])), Problem::Ambiguous(region("eu")));
        assert_eq!(problem(json!([{"name": "shop-eu", "weight": 1_000_000}, {"name": "shop-us"}])), Problem::TooLarge);
    }

    proptest! {
        #[test]
        fn at_every_level_each_share_lies_between_baseline_and_target_within_one_unit(
            weights in proptest::collection::vec(proptest::option::of(0..3_000_u64), 4),
            parts in (0..50_u64, 1..50_u64),
        ) {
            let (backends, _) = fleet();
            let split = BTreeMap::from([(region("us"), parts.0), (region("ap"), parts.1)]);
            let names = ["shop-eu", "shop-us", "shop-ap", "canary"];
            let items: Vec<Json> = names.iter().zip(&weights).map(|(name, weight)| match weight {
                Some(weight) => json!({"name": name, "weight": weight}),
                None => json!({"name": name}),
            }).collect();
            let Ok(rules) = baseline(&route(&json!(items)), &backends, &region("eu"), &split) else { return Ok(()) };
            let rule = &rules[0];
            let base: Vec<u64> = weights.iter().map(|weight| weight.unwrap_or(1) * rule.factor).collect();
            let total: u64 = base.iter().sum();
            prop_assert!(total <= MAX_WEIGHT);
            let mut last = base.clone();
            for moved in 1..=100 {
                let now: Vec<u64> = rule.weights(&region("eu"), &split, moved).into_iter().flatten().collect();
                prop_assert_eq!(now.iter().sum::<u64>(), total, "no request is lost or made");
                prop_assert_eq!(now[3], base[3], "a foreign backend keeps its share");
                prop_assert!(now[0] <= last[0], "the leaving share only falls");
                prop_assert!(now[1] + 1 >= last[1] && now[2] + 1 >= last[2], "survivors rise within one unit");
                last = now;
            }
            prop_assert_eq!(last[0], 0);
        }
    }
}
