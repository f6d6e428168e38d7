//! The first request of a key that nobody has asked for before: one after the other, over all nodes in turn.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use super::contender::{FREE, Running};
use super::demand::exchange;
use super::plan::Rule;
use crate::histogram::Histogram;
use crate::http::{Connection, get_request};
use crate::matrix::report::millis;

const APART: Duration = Duration::from_millis(8);

/// So large that each node has a share worth holding.
pub(super) fn rule() -> Rule {
    Rule { name: "cold".to_owned(), max: 300, window: Duration::from_secs(10), keyed: true }
}

pub(super) struct Cold {
    pub(super) contender: String,
    pub(super) keys: usize,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    /// The same on a path without a limit.
    pub(super) free_p99: Duration,
    pub(super) refused: usize,
}

pub(super) fn measure(running: &Running, quick: bool) -> Result<Cold> {
    let keys = if quick { 150 } else { 1_000 };
    let (_, free) = ask(running, FREE, keys)?;
    let (refused, cold) = ask(running, &rule().name, keys)?;
    let contender = running.contender.name();
    eprintln!("  {contender}, cold keys: p99 {:.1} ms", millis(cold.quantile(0.99)));
    let (p50, p99, free_p99) = (cold.quantile(0.5), cold.quantile(0.99), free.quantile(0.99));
    Ok(Cold { contender, keys, p50, p99, free_p99, refused })
}

fn ask(running: &Running, path: &str, keys: usize) -> Result<(usize, Histogram)> {
    let nodes = running.nodes.len();
    let mut connections: Vec<Option<Connection>> = (0..nodes).map(|_| None).collect();
    for (kept, node) in connections.iter_mut().zip(&running.nodes) {
        exchange(kept, *node, &get_request("load.test", &format!("/{FREE}"), &[])).map_err(|why| anyhow!(why))?;
    }
    let (took, mut refused) = (Histogram::default(), 0);
    for key in 0..keys {
        thread::sleep(APART);
        let request = get_request("load.test", &format!("/{path}"), &[("x-key", &format!("cold-{key}"))]);
        let began = Instant::now();
        match exchange(&mut connections[key % nodes], running.nodes[key % nodes], &request) {
            Ok(200) => {}
            Ok(429 | 503) => refused += 1,
            other => bail!("{}: /{path} was answered with {other:?}", running.contender.name()),
        }
        took.record(began.elapsed());
    }
    Ok((refused, took))
}

impl Cold {
    pub(super) const COLUMNS: [&str; 6] =
        ["contender", "keys", "p50 ms", "p99 ms", "p99 ms without a limit", "not admitted"];

    pub(super) fn cells(&self) -> Vec<String> {
        vec![
            self.contender.clone(),
            self.keys.to_string(),
            format!("{:.2}", millis(self.p50)),
            format!("{:.2}", millis(self.p99)),
            format!("{:.2}", millis(self.free_p99)),
            self.refused.to_string(),
        ]
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "contender": self.contender, "keys": self.keys, "p50_ms": millis(self.p50), "p99_ms": millis(self.p99),
            "free_p99_ms": millis(self.free_p99), "not_admitted": self.refused,
        })
    }
}
