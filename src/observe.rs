//! From what must be looked at to what was seen: IO that decides nothing.

use crate::cluster::{Api, Body, CallError, Category, Fleet};
use crate::probe::prometheus;
use crate::seam::Seam;
use crate::terms::{ClusterUid, Object};
use crate::world::{Blind, Needs, Seen, World};
use futures::future::join_all;
use http::Method;
use std::time::Duration;

/// How long one read may take. A region that does not answer in this time is blind: nothing is raised towards it.
const READ: Duration = Duration::from_secs(3);

/// Looks at exactly what `needs` names, all at once.
pub async fn observe(fleet: &Fleet, seam: &Seam, needs: &Needs) -> World {
    let objects = join_all(needs.objects.iter().map(|target| async move {
        let what = match api(fleet, &target.cluster) {
            Err(blind) => Err(blind),
            Ok(api) => match api.call(Method::GET, &target.path(), Body::Nothing, READ).await {
                Ok(json) => Ok(Some(Object::new(json))),
                Err(error) if error.category == Category::NotFound => Ok(None),
                Err(error) => Err(blind(error)),
            },
        };
        (target.clone(), Seen { at: seam.clock.now(), what })
    }));
    let lists = join_all(needs.lists.iter().map(|list| async move {
        let what = match api(fleet, &list.cluster) {
            Err(blind) => Err(blind),
            Ok(api) => api.list(&list.kind.path(list.namespace.as_deref()), "", READ).await.map_err(blind),
        };
        let what = what.map(|items| items.into_iter().map(Object::new).collect());
        (list.clone(), Seen { at: seam.clock.now(), what })
    }));
    let readings = join_all(needs.queries.iter().map(|query| async move {
        let what = prometheus::ask(seam, query).await;
        (query.clone(), Seen { at: seam.clock.now(), what })
    }));
    let (objects, lists, readings) = futures::join!(objects, lists, readings);
    World { objects: objects.into_iter().collect(), lists: lists.into_iter().collect(), readings: readings.into_iter().collect() }
}

fn api(fleet: &Fleet, cluster: &ClusterUid) -> Result<Api, Blind> {
    fleet.by_uid(cluster).ok_or_else(|| Blind::Unreachable("its cluster has not answered since the operator started".to_owned()))
}

fn blind(error: CallError) -> Blind {
    match error.category {
        Category::TimedOut => Blind::TimedOut,
        Category::Forbidden => Blind::Forbidden(error.message),
        Category::NotInstalled | Category::NotFound => Blind::NotInstalled,
        Category::Malformed => Blind::Malformed(error.message),
        Category::Unreachable | Category::Conflict | Category::Invalid | Category::Unavailable => {
            Blind::Unreachable(error.message)
        }
    }
}
