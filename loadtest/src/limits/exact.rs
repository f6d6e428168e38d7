//! How exact, and how much of it is used: streams of requests over all nodes at once; windows and use are judged from stamps,
//! refusals are what clients were told.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use tidegate_model::Nanos;

use super::contender::Running;
use super::demand::Demand;
use super::plan::{Case, Stream};
use super::verdict::{Judged, judge};
use super::{cpu, float};
use crate::generator::Counts;
use crate::linux;
use crate::matrix::report::millis;

/// One stream of one contender.
pub(super) struct Row {
    pub(super) contender: String,
    pub(super) nodes: usize,
    pub(super) stream: Stream,
    pub(super) worst: f64,
    /// Where demand is above the limit.
    pub(super) utilisation: Option<f64>,
    /// Share of the requests, where demand is below the limit.
    pub(super) refused: Option<f64>,
    pub(super) permits: u64,
    /// 503: no leader answered.
    pub(super) undecided: u64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

/// What a case cost.
pub(super) struct Bill {
    pub(super) contender: String,
    pub(super) nodes: usize,
    pub(super) case: &'static str,
    pub(super) requests: u64,
    pub(super) messages: f64,
    pub(super) log_bytes: f64,
    /// Of gateways and Redis, per request, everything included.
    pub(super) cpu_micros: f64,
}

/// Runs one case and judges it.
pub(super) fn measure(running: &Running, case: &Case) -> Result<(Vec<Row>, Bill)> {
    let pids = [running.gateways(), running.redis()].concat();
    let (sent, used) = (running.traffic()?, cpu::of(&pids));
    let mut demand = Demand::start(&running.nodes, &case.streams);
    let early = watch(running, case, &demand)?;
    demand.stop();
    let (sent, used) = (running.traffic()?.since(sent), cpu::of(&pids).saturating_sub(used));
    let all = demand.total();
    let name = running.contender.name();
    if let (true, Some(why)) = (all.failed > 0, demand.failure()) {
        eprintln!("  {name}: {} of {} requests failed, first: {why}", all.failed, all.total());
    }
    ensure!(all.failed * 100 <= all.total(), "{name}: more than one of a hundred requests failed");
    thread::sleep(Duration::from_millis(200)); // the last stamps are on their way to the file
    let judged = judge(&running.stamps()?)?;
    let mut rows = Vec::new();
    for (nth, (stream, early)) in case.streams.iter().zip(early).enumerate() {
        let Some(judged) = judged.get(&stream.rule.name) else { bail!("{name}: {} has no stamps", stream.rule.name) };
        let counts = demand.counts(nth);
        ensure!(judged.permits >= counts.admitted, "{name}: clients were admitted that no stamp tells of");
        let counts = counts.since(early);
        rows.push(row(running, &demand, case, nth, judged, counts));
    }
    let thousand = float(all.total().max(1)) / 1_000.0;
    let bill = Bill {
        contender: name,
        nodes: running.nodes.len(),
        case: case.name,
        requests: all.total(),
        messages: float(sent.messages) / thousand,
        log_bytes: float(sent.log_bytes) / thousand,
        cpu_micros: used.as_secs_f64() * 1e3 / thousand,
    };
    Ok((rows, bill))
}

/// Waits until the case is over, tells how it goes; what each stream's clients had been told when its first window ended.
fn watch(running: &Running, case: &Case, demand: &Demand) -> Result<Vec<Counts>> {
    let began = Instant::now();
    let mut early: Vec<Option<Counts>> = case.streams.iter().map(|_| None).collect();
    let mut told = Duration::ZERO;
    while began.elapsed() < case.lasts {
        if linux::asked_to_stop() {
            bail!("stopped");
        }
        thread::sleep(Duration::from_millis(20));
        for (nth, (early, stream)) in early.iter_mut().zip(&case.streams).enumerate() {
            if early.is_none() && began.elapsed() >= stream.warm_up() {
                *early = Some(demand.counts(nth));
            }
        }
        if began.elapsed() >= told + Duration::from_secs(5) {
            told = began.elapsed();
            let (all, name) = (demand.total(), running.contender.name());
            let (seconds, of, what) = (told.as_secs(), case.lasts.as_secs(), case.name);
            eprintln!("  {name}, {what}: {seconds} of {of} s, {} asked, {} admitted", all.total(), all.admitted);
        }
    }
    Ok(early.into_iter().map(Option::unwrap_or_default).collect())
}

fn row(running: &Running, demand: &Demand, case: &Case, nth: usize, judged: &Judged, counts: Counts) -> Row {
    let stream = &case.streams[nth];
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let (from, to) = (nanos(stream.warm_up()), nanos(case.lasts));
    let (from, to) = (Nanos(demand.began.0 + from), Nanos(demand.began.0 + to));
    let used = judged.utilisation(stream.rule.max, stream.rule.window, from, to);
    Row {
        contender: running.contender.name(),
        nodes: running.nodes.len(),
        worst: judged.worst,
        utilisation: used.filter(|_| stream.is_above()),
        refused: (!stream.is_above()).then(|| float(counts.refused) / float(counts.total().max(1))),
        permits: judged.permits,
        undecided: counts.undecided,
        p50: demand.latency(nth, 0.5),
        p99: demand.latency(nth, 0.99),
        stream: stream.clone(),
    }
}

impl Row {
    pub(super) const COLUMNS: [&str; 9] = [
        "contender",
        "nodes",
        "stream",
        "L",
        "worst window/L",
        "used of L",
        "refused below L",
        "no decision",
        "p50 / p99 ms",
    ];

    pub(super) fn cells(&self) -> Vec<String> {
        let percent = |share: Option<f64>| share.map_or(String::new(), |share| format!("{:.2} %", share * 100.0));
        vec![
            self.contender.clone(),
            self.nodes.to_string(),
            self.stream.rule.name.clone(),
            self.stream.rule.max.to_string(),
            format!("{:.3}", self.worst),
            percent(self.utilisation),
            percent(self.refused),
            self.undecided.to_string(),
            format!("{:.1} / {:.1}", millis(self.p50), millis(self.p99)),
        ]
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "contender": self.contender, "nodes": self.nodes, "stream": self.stream.rule.name,
            "shape": self.stream.shape.name(), "max": self.stream.rule.max,
            "window_s": self.stream.rule.window.as_secs(), "demand_over_limit": self.stream.factor,
            "worst_window_ratio": self.worst, "utilisation": self.utilisation, "refused_share": self.refused,
            "permits": self.permits, "undecided": self.undecided,
            "p50_ms": millis(self.p50), "p99_ms": millis(self.p99),
        })
    }
}

impl Bill {
    pub(super) const COLUMNS: [&str; 7] =
        ["contender", "nodes", "case", "requests", "messages / 1,000", "log bytes / 1,000", "CPU µs / request"];

    pub(super) fn cells(&self) -> Vec<String> {
        vec![
            self.contender.clone(),
            self.nodes.to_string(),
            self.case.to_owned(),
            self.requests.to_string(),
            format!("{:.0}", self.messages),
            format!("{:.0}", self.log_bytes),
            format!("{:.1}", self.cpu_micros),
        ]
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "contender": self.contender, "nodes": self.nodes, "case": self.case, "requests": self.requests,
            "messages_per_1000": self.messages, "log_bytes_per_1000": self.log_bytes, "cpu_micros_per_request": self.cpu_micros,
        })
    }
}
