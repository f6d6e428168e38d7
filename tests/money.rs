//! Budgets over real processes: what a killed one held comes back, thresholds are told to webhooks whoever leads, what was left
//! of a period is there in the next, and nothing is refused by what only looks on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use http::StatusCode;
use serde_json::Value;

use crate::harness::{Client, Cluster, Origin, answer, eventually};

fn document(origin: &Origin, limits: &str, names: &str, more: &str) -> String {
    let address = origin.address;
    format!(
        "\
version: 1
{more}limits:
{limits}
upstreams:
  - name: origin
    endpoints: [{{url: \"http://{address}\"}}]
routes:
  - name: limited
    match: {{path: /limited/*}}
    to: [{{upstream: origin}}]
    limits: [{names}]
"
    )
}

async fn ask(client: &Client, url: &str) -> Option<StatusCode> {
    client.get(url, &[]).await.ok().map(|answer| answer.status)
}

/// Calls node by node until none of them admits any more; how many each took is of no matter.
async fn drain(cluster: &Cluster, patience: Duration) {
    let (client, mut refused) = (Client::new(), 0);
    let ends = tokio::time::Instant::now() + patience;
    while refused < 60 && tokio::time::Instant::now() < ends {
        for node in cluster.nodes.iter().filter(|node| node.is_running()) {
            match ask(&client, &node.url("/limited/x")).await {
                Some(StatusCode::OK) => refused = 0,
                Some(StatusCode::TOO_MANY_REQUESTS) => refused += 1,
                _ => {}
            }
        }
        if refused > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await; // What is called back comes in a moment.
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_are_killed_again_and_again_cost_a_budget_nothing() {
    const BUDGET: usize = 4_000;
    const KILLS: usize = 6;
    const AT_A_TIME: usize = 4;
    let origin = Origin::start(|_, _| async { answer(&[], "ok") }).await;
    let mut cluster = Cluster::start(3).await;
    cluster.join().await; // No voter: a client of the quota group.
    let limits = format!("  - {{name: it, budget: {{count: {BUDGET}, per: total}}}}");
    cluster.apply(&document(&origin, &limits, "it", "")).await;
    eventually("the limit is in force everywhere", Duration::from_secs(15), async || {
        let mut good = 0;
        for node in &cluster.nodes {
            good += usize::from(ask(&cluster.client, &node.url("/limited/x")).await == Some(StatusCode::OK));
        }
        good == cluster.nodes.len()
    })
    .await;
    for kill in 0..KILLS {
        let victim = 2 + kill % 2;
        let url = cluster.nodes[victim].url("/limited/x");
        let busy = Arc::new(AtomicBool::new(true));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..AT_A_TIME {
            let (client, url, busy) = (Client::new(), url.clone(), Arc::clone(&busy));
            callers.spawn(async move {
                while busy.load(Ordering::Relaxed) {
                    let _killed = ask(&client, &url).await;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        cluster.nodes[victim].kill().await;
        busy.store(false, Ordering::Relaxed);
        callers.join_all().await;
        // Sometimes before its leases lapse in the ledger, sometimes long after.
        tokio::time::sleep(Duration::from_millis(if kill < 3 { 0 } else { 5_500 })).await;
        cluster.nodes[victim].spawn(None);
        cluster.nodes[victim].wait_until_ready().await;
        eventually("the journal of the killed process is closed", Duration::from_secs(20), async || {
            cluster.nodes[victim].log().matches("what a former process held of budgets is settled").count() > kill / 2
        })
        .await;
    }
    let before = origin.asked("GET /limited/x");
    assert!(before < BUDGET * 3 / 4, "there is something left to be found: {before}");
    drain(&cluster, Duration::from_secs(90)).await;
    let spent = origin.asked("GET /limited/x");
    let lost = KILLS * AT_A_TIME;
    assert!(spent <= BUDGET, "{spent} of {BUDGET}");
    // What was on its way to the backend when its process was killed was taken, and may not have been seen.
    assert!(spent + lost >= BUDGET, "{spent} of {BUDGET}: {KILLS} kills cost more than {lost}");
    let verdict = cluster.verify(&[]).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    let leftover = std::fs::read_dir(cluster.nodes[2].data.join("journal")).unwrap().count();
    assert!(leftover <= 1, "journals that are closed are deleted: {leftover} are there");
}

/// Alerts as a receiver saw them: how often each id, and what it said.
#[derive(Default)]
struct Received {
    by_id: Mutex<BTreeMap<String, (usize, u64)>>,
    wrong: AtomicUsize,
}

impl Received {
    fn percents(&self) -> Vec<u64> {
        let mut percents: Vec<_> = self.by_id.lock().unwrap().values().map(|(_, percent)| *percent).collect();
        percents.sort_unstable();
        percents
    }

    fn take(&self, headers: &http::HeaderMap, body: &[u8], key: &str) {
        let said: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let (signature, id) = (text("tidegate-signature"), text("tidegate-alert"));
        let seconds = signature.split(['=', ',']).nth(1).unwrap_or_default();
        let signed = [seconds.as_bytes(), b".", body].concat();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), &signed);
        let hex = tag.as_ref().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        if signature != format!("t={seconds},v1={hex}") || said["id"] != *id || said["limit"] != "it" {
            self.wrong.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut by_id = self.by_id.lock().unwrap();
        by_id.entry(id).or_insert((0, said["percent"].as_u64().unwrap())).0 += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_threshold_reaches_every_webhook_under_one_id_though_leaders_die_and_a_receiver_is_down() {
    const KEY: &str = "a key of receivers";
    let origin = Origin::start(|_, _| async { answer(&[], "ok") }).await;
    let (steady, late) = (Arc::<Received>::default(), Arc::<Received>::default());
    let down = Arc::new(AtomicBool::new(true));
    let hook = {
        let (steady, late, down) = (Arc::clone(&steady), Arc::clone(&late), Arc::clone(&down));
        Origin::start(move |parts, body| {
            let refuses = parts.uri.path() == "/late" && down.load(Ordering::Relaxed);
            if !refuses {
                let received = if parts.uri.path() == "/late" { &late } else { &steady };
                received.take(&parts.headers, &body, KEY);
            }
            async move {
                let mut answer = answer(&[("location", "/steady")], "");
                if refuses {
                    *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT; // Which nobody follows.
                }
                answer
            }
        })
        .await
    };
    let mut cluster = Cluster::start(3).await;
    let secret = cluster.write("hook.key", KEY);
    let alerts = format!(
        "\
secrets: [{{name: hook, from: \"file:{}\"}}]
alerts:
  webhooks:
    - {{name: steady, url: \"http://{hook}/steady\", secret: \"${{secrets.hook}}\"}}
    - {{name: late, url: \"http://{hook}/late\", secret: \"${{secrets.hook}}\"}}
",
        secret.display(),
        hook = hook.address
    );
    let limits = "  - {name: it, budget: {count: 200, per: month}}";
    cluster.apply(&document(&origin, limits, "it", &alerts)).await;
    let spend = async |cluster: &Cluster, up_to: usize| {
        eventually("calls are admitted", Duration::from_secs(40), async || {
            for node in cluster.nodes.iter().filter(|node| node.is_running()) {
                if origin.asked("GET /limited/x") < up_to {
                    let _refused = ask(&cluster.client, &node.url("/limited/x")).await;
                }
            }
            origin.asked("GET /limited/x") >= up_to
        })
        .await;
    };
    spend(&cluster, 110).await;
    eventually("half is told", Duration::from_secs(15), async || steady.percents() == [50]).await;
    for (up_to, percents) in [(175, [50, 80].as_slice()), (200, &[50, 80, 100])] {
        spend(&cluster, up_to).await;
        // Its state is all that says so: what passed is told by whoever leads next, if not by this one.
        let leader = cluster.leader("quota").await;
        cluster.nodes[leader].kill().await;
        eventually("it is told", Duration::from_secs(30), async || {
            // What the dead one had not reported yet counts when its lease has lapsed, and somebody asks.
            for node in cluster.nodes.iter().filter(|node| node.is_running()) {
                if origin.asked("GET /limited/x") >= 200 {
                    let _refused = ask(&cluster.client, &node.url("/limited/x")).await;
                }
            }
            steady.percents() == percents
        })
        .await;
        cluster.nodes[leader].spawn(None);
        cluster.nodes[leader].wait_until_ready().await;
    }
    assert!(late.percents().is_empty(), "a redirect is not followed, and nothing was taken");
    down.store(false, Ordering::Relaxed);
    eventually("the late one has all", Duration::from_secs(90), async || late.percents() == [50, 80, 100]).await;
    assert_eq!(steady.percents(), [50, 80, 100], "nobody invents another id");
    assert_eq!((steady.wrong.load(Ordering::Relaxed), late.wrong.load(Ordering::Relaxed)), (0, 0), "signed, and whole");
    // Told is told: a new leader has nothing to say.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = hook.asked("POST /late") + hook.asked("POST /steady");
    let leader = cluster.leader("quota").await;
    cluster.nodes[leader].kill().await;
    let other = (leader + 1) % 3;
    eventually("another leads", Duration::from_secs(15), async || {
        cluster.cli_at(other, &["quota", "top"]).await.is_ok()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(hook.asked("POST /late") + hook.asked("POST /steady"), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_minute_left_is_there_in_the_next_one_up_to_its_bound() {
    let origin = Origin::start(|_, _| async { answer(&[], "ok") }).await;
    let cluster = Cluster::start(1).await;
    // The first period that is counted carries nothing, so one before it must be seen to begin.
    let left = || 60 - SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 60;
    if left() < 15 {
        tokio::time::sleep(Duration::from_secs(left())).await; // There is time for what follows in one minute.
    }
    let limits = "  - {name: it, budget: {count: 60, per: minute, carry_over: 50%}}";
    cluster.apply(&document(&origin, limits, "it", "")).await;
    let url = cluster.nodes[0].url("/limited/x");
    eventually("the budget is in force", Duration::from_secs(10), async || {
        ask(&cluster.client, &url).await == Some(StatusCode::OK)
    })
    .await;
    while origin.asked("GET /limited/x") < 20 {
        assert_eq!(ask(&cluster.client, &url).await, Some(StatusCode::OK));
    }
    tokio::time::sleep(Duration::from_secs(left())).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await; // The leader opens the next minute when it begins.
    // Forty were left, thirty are carried.
    drain(&cluster, Duration::from_secs(30)).await;
    assert_eq!(origin.asked("GET /limited/x") - 20, 90);
    let verdict = cluster.verify(&[]).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.5, "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_looks_on_refuses_nothing_and_counts_what_it_would_have_refused_whatever_its_kind() {
    let origin = Origin::start(|_, _| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        answer(&[("x-cost", "3")], "ok")
    })
    .await;
    let cluster = Cluster::start(1).await;
    let limits = "  - {name: window, window: 1m, max: 3, mode: observe}
  - {name: bucket, rate: 1/m, burst: 3, mode: observe}
  - {name: places, concurrency: 3, mode: observe}
  - {name: calendar, calendar: month, max: 3, mode: observe}
  - {name: count, budget: {count: 3, per: total}, mode: observe}
  - {name: tokens, budget: {tokens: 9, per: month}, cost: {from: \"header:x-cost\", estimate: 3}, mode: observe}";
    let names = ["window", "bucket", "places", "calendar", "count", "tokens"];
    cluster.apply(&document(&origin, limits, &names.join(", "), "")).await;
    let url = cluster.nodes[0].url("/limited/x");
    eventually("the limits are in force", Duration::from_secs(10), async || {
        ask(&cluster.client, &url).await == Some(StatusCode::OK)
    })
    .await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let (client, url) = (Client::new(), url.clone());
        calls.spawn(async move { ask(&client, &url).await });
    }
    let statuses = calls.join_all().await;
    assert!(statuses.iter().all(|status| *status == Some(StatusCode::OK)), "{statuses:?}");
    let page = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap();
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    for name in names {
        let would = page.lines().find(|line| {
            line.starts_with("tidegate_limit_decisions_total")
                && line.contains(&format!("limit=\"{name}\""))
                && line.contains("verdict=\"would_refuse\"")
        });
        let count: f64 = would.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0);
        assert!((15.0..=24.0).contains(&count), "{name}: {count} of 24, three of which fit\n{page}");
    }
}
