//! What a decision costs: the same load on the same gateways without a limit and with one that admits all of it, in turn.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::contender::{FREE, Running};
use super::demand::Demand;
use super::plan::{Rule, Stream};
use super::{cpu, float, median};
use crate::matrix::report::millis;

/// Twice what is asked for.
pub(super) const RATE: u32 = 1_000;
const WINDOW: Duration = Duration::from_secs(10);

pub(super) fn rule() -> Rule {
    Rule { name: "plain".to_owned(), max: u64::from(RATE) * WINDOW.as_secs() * 2, window: WINDOW, keyed: false }
}

#[derive(Clone, Copy, Default)]
struct Round {
    gateway_micros: f64,
    redis_micros: f64,
    p50: Duration,
    p99: Duration,
}

/// The median over the rounds of what the limit adds.
pub(super) struct Cost {
    pub(super) contender: String,
    pub(super) gateway_micros: f64,
    pub(super) redis_micros: f64,
    pub(super) added_p50_ms: f64,
    pub(super) added_p99_ms: f64,
    /// Without a limit.
    pub(super) free_p99_ms: f64,
    free_micros: f64,
}

pub(super) fn measure(running: &Running, quick: bool) -> Result<Cost> {
    let name = running.contender.name();
    let (rounds, time) = if quick { (2, Duration::from_millis(1_200)) } else { (7, Duration::from_secs(4)) };
    let free = Stream::paced(Rule { name: FREE.to_owned(), ..rule() }, f64::from(RATE));
    let limited = Stream::paced(rule(), f64::from(RATE));
    let mut pairs = Vec::new();
    for warm_up in [&free, &limited] {
        round(running, warm_up, time / 3)?;
    }
    for nth in 1..=rounds {
        eprintln!("  {name}, cost of a decision, round {nth} of {rounds}");
        pairs.push((round(running, &free, time)?, round(running, &limited, time)?));
    }
    let middle = |of: fn(&(Round, Round)) -> f64| median(pairs.iter().map(of).collect());
    Ok(Cost {
        contender: name,
        gateway_micros: middle(|(free, limited)| limited.gateway_micros - free.gateway_micros),
        redis_micros: middle(|(free, limited)| limited.redis_micros - free.redis_micros),
        added_p50_ms: middle(|(free, limited)| millis(limited.p50) - millis(free.p50)),
        added_p99_ms: middle(|(free, limited)| millis(limited.p99) - millis(free.p99)),
        free_p99_ms: middle(|(free, _)| millis(free.p99)),
        free_micros: middle(|(free, _)| free.gateway_micros),
    })
}

fn round(running: &Running, stream: &Stream, time: Duration) -> Result<Round> {
    let (gateways, redis) = (running.gateways(), running.redis());
    let before = (cpu::of(&gateways), cpu::of(&redis));
    let mut demand = Demand::start(&running.nodes, std::slice::from_ref(stream));
    thread::sleep(time);
    demand.stop();
    let used = (cpu::of(&gateways).saturating_sub(before.0), cpu::of(&redis).saturating_sub(before.1));
    let counts = demand.total();
    let why = demand.failure().unwrap_or_else(|| "they were refused".to_owned());
    ensure!(counts.admitted * 100 >= counts.total() * 99, "{} of {counts:?}: {why}", stream.rule.name);
    let per_request = |used: Duration| used.as_secs_f64() * 1e6 / float(counts.total().max(1));
    Ok(Round {
        gateway_micros: per_request(used.0),
        redis_micros: per_request(used.1),
        p50: demand.latency(0, 0.5),
        p99: demand.latency(0, 0.99),
    })
}

impl Cost {
    pub(super) const COLUMNS: [&str; 7] = [
        "contender",
        "gateway µs",
        "redis-server µs",
        "together",
        "added p50 ms",
        "added p99 ms",
        "without a limit: µs, p99 ms",
    ];

    pub(super) fn cells(&self) -> Vec<String> {
        vec![
            self.contender.clone(),
            format!("{:.1}", self.gateway_micros),
            format!("{:.1}", self.redis_micros),
            format!("{:.1}", self.gateway_micros + self.redis_micros),
            format!("{:.2}", self.added_p50_ms),
            format!("{:.2}", self.added_p99_ms),
            format!("{:.1}, {:.2}", self.free_micros, self.free_p99_ms),
        ]
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "contender": self.contender, "gateway_micros": self.gateway_micros, "redis_micros": self.redis_micros,
            "added_p50_ms": self.added_p50_ms, "added_p99_ms": self.added_p99_ms,
            "free_micros": self.free_micros, "free_p99_ms": self.free_p99_ms,
        })
    }
}
