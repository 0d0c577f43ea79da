//! One bed, all that the integration tests rely on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "it is a test: a panic is its verdict")]

use std::time::{Duration, Instant};

use testbed::{Bed, Load, Options, Result, shop, until};

/// The seconds since `start`, with what took them, for whoever runs this with `--nocapture`.
fn lap(start: &mut Instant, what: &str) {
    eprintln!("{what}: {:.1} s", start.elapsed().as_secs_f32());
    *start = Instant::now();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bed_serves_shifts_breaks_heals_and_leaves_nothing() -> Result<()> {
    testbed::become_root()?;
    let mut start = Instant::now();
    let bed = Bed::up(Options::default()).await?;
    lap(&mut start, "up");
    shop::install(&bed, shop::Size::default()).await?;
    lap(&mut start, "shop");
    requests_arrive_in_shares_and_follow_the_weights(&bed).await?;
    lap(&mut start, "load");
    the_audit_log_names_who_wrote_what(&bed).await?;
    a_service_account_gets_in(&bed).await?;
    lap(&mut start, "identities");
    a_partition_is_silent_and_heals(&bed).await?;
    lap(&mut start, "partition");
    an_api_server_comes_back_with_its_data(&bed).await?;
    lap(&mut start, "restart");
    prometheus_sees_the_edge(&bed).await?;
    bed.down().await?;
    lap(&mut start, "down");
    let left = std::process::Command::new("ip").args(["netns", "list"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&left.stdout).contains("firedrill"), "{left:?}");
    Ok(())
}

async fn requests_arrive_in_shares_and_follow_the_weights(bed: &Bed) -> Result<()> {
    let load = Load::start(&bed.edge()?, &shop::ROUTES, 300)?;
    until("2400 requests", Duration::from_secs(30), || async {
        let seen = load.snapshot().requests;
        if seen < 2400 { Err(format!("{seen}")) } else { Ok(()) }
    })
    .await?;
    let route = shop::route("cart", &[("eu-west", 0), ("us-east", 50), ("ap-south", 50)]);
    shop::apply_server_side(bed.hub(), &route).await?;
    let moved = std::time::SystemTime::now();
    until("1200 more requests", Duration::from_secs(30), || async {
        let seen = load.snapshot().requests;
        if seen < 3600 { Err(format!("{seen}")) } else { Ok(()) }
    })
    .await?;
    let totals = load.stop().await;
    assert_eq!((totals.failed, totals.skipped), (0, 0), "{:?}", totals.failures);
    let last = totals.routes["cart"]["eu-west"].last;
    let late = last.duration_since(moved).unwrap_or_default();
    eprintln!("{} requests, slowest {:?}, last to the drained region {late:?} after the apply", totals.requests, totals.slowest);
    assert!(late < Duration::from_secs(1), "{late:?}");
    let catalog = &totals.routes["catalog"];
    let all: u64 = catalog.values().map(|seen| seen.requests).sum();
    for (region, seen) in catalog {
        let share = seen.requests * 100 / all;
        assert!((30..=37).contains(&share), "{region} had {share} % of {all}");
    }
    assert!(bed.backend("us-east")?.counts().requests >= totals.region("us-east").unwrap().requests);

    bed.backend("us-east")?.fail("/cart", 503, 1.0);
    let load = Load::start(&bed.edge()?, &["cart"], 100)?;
    until("a failure", Duration::from_secs(5), || async { load.snapshot().failures.pop().ok_or_else(|| "none".to_owned()) })
        .await?;
    bed.backend("us-east")?.recover();
    let totals = load.stop().await;
    assert!(totals.failures[0].reason.contains("503 Service Unavailable from us-east"), "{:?}", totals.failures);
    Ok(())
}

async fn the_audit_log_names_who_wrote_what(bed: &Bed) -> Result<()> {
    let (_, from) = bed.hub().audit_since(0)?;
    bed.hub().kubectl(&["--namespace=shop", "annotate", "httproute", "shop", "by=test"], None).await?;
    bed.hub().kubectl(&["--namespace=shop", "annotate", "httproute", "shop", "by-", "--dry-run=server"], None).await?;
    let (events, end) = bed.hub().audit_since(from)?;
    assert!(end > from);
    let writes: Vec<_> = events.iter().filter(|event| event.wrote() && event.user.username == "admin").collect();
    assert_eq!(writes.len(), 1, "{writes:?}");
    let object = writes[0].object_ref.clone().unwrap();
    assert_eq!((object.resource.as_str(), object.name.as_str()), ("httproutes", "shop"));
    assert_eq!(writes[0].request_object["metadata"]["annotations"]["by"], "test");
    Ok(())
}

async fn a_service_account_gets_in(bed: &Bed) -> Result<()> {
    let region = bed.region("us-east")?;
    region.kubectl(&["create", "serviceaccount", "visitor"], None).await?;
    let kubeconfig = region.service_account_kubeconfig("default", "visitor").await?;
    let path = testbed::state_folder().join("visitor.kubeconfig");
    std::fs::write(&path, kubeconfig).unwrap();
    let output =
        std::process::Command::new(&bed.tools().kubectl).args(["auth", "whoami", "--kubeconfig"]).arg(&path).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("system:serviceaccount:default:visitor"), "{output:?}");
    Ok(())
}

async fn a_partition_is_silent_and_heals(bed: &Bed) -> Result<()> {
    let region = bed.region("ap-south")?;
    let uid = region.uid().await?;
    let connect = || tokio::time::timeout(Duration::from_secs(2), tokio::net::TcpStream::connect((region.address(), 6443)));
    assert!(connect().await.is_ok_and(|connection| connection.is_ok()));
    region.partition_api()?;
    assert!(connect().await.is_err(), "it answers, if only with a refusal");
    assert_eq!(region.uid().await?, uid, "within, everything goes on");
    let load = Load::start(&bed.edge()?, &["shop"], 100)?;
    until("users still reach it", Duration::from_secs(5), || async {
        load.snapshot().region("ap-south").ok_or("no").map_err(str::to_owned)
    })
    .await?;
    assert_eq!(load.stop().await.failed, 0);
    region.partition()?;
    let load = Load::start(&bed.edge()?, &["shop"], 20)?;
    until("users are lost", Duration::from_secs(10), || async {
        load.snapshot().failures.pop().ok_or_else(|| "none".to_owned())
    })
    .await?;
    region.heal()?;
    drop(load);
    assert_eq!(region.uid().await?, uid);
    region.heal()
}

async fn an_api_server_comes_back_with_its_data(bed: &Bed) -> Result<()> {
    let region = bed.region("eu-west")?;
    let uid = region.uid().await?;
    region.stop_api();
    assert!(region.uid().await.is_err());
    region.start_api().await?;
    assert_eq!(region.uid().await?, uid);
    region.kubectl(&["--namespace=shop", "scale", "deployment", "search", "--replicas=5"], None).await?;
    until("controllers have reconnected", Duration::from_mins(1), || async {
        let args = ["--namespace=shop", "get", "deployment", "search", "--output=jsonpath={.status.availableReplicas}"];
        match region.kubectl(&args, None).await.map_err(|error| error.to_string())?.as_str() {
            "5" => Ok(()),
            seen => Err(format!("{seen} available")),
        }
    })
    .await
}

async fn prometheus_sees_the_edge(bed: &Bed) -> Result<()> {
    let url = format!("{}/api/v1/query?query=sum(traefik_service_requests_total)", bed.prometheus()?);
    let (status, body) = testbed::http_get(&url).await.unwrap();
    assert!(status == 200 && body.contains("\"value\""), "{body}");
    Ok(())
}
