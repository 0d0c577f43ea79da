//! The simulated API server answers as a real one: the same sequences of calls are made to both, and every answer and every watch event
//! is compared: codes, bodies, refusals with their words. What servers choose themselves (uids, versions, times, who owns which field) is left out.

mod chosen;
mod kinds;
pub mod player;
mod random;

use crate::stage::on_spent_stage;
use firedrill::seam::Clock;
use firedrill::sim::{Fates, Kind, Link, Server};
use kinds::{KINDS, Template};
use player::{Played, play};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where everything of a run is.
const NAMESPACE: &str = "conformance";
/// How many random sequences are compared.
const RANDOM: u64 = 2_000;

/// One call, with placeholders for what only a server knows.
#[derive(Clone, Debug)]
pub struct Call {
    /// An index into [`KINDS`].
    kind: usize,
    method: &'static str,
    /// Which of the sequence's objects; none for the collection.
    name: Option<char>,
    /// `status`, `scale`; empty for the object itself.
    subresource: &'static str,
    query: String,
    /// Of a patch.
    patch: &'static str,
    /// `$version`, `$first`, `$uid` stand for what this server said of the object; null for none.
    body: Value,
}

#[test]
fn the_simulated_api_server_answers_as_a_real_one() {
    // Thousands of objects that are held by finalizers stay, also of firedrill's own kinds.
    on_spent_stage(async |stage| {
        let hub = stage.hub();
        hub.kubectl(&["create", "namespace", NAMESPACE], None).await.unwrap();
        // Controllers would write in between; what an API server does by itself is compared.
        hub.controllers(false).unwrap();
        let real = player::client(&hub.kubeconfig()).await;
        let templates = kinds::templates(&real, NAMESPACE).await;
        let sequences: Vec<Vec<Call>> =
            chosen::sequences(&templates).into_iter().chain((0..RANDOM).map(|seed| random::sequence(seed, &templates))).collect();
        let begun = std::time::Instant::now();
        let expected = play(&real, NAMESPACE, &sequences, &templates).await;
        let took = begun.elapsed();
        hub.controllers(true).unwrap();
        let seen = simulated(sequences.clone(), templates.clone()).await;
        let calls: usize = sequences.iter().map(Vec::len).sum();
        eprintln!(
            "{} sequences, {calls} calls, {} watch events of {} objects; the real server took {took:?}",
            sequences.len(),
            expected.events.values().map(Vec::len).sum::<usize>(),
            expected.events.len()
        );
        assert!(sequences.len() >= 2_300 && expected.events.len() > 2_000);
        differences(&sequences, &expected, &seen);
    });
}

/// The same on the simulated server, in simulated time.
async fn simulated(sequences: Vec<Vec<Call>>, templates: Vec<Template>) -> Played {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let clock = Clock::starting("2026-11-23T08:00:00Z".parse().unwrap());
            let server = Server::new("hub", 5_000_000, clock, fastrand::Rng::with_seed(7));
            for known in KINDS.iter().filter(|kind| kind.group == "firedrill.dev") {
                let kind = if known.namespaced {
                    Kind::namespaced("firedrill.dev/v1alpha1", known.kind, known.plural)
                } else {
                    Kind::cluster("firedrill.dev/v1alpha1", known.kind, known.plural)
                };
                server.register(kind.with_status());
            }
            server.seed(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})).unwrap();
            let link = Link::new(server, "a", Fates::calm(), fastrand::Rng::with_seed(1));
            play(&link.client(), NAMESPACE, &sequences, &templates).await
        })
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// By sort: how many of which kind, and the first.
type Sorts = BTreeMap<String, (BTreeMap<&'static str, usize>, String)>;

fn note(sorts: &mut Sorts, sort: String, kind: &'static str, text: String) {
    *sorts.entry(sort).or_insert((BTreeMap::new(), text)).0.entry(kind).or_default() += 1;
}

/// Fails with the first differences of each sort, each with its sequence.
fn differences(sequences: &[Vec<Call>], expected: &Played, seen: &Played) {
    let mut sorts = Sorts::new();
    for (number, sequence) in sequences.iter().enumerate() {
        for (step, call) in sequence.iter().enumerate() {
            let (real, ours) = (&expected.answers[number][step], &seen.answers[number][step]);
            if real != ours {
                let differ = json_patch::diff(&real.1, &ours.1);
                let places: Vec<&str> = differ.0.iter().map(|one| one.path().as_str()).collect();
                let before: Vec<String> = sequence[..=step].iter().map(|call| format!("  {call}")).collect();
                note(
                    &mut sorts,
                    format!("{} {} {}: {} instead of {}, {places:?}", call.method, call.subresource, call.patch, ours.0, real.0),
                    KINDS[call.kind].kind,
                    format!(
                        "sequence {number}:\n{}\nreal: {}\nsimulated: {}\nfrom one to the other: {differ}",
                        before.join("\n"),
                        real.1,
                        ours.1
                    ),
                );
                // What follows would only follow from that.
                break;
            }
        }
    }
    // Events follow from answers.
    if sorts.is_empty() {
        for (object, events) in &expected.events {
            let ours = seen.events.get(object);
            if ours != Some(events) {
                let sort = format!("{} watch events instead of {}", ours.map_or(0, Vec::len), events.len());
                note(&mut sorts, sort, "", format!("{object}\nreal: {events:#?}\nsimulated: {ours:#?}"));
            }
        }
        for object in seen.events.keys().filter(|object| !expected.events.contains_key(*object)) {
            note(&mut sorts, "watch events of nothing".to_owned(), "", object.clone());
        }
    }
    let all: Vec<String> = sorts.into_iter().map(|(sort, (kinds, first))| format!("{sort}: {kinds:?}\n{first}\n")).collect();
    assert!(all.is_empty(), "{} sorts of differences:\n{}", all.len(), all.join("\n"));
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, method, name, subresource, query, patch, body } = self;
        write!(f, "{method} {} {name:?} {subresource} {query} {patch} {body}", KINDS[*kind].kind)
    }
}
