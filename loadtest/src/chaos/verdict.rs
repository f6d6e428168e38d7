//! What is left when all is mended: nothing acknowledged is lost, histories have an order, no window holds too much.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::admin::{Question, Said, ask};
use super::load::Counts;
use super::models::Read;
use super::stage::Stage;
use super::writers::Done;

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Verdict {
    pub(super) ratio: f64,
    pub(super) lost: usize,
    pub(super) illegal: usize,
    /// Why it is no success, each in a line.
    pub(super) faults: Vec<String>,
}

pub(super) fn judge(stage: &mut Stage, done: &Done, requests: &Path) -> Result<Verdict> {
    let mut faults = Vec::new();
    let (illegal, undecided) = done.illegal(Read { revision: 1, text: 1 });
    faults.extend(illegal.iter().map(|what| format!("illegal: {what} has no order that explains what was answered")));
    faults.extend(undecided.iter().map(|what| format!("undecided: {what}: its history is too long to judge")));
    faults.extend(done.strange.iter().map(|what| format!("refused: {what}")));
    let lost = lost(stage, done)?;
    faults.extend(lost.iter().map(|what| format!("lost: {what}")));
    // Each log to its end.
    stage.members.iter().try_for_each(|member| member.signal(libc::SIGTERM))?;
    stage.members.iter_mut().try_for_each(super::member::Member::wait_for_end)?;
    let found = exactness(stage, requests)?;
    let ratio = found["worst_window_ratio"].as_f64().context("a ratio")?;
    if ratio > 1.0 {
        faults.push(format!("a window holds more than its limit: {found}"));
    }
    if found["backend_requests_missing"] != 0 {
        faults.push(format!("requests that no decision log knows: {found}"));
    }
    Ok(Verdict { ratio, lost: lost.len(), illegal: illegal.len(), faults })
}

/// At every node: keys and publications that somebody was told of, and that are not there.
fn lost(stage: &Stage, done: &Done) -> Result<Vec<String>> {
    let mut lost = Vec::new();
    for member in &stage.members {
        let get = |path: &str| match ask(member.at, &stage.told.token, &Question::get(path), PATIENCE) {
            Said::Answer(200, body) => Ok(body),
            Said::Answer(status, body) => bail!("{} answers {status} to {path}: {body}", member.name()),
            Said::NotAsked | Said::Unknown => bail!("{} does not answer to {path}", member.name()),
        };
        let keys = get("/v1/keys?limit=10000&stale=true")?;
        let keys: BTreeMap<u64, &str> = listed(&keys["keys"])
            .filter_map(|key| Some((key["id"].as_u64()?, key["name"].as_str().unwrap_or_default())))
            .collect();
        for (id, name) in done.keys.iter().filter(|(id, name)| keys.get(id) != Some(&name.as_str())) {
            lost.push(format!("key {id} ({name}) at {}", member.name()));
        }
        let history = get("/v1/history")?;
        let history: BTreeMap<u64, &str> = listed(&history["revisions"])
            .filter_map(|one| Some((one["revision"].as_u64()?, one["note"].as_str()?)))
            .collect();
        // Old ones are forgotten by intent.
        let (first, last) = (history.keys().next().copied(), history.keys().next_back().copied());
        for (revision, text) in &done.revisions {
            let kept = first <= Some(*revision);
            let is = history.get(revision).copied() == Some(format!("w{text}").as_str());
            if last < Some(*revision) || (kept && !is) {
                lost.push(format!("revision {revision} (w{text}) at {}", member.name()));
            }
        }
    }
    Ok(lost)
}

fn listed(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// What `tidegate quota verify` finds in all nodes' decision logs.
fn exactness(stage: &Stage, requests: &Path) -> Result<Value> {
    let mut command = stage.told.binary.command();
    command.args(["quota", "verify", "-o", "json", "--requests"]).arg(requests);
    let said = command.arg(stage.told.folder.join("evidence")).output().context("tidegate quota verify")?;
    std::fs::write(stage.told.folder.join("verify.json"), &said.stdout)?;
    serde_json::from_slice(&said.stdout).with_context(|| String::from_utf8_lossy(&said.stderr).into_owned())
}

/// The line before the last, for people.
pub(super) fn of_the_load(counts: &Counts) -> String {
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "admitted {}, refused by a limit {}, a limit could not be asked {}, failed {}",
        of(&counts.admitted),
        of(&counts.refused),
        of(&counts.unavailable),
        of(&counts.failed)
    )
}
