//! Intents: writes that may be under way, each known by the version that guards it.

use super::decision::Effect;
use crate::api::Intent;
use crate::claim::{self, Taken};
use crate::terms::{ClusterUid, Json, Kind, Owner, Target, Term};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};

/// How many writes may be under way at the most: what the status can keep.
const MOST: usize = 512;
/// How many of them before only routes are written: what an unreachable region leaves unsettled must not keep users from being
/// led.
const BUT_ROUTES: usize = 256;

/// Drops the intents that can never land any more; returns the targets of those that still may.
pub(super) fn settle(open: &mut Vec<Intent>, world: &World) -> BTreeSet<Target> {
    let mut unsettled = BTreeSet::new();
    open.retain(|intent| {
        // One that does not parse may still land: it keeps the drill from its end.
        let Ok(target) = serde_json::from_value::<Target>(Json::from(intent.target.clone())) else { return true };
        let stands = match world.object(&target) {
            Ok(None) => return false,
            Ok(Some(object)) => object.uid() == intent.uid && object.resource_version() == intent.resource_version,
            Err(_) => true,
        };
        if stands {
            unsettled.insert(target);
        }
        stands
    });
    unsettled
}

/// Whoever's request may still be under way: the version is moved, by a write of this decision or by a stamp, so that it can
/// never land.
pub(super) fn stamps(
    by: &Owner,
    unsettled: &BTreeSet<Target>,
    effects: &mut Vec<Effect>,
    world: &World,
    term: Term,
    taken: impl Fn(&Target) -> Vec<Taken>,
) {
    for target in unsettled {
        if effects.iter().any(|effect| matches!(effect, Effect::Write(write) if write.target == *target)) {
            continue;
        }
        if let Ok(Some(object)) = world.object(target)
            && let Ok(write) = claim::stamp(object, target, by, term, &taken(target))
        {
            effects.push(Effect::Write(write));
        }
    }
}

/// Leaves out what the status could not keep; any subset of effects will do, and the next look decides the rest again. Users
/// first.
pub(super) fn fit(effects: &mut Vec<Effect>, open: usize) {
    let is_route = |effect: &Effect| matches!(effect, Effect::Write(write) if write.target.kind == Kind::HTTPRoute);
    effects.sort_by_key(|effect| !is_route(effect));
    let mut kept = open;
    effects.retain(|effect| match effect {
        Effect::Write(_) => {
            let fits = kept < if is_route(effect) { MOST } else { BUT_ROUTES };
            kept += usize::from(fits);
            fits
        }
        Effect::Create(..) | Effect::Replace(..) | Effect::Delete(..) | Effect::Finalizer(_) => true,
    });
}

/// Keeps the intent of every write, for the commit that comes before it.
pub(super) fn keep(open: &mut Vec<Intent>, effects: &[Effect]) {
    open.extend(effects.iter().filter_map(|effect| match effect {
        Effect::Write(write) => Some(Intent {
            target: write.target.to_string(),
            uid: write.version.uid.clone(),
            resource_version: write.version.resource.clone(),
        }),
        Effect::Create(..) | Effect::Replace(..) | Effect::Delete(..) | Effect::Finalizer(_) => None,
    }));
    open.sort();
    open.dedup_by(|one, two| one.target == two.target);
}

/// What an API server did not take when it was tried last, and what it said.
pub(super) fn refused<'a>(
    mut targets: impl Iterator<Item = &'a Target>,
    refusals: &'a BTreeMap<Target, String>,
) -> Option<(&'a Target, &'a String)> {
    targets.find_map(|target| refusals.get_key_value(target))
}

/// Whether an intent is for a cluster that cannot be seen.
pub(super) fn lost(intent: &Intent, blind: &BTreeSet<ClusterUid>) -> bool {
    blind.iter().any(|cluster| intent.target.starts_with(&format!("{cluster}/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::Write;
    use crate::terms::Version;

    fn write(kind: Kind, number: usize) -> Effect {
        let target = Target { cluster: ClusterUid("c".into()), kind, namespace: None, name: number.to_string() };
        let version = Version { uid: "u".into(), resource: "1".into() };
        Effect::Write(Write { target, version, patch: json_patch::Patch(Vec::new()) })
    }

    #[test]
    fn users_are_led_however_much_an_unreachable_region_leaves_unsettled() {
        let many =
            || -> Vec<Effect> { (0..300).map(|number| write(Kind::Node, number)).chain([write(Kind::HTTPRoute, 0)]).collect() };
        let (mut fresh, mut crowded, mut full) = (many(), many(), many());
        fit(&mut fresh, 0);
        assert_eq!((fresh.len(), &fresh[0]), (BUT_ROUTES, &write(Kind::HTTPRoute, 0)));
        fit(&mut crowded, BUT_ROUTES);
        assert_eq!(crowded, [write(Kind::HTTPRoute, 0)]);
        full.push(Effect::Finalizer(false));
        fit(&mut full, MOST);
        assert_eq!(full, [Effect::Finalizer(false)], "what keeps no intent is never left out");
    }
}
