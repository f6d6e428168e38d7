//! What the demo says at the end. The last line is for programs and never changes its shape.

use anyhow::{Context, Result};
use serde_json::Value;

use super::Story;
use super::stage::{Stage, WINDOW};
use super::view::{failures, millis};

/// Judges the run from the decision logs and prints the summary. `false`: the limit was exceeded, or a request went by it.
pub(crate) fn tell(story: &Story, mut stage: Stage) -> Result<bool> {
    let counts = story.load.counts();
    let (failed, cut) = failures(&stage, &story.load);
    stage.end_nodes()?;
    let verdict = verify(&stage)?;
    let ratio = verdict["worst_window_ratio"].as_f64().context("the checker printed no worst_window_ratio")?;
    let share = story.window.admitted_share(story.max);
    let join_ms = stage.joined.iter().map(|(_, took)| took.as_millis()).max().unwrap_or(0);

    println!(
        "\n{} requests in {:.0} s through {}",
        counts.total(),
        story.took.as_secs_f64(),
        stage.balancer.kind.name()
    );
    println!(
        "  limit    {} in {} s over all nodes: {} admitted ({:.1} % of what it allows), {} refused with 429",
        story.max,
        WINDOW.as_secs(),
        counts.admitted,
        share * 100.0,
        counts.refused
    );
    if counts.undecided > 0 {
        println!("           {} refused with 503 limit_unavailable, while nobody led", counts.undecided);
    }
    println!(
        "  exact    {} decisions in the logs of all nodes, fullest window {ratio:.4} of the limit; {} requests that the \
         backend saw are in no log",
        verdict["permits"], verdict["backend_requests_missing"]
    );
    println!(
        "  answers  {failed} failed, {cut} cut; from the instant they were due: p50 {}, p99 {}",
        millis(story.load.latency(0.5)),
        millis(story.load.latency(0.99))
    );
    for (nth, took) in &stage.joined {
        println!("  join     {} ready {} ms after its start, during the spike", stage.name(*nth), took.as_millis());
    }
    if let Some(killed) = &stage.killed {
        let next = killed.succeeded_after.map_or("never".to_owned(), |took| format!("{} ms later", took.as_millis()));
        let back =
            killed.back_after.map_or("not back".to_owned(), |took| format!("ready again in {} ms", took.as_millis()));
        println!(
            "  failover {} led and was killed with {} connections open; the next leader {next}; {back}",
            stage.name(killed.nth),
            killed.connections
        );
    }
    describe_failures(story, failed);
    let missing = verdict["backend_requests_missing"].as_u64().unwrap_or(0);
    if failed > 0 || ratio > 1.0 || missing > 0 {
        println!("  kept     {}", stage.keep());
    }
    println!(
        "demo requests={} failed={failed} cut={cut} worst_window_ratio={ratio:.4} admitted_share={share:.3} join_ms={join_ms}",
        counts.total()
    );
    Ok(ratio <= 1.0 && missing == 0)
}

/// The checker's verdict. It also says no, with its exit code, when a limit was exceeded.
fn verify(stage: &Stage) -> Result<Value> {
    let mut command = stage.binary.command();
    command.args(["quota", "verify", "-o", "json", "--requests"]).arg(stage.seen_requests());
    command.args(stage.cluster.nodes.iter().map(|node| &node.data).filter(|data| data.is_dir()));
    let output = command.output().context("cannot run the checker")?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the checker printed no JSON: {}", String::from_utf8_lossy(&output.stderr)))
}

fn describe_failures(story: &Story, failed: u64) {
    if failed == 0 {
        return;
    }
    for failure in story.load.failures().iter().take(5) {
        println!("  failure  {} from {}", failure.what, failure.node.as_deref().unwrap_or("nobody"));
    }
}
