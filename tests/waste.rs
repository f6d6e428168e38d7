//! What a backend that dies under load costs: requests come whether or not others were answered.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{Backend, Cluster};

const NODES: usize = 5;
/// Between two requests, whichever nodes they go to.
const PACE: Duration = Duration::from_millis(2);
/// Failures in a row that open the breaker of one node.
const NEEDED: usize = 10;
/// Of five observers.
const QUORUM: usize = 3;

#[derive(Debug)]
struct Answered {
    took: Duration,
    status: u16,
    refused: bool,
}

async fn cluster(backend: &Backend, nodes: usize, more: &str) -> Cluster {
    let cluster = Cluster::start(nodes).await;
    let at = backend.address;
    let document = format!(
        "\
version: 1
upstreams:
  - name: echo
    endpoints: [{{url: \"http://{at}\"}}]
    retries: {{max: 0}}
    breaker: {{consecutive: {NEEDED}, min_requests: 1000000, open_for: 60s}}
{more}
routes:
  - {{name: all, match: {{path: /*}}, to: [{{upstream: echo}}]}}
"
    );
    cluster.apply(&document).await;
    cluster
}

/// Asks all nodes in turn, one request each [`PACE`], for so long.
async fn load(
    cluster: &Cluster,
    span: Duration,
    headers: impl Fn(usize) -> Option<(&'static str, &'static str)>,
) -> Vec<Answered> {
    let (mut asked, begun) = (JoinSet::new(), Instant::now());
    for number in 0.. {
        let due = begun + PACE * number;
        if due > begun + span {
            break;
        }
        tokio::time::sleep_until(due).await;
        let number = usize::try_from(number).unwrap();
        let (client, url) = (cluster.client.clone(), cluster.nodes[number % cluster.nodes.len()].url("/x"));
        let header = headers(number);
        asked.spawn(async move {
            let asked = Instant::now();
            let answer = client.get(&url, header.as_slice()).await.unwrap();
            let refused = String::from_utf8_lossy(&answer.body).contains("breaker_open");
            Answered { took: asked.elapsed(), status: answer.status.as_u16(), refused }
        });
    }
    asked.join_all().await
}

fn none(_: usize) -> Option<(&'static str, &'static str)> {
    None
}

/// What reached the backend, or failed to, after it died.
async fn wasted(cluster: &Cluster, backend: &Backend, die: impl Fn(&Backend), counts: bool) -> usize {
    let healthy = load(cluster, Duration::from_secs(1), none).await;
    assert!(healthy.iter().all(|answer| answer.status == 200), "{healthy:?}");
    let before = backend.hits();
    die(backend);
    let answers = load(cluster, Duration::from_secs(2), none).await;
    let refused = answers.iter().filter(|answer| answer.refused).count();
    let failed = answers.iter().filter(|answer| answer.status != 200).count() - refused;
    let wasted = if counts { backend.hits() - before } else { failed };
    let slowest = answers.iter().filter(|answer| answer.refused).map(|answer| answer.took).max();
    println!(
        "{} nodes: wasted {wasted}, failed {failed}, refused {refused}, slowest refusal {slowest:?}",
        cluster.nodes.len()
    );
    assert!(refused > 100, "the breaker opened");
    wasted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_whose_port_closes_under_load_costs_what_one_node_needs_and_a_quorum() {
    let backend = Backend::start().await;
    let cluster = cluster(&backend, NODES, "").await;
    let wasted = wasted(&cluster, &backend, Backend::vanish, false).await;
    assert!(wasted <= NEEDED + QUORUM, "{wasted} requests were wasted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_refuses_under_load_costs_what_one_node_needs_and_a_quorum() {
    let backend = Backend::start().await;
    let cluster = cluster(&backend, NODES, "").await;
    let wasted = wasted(&cluster, &backend, |backend| backend.answer_with(503), true).await;
    assert!(wasted <= NEEDED + QUORUM, "{wasted} requests were wasted");
}

/// Nobody can know before the first of them is late: what was sent until then is lost, and hardly more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_falls_silent_under_load_costs_what_was_under_way_and_a_quorum() {
    const LATE: Duration = Duration::from_millis(500);
    let backend = Backend::start().await;
    let cluster = cluster(&backend, NODES, "    timeouts: {first_byte: 500ms}").await;
    let wasted = wasted(&cluster, &backend, Backend::fall_silent, true).await;
    let under_way = usize::try_from(LATE.as_millis() / PACE.as_millis()).unwrap();
    assert!(wasted <= under_way + NEEDED + QUORUM, "{wasted} requests were wasted, {under_way} of them were under way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failure_makes_no_other_request_wait() {
    let backend = Backend::start().await;
    let cluster = cluster(&backend, 3, "").await;
    load(&cluster, Duration::from_millis(500), none).await;
    // One in fifty fails: hardly ever two in a row on a node.
    let some = |number: usize| number.is_multiple_of(50).then_some(("x-answer", "503"));
    let answers = load(&cluster, Duration::from_secs(2), some).await;
    let failed = answers.iter().filter(|answer| answer.status == 503).count();
    assert_eq!((failed, answers.iter().filter(|answer| answer.refused).count()), (answers.len().div_ceil(50), 0));
    let mut took: Vec<_> = answers.iter().map(|answer| answer.took).collect();
    took.sort();
    println!("median {:?}, slowest {:?}", took[took.len() / 2], took.last());
    assert!(took[took.len() * 99 / 100] < Duration::from_millis(50), "{:?}", took[took.len() * 99 / 100]);
}
