use std::time::Duration;

use firedrill::sim::Server;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DynamicObject, WatchParams};
use kube::core::WatchEvent;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{client, link, run, seconds, server, web};

fn maps(server: &Server) -> Api<ConfigMap> {
    Api::namespaced(client(server), "shop")
}

fn put(server: &Server, name: &str, label: &str) -> String {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop", "labels": {"tier": label}}});
    version(&server.seed(object).unwrap())
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

fn relabel(server: &Server, name: &str, label: &str) -> String {
    version(&server.edit("ConfigMap", "shop", name, |object| object["metadata"]["labels"]["tier"] = json!(label)).unwrap())
}

fn told(event: &WatchEvent<ConfigMap>) -> String {
    match event {
        WatchEvent::Added(object) => format!("+{}", object.name_any()),
        WatchEvent::Modified(object) => format!("~{}", object.name_any()),
        WatchEvent::Deleted(object) => format!("-{}", object.name_any()),
        WatchEvent::Bookmark(_) => "bookmark".into(),
        WatchEvent::Error(status) => format!("{} {}", status.code, status.reason),
    }
}

async fn all(api: &Api<ConfigMap>, params: WatchParams, since: &str) -> Vec<String> {
    let events: Vec<WatchEvent<ConfigMap>> = api.watch(&params, since).await.unwrap().try_collect().await.unwrap();
    events.iter().map(told).collect()
}

#[test]
fn a_watch_tells_what_happened_since_a_version_and_ends_with_a_bookmark_in_time() {
    run(async {
        let server = server();
        let since = put(&server, "a", "x");
        put(&server, "b", "x");
        relabel(&server, "a", "y");
        server.delete("ConfigMap", "shop", "b").unwrap();
        let start = Instant::now();
        let params = WatchParams::default().timeout(20);
        assert_eq!(all(&maps(&server), params, &since).await, ["+b", "~a", "-b", "bookmark"]);
        assert_eq!(start.elapsed(), Duration::from_secs(20));
    });
}

#[test]
fn a_watch_without_a_version_begins_with_what_is_there() {
    run(async {
        let server = server();
        put(&server, "a", "x");
        let params = || WatchParams { bookmarks: false, ..WatchParams::default().timeout(5) };
        assert_eq!(all(&maps(&server), params(), "0").await, ["+a"]);
        assert_eq!(all(&maps(&server), params(), "").await, ["+a"]);
    });
}

#[test]
fn a_watch_without_bookmarks_is_silent_until_it_ends() {
    run(async {
        let server = server();
        let params = WatchParams { bookmarks: false, ..WatchParams::default().timeout(200) };
        assert!(all(&maps(&server), params, "0").await.is_empty());
    });
}

#[test]
fn an_object_that_no_longer_matches_is_deleted_for_this_watch() {
    run(async {
        let server = server();
        let since = put(&server, "a", "x");
        relabel(&server, "a", "y");
        let left = relabel(&server, "a", "x");
        relabel(&server, "a", "z");
        let params = WatchParams { bookmarks: false, ..WatchParams::default().timeout(5).labels("tier=x") };
        assert_eq!(all(&maps(&server), params.clone(), &since).await, ["-a", "+a", "-a"]);
        let events: Vec<_> = maps(&server).watch(&params, &left).await.unwrap().try_collect().await.unwrap();
        let [WatchEvent::Deleted(last)] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(last.labels()["tier"], "x");
        assert_eq!(last.resource_version().unwrap(), version(&server.get("ConfigMap", "shop", "a").unwrap()));
    });
}

#[test]
fn a_version_older_than_the_history_is_gone() {
    run(async {
        let server = server();
        let since = put(&server, "a", "x");
        put(&server, "b", "x");
        server.compact();
        assert_eq!(all(&maps(&server), WatchParams::default().timeout(5), &since).await, ["410 Expired"]);
        server.keep_changes(2);
        let since = put(&server, "c", "x");
        for name in ["d", "e", "f"] {
            put(&server, name, "x");
        }
        assert_eq!(all(&maps(&server), WatchParams::default().timeout(5), &since).await, ["410 Expired"]);
    });
}

#[test]
fn a_bookmark_comes_every_minute_and_holds() {
    run(async {
        let server = server();
        let since = put(&server, "a", "x");
        let api = maps(&server);
        let mut events = Box::pin(api.watch(&WatchParams::default().timeout(290), &since).await.unwrap());
        // Of another kind: no event, but the bookmark moves past it.
        server.seed(web(1)).unwrap();
        let start = Instant::now();
        let Some(Ok(WatchEvent::Bookmark(bookmark))) = events.next().await else { panic!("no bookmark") };
        assert_eq!(start.elapsed(), Duration::from_mins(1));
        assert_eq!(bookmark.metadata.resource_version, server.with(|store| store.revision()).to_string());
    });
}

#[test]
fn a_list_and_watch_watcher_sees_everything_and_survives_the_end_of_history() {
    run(async {
        let server = server();
        put(&server, "a", "x");
        let config =
            watcher::Config { list_semantic: watcher::ListSemantic::MostRecent, ..watcher::Config::default() }.timeout(20);
        let mut events = Box::pin(watcher(maps(&server), config));
        let mut heard = Vec::new();
        let hand = async {
            seconds(1).await;
            put(&server, "b", "x");
            seconds(25).await;
            relabel(&server, "b", "y");
            server.compact();
            put(&server, "c", "x");
            server.compact();
            seconds(1).await;
            server.delete("ConfigMap", "shop", "a").unwrap();
            seconds(60).await;
        };
        let listen = async {
            while let Some(event) = events.next().await {
                heard.push(match event {
                    Ok(watcher::Event::Init) => "init".to_owned(),
                    Ok(watcher::Event::InitDone) => "done".to_owned(),
                    Ok(watcher::Event::InitApply(object)) => format!("={}", object.name_any()),
                    Ok(watcher::Event::Apply(object)) => format!("+{}", object.name_any()),
                    Ok(watcher::Event::Delete(object)) => format!("-{}", object.name_any()),
                    Err(error) => format!("{error:?}").chars().take(10).collect(),
                });
            }
        };
        tokio::select! {
            biased;
            () = hand => {}
            () = listen => {}
        }
        let heard = heard.join(" ");
        assert!(heard.starts_with("init =a done +b "), "{heard}");
        // The history ended under it: it has to list anew, and then knows the same as the server.
        assert!(heard.contains("WatchError"), "{heard}");
        assert!(heard.contains("init =a =b =c done -a") || heard.ends_with("init =b =c done"), "{heard}");
    });
}

#[test]
fn a_watch_of_a_dynamic_kind_across_namespaces_works_as_a_typed_one() {
    run(async {
        let server = server();
        server.seed(web(1)).unwrap();
        let kind = kube::core::ApiResource::erase::<Deployment>(&());
        let api: Api<DynamicObject> = Api::all_with(client(&server), &kind);
        let mut events = Box::pin(watcher(api, watcher::Config::default().fields("metadata.name=web")));
        loop {
            if let watcher::Event::InitApply(object) = events.next().await.unwrap().unwrap() {
                break assert_eq!(object.data["spec"]["replicas"], 1);
            }
        }
    });
}

#[test]
fn watch_events_lag_and_keep_their_order() {
    run(async {
        let server = server();
        let since = put(&server, "a", "x");
        let link = link(&server);
        link.lag(Duration::from_millis(100)..=Duration::from_secs(3));
        let api: Api<ConfigMap> = Api::namespaced(link.client(), "shop");
        let mut events = Box::pin(api.watch(&WatchParams::default().timeout(60), &since).await.unwrap());
        let start = Instant::now();
        for index in 0..20 {
            put(&server, &format!("c{index:02}"), "x");
        }
        for index in 0..20 {
            let event = events.next().await.unwrap().unwrap();
            assert_eq!(told(&event), format!("+c{index:02}"));
            assert!(start.elapsed() >= Duration::from_millis(100));
        }
        assert!(
            start.elapsed() <= Duration::from_secs(3) + Duration::from_millis(50),
            "lags of a burst do not add up: {:?}",
            start.elapsed()
        );
    });
}
