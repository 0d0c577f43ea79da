use super::copy::Copy;
use super::forward::{REQUESTS, Rehearsal};
use crate::api::Prediction;
use crate::cluster::Fleet;
use crate::operator::Rehearser;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How many pods a fleet may have to be rehearsed within an operator's memory: they take some 25 KiB each.
const PODS: u64 = 3000;
/// How long one rehearsal may be worked at.
const PATIENCE: Duration = Duration::from_mins(2);

/// Rehearses for drills of mode Check, one at a time, on a thread of its own: the operator's work goes on beside it.
#[derive(Debug, Default)]
pub struct Checker {
    one: Arc<Mutex<()>>,
}

impl Rehearser for Checker {
    fn rehearse(&self, fleet: Fleet, plan: String, region: String) -> BoxFuture<'static, Result<Option<Prediction>, String>> {
        let one = Arc::clone(&self.one);
        Box::pin(async move {
            let Ok(one) = one.try_lock_owned() else { return Ok(None) };
            let copy = Copy::take(&fleet, Some(&plan), BTreeMap::new()).await?;
            let pods = copy.pods();
            if pods > PODS {
                return Err(format!(
                    "its {pods} pods are more than the {PODS} that the operator rehearses; run `firedrill rehearse`"
                ));
            }
            let rehearsal = Rehearsal { copy, requests: REQUESTS, seed: 0, patience: Some(PATIENCE) };
            let (tell, told) = oneshot::channel();
            let work = move || {
                // What the operator in the copy says is not what happens to the fleet.
                let forecast =
                    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::new(), || rehearsal.run(&region));
                // Whoever listens may be the next; nobody does where the activation was broken off, and it went on until here.
                drop(one);
                let _ = tell.send(forecast.map(|forecast| Some(forecast.prediction)));
            };
            // No task of the runtime: a process that is told to end does not wait for it.
            std::thread::Builder::new().name("rehearsal".to_owned()).spawn(work).map_err(|error| error.to_string())?;
            told.await.map_err(|_| "the rehearsal broke off; that is a bug".to_owned())?
        })
    }
}
