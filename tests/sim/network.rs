use std::sync::{Arc, Mutex};
use std::time::Duration;

use firedrill::sim::{End, Fate, Fates, Link, Server};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams, WatchParams};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{named, refused, run, seconds, server, typed};

fn object(name: &str) -> ConfigMap {
    typed(json!({"metadata": {"name": name}}))
}

fn linked(server: &Server, instance: &str, fates: &Fates) -> (Link, Api<ConfigMap>) {
    let link = Link::new(server.clone(), instance, fates.clone(), fastrand::Rng::with_seed(3));
    let api = Api::namespaced(link.client(), "shop");
    (link, api)
}

fn fated(before: u64, after: u64, end: End) -> Fates {
    Fates::new(move |_| Fate { before: Duration::from_secs(before), after: Duration::from_secs(after), end: end.clone() })
}

fn is_there(server: &Server, name: &str) -> bool {
    server.get("ConfigMap", "shop", name).is_some()
}

#[test]
fn a_request_takes_its_time_both_ways_and_applies_on_arrival() {
    run(async {
        let server = server();
        let (_, api) = linked(&server, "a", &fated(2, 3, End::Deliver));
        let start = Instant::now();
        let call = tokio::spawn(async move { api.create(&PostParams::default(), &object("c")).await });
        seconds(1).await;
        assert!(!is_there(&server, "c"));
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert!(is_there(&server, "c"));
        call.await.unwrap().unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    });
}

#[test]
fn a_client_that_gives_up_does_not_take_its_request_back() {
    run(async {
        let server = server();
        let (_, api) = linked(&server, "a", &fated(10, 0, End::Deliver));
        assert!(timeout(Duration::from_secs(5), api.create(&PostParams::default(), &object("late"))).await.is_err());
        drop(api);
        assert!(!is_there(&server, "late"));
        seconds(6).await;
        assert!(is_there(&server, "late"));
    });
}

#[test]
fn a_lost_request_never_arrives_and_a_lost_answer_comes_after_the_write() {
    run(async {
        let server = server();
        let fates = fated(0, 0, End::Lost);
        let (_, api) = linked(&server, "a", &fates);
        assert!(timeout(Duration::from_mins(1), api.create(&PostParams::default(), &object("lost"))).await.is_err());
        fates.replace(|_| Fate { before: Duration::ZERO, after: Duration::ZERO, end: End::LoseAnswer });
        assert!(timeout(Duration::from_mins(1), api.create(&PostParams::default(), &object("written"))).await.is_err());
        fates.replace(|_| Fate { before: Duration::ZERO, after: Duration::ZERO, end: End::Break });
        let start = Instant::now();
        let broken = api.create(&PostParams::default(), &object("broken")).await.unwrap_err();
        assert!(matches!(broken, kube::Error::Service(_)) && start.elapsed() == Duration::ZERO, "{broken:?}");
        assert_eq!((is_there(&server, "lost"), is_there(&server, "written"), is_there(&server, "broken")), (false, true, true));
    });
}

#[test]
fn a_refusal_on_the_way_never_reaches_the_server() {
    run(async {
        let server = server();
        let (_, api) = linked(&server, "a", &fated(0, 0, End::Refuse(429, "TooManyRequests")));
        let status = refused(api.create(&PostParams::default(), &object("c")).await);
        assert_eq!((status.code, status.reason.as_str()), (429, "TooManyRequests"));
        assert!(server.log().is_empty());
    });
}

#[test]
fn fates_see_who_calls_what_where_and_count_over_all_links() {
    run(async {
        let (hub, eu) = (server(), named("eu", 70_000_000));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let calls = Arc::clone(&seen);
        let fates = Fates::new(move |call| {
            calls.lock().unwrap().push(format!(
                "{} {} {} {} {} {}",
                call.sequence, call.instance, call.server, call.verb, call.path, call.dry_run
            ));
            Fate { before: Duration::ZERO, after: Duration::ZERO, end: End::Deliver }
        });
        let ((_, one), (_, two)) = (linked(&hub, "a", &fates), linked(&eu, "b", &fates));
        one.create(&PostParams { dry_run: true, ..PostParams::default() }, &object("c")).await.unwrap();
        two.list(&kube::api::ListParams::default()).await.unwrap();
        let path = "/api/v1/namespaces/shop/configmaps";
        assert_eq!(*seen.lock().unwrap(), [format!("0 a hub create {path} true"), format!("1 b eu list {path} false")]);
        assert_eq!(hub.log().iter().map(|entry| (entry.instance.as_str(), entry.code)).collect::<Vec<_>>(), [("a", 201)]);
    });
}

#[test]
fn a_partition_holds_calls_answers_and_watches_until_it_heals() {
    run(async {
        let server = server();
        let (link, api) = linked(&server, "a", &Fates::calm());
        let (_, other) = linked(&server, "b", &Fates::calm());
        let mut events =
            Box::pin(api.watch(&WatchParams { bookmarks: false, ..WatchParams::default().timeout(200) }, "0").await.unwrap());
        link.partition();
        other.create(&PostParams::default(), &object("seen-late")).await.unwrap();
        assert!(timeout(Duration::from_secs(30), events.next()).await.is_err());
        assert!(timeout(Duration::from_secs(30), api.create(&PostParams::default(), &object("late"))).await.is_err());
        assert!(!is_there(&server, "late"));
        link.heal();
        let event = timeout(Duration::from_secs(1), events.next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(event, kube::core::WatchEvent::Added(_)));
        seconds(1).await;
        // What was sent into the partition arrives when it heals, although nobody waits for it any more.
        assert!(is_there(&server, "late"));
    });
}

fn trace(seed: u64) -> (String, usize) {
    run(async move {
        let mut rng = fastrand::Rng::with_seed(seed);
        let server = Server::new("hub", 1_000_000, firedrill::seam::Clock::starting(crate::base()), rng.fork());
        server.seed(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})).unwrap();
        let fates = Fates::latency(rng.fork(), Duration::ZERO..=Duration::from_millis(300));
        let mut tasks = tokio::task::JoinSet::new();
        for instance in ["a", "b", "c"] {
            let (link, api) = linked(&server, instance, &fates);
            link.lag(Duration::ZERO..=Duration::from_millis(500));
            tasks.spawn(async move {
                for index in 0..20 {
                    let made =
                        api.create(&PostParams::default(), &typed(json!({"metadata": {"generateName": "x-"}}))).await.unwrap();
                    let _ = api.create(&PostParams::default(), &object(&format!("race-{index}"))).await;
                    let _ = api.delete(made.metadata.name.as_deref().unwrap(), &kube::api::DeleteParams::default()).await;
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        (server.log_hash(), server.log().len())
    })
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let (seven, count) = trace(7);
    assert_eq!(count, 180);
    assert_ne!(seven, trace(8).0);
    assert_eq!(seven, trace(7).0, "alone as after others");
}
