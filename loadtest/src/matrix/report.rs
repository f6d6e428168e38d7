//! The table: for people as Markdown, for programs as JSON, both with the date and the machine.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cluster::{Applied, Clusters, Cost, Idle};
use super::measure::{PerRequest, Row};
use super::subject::Subject;
use crate::decide::Decided;
use crate::node::Extent;
use crate::process::output_of;

pub(crate) struct Report {
    date: String,
    machine: Value,
    quick: bool,
    proxies: Vec<(Subject, Row)>,
    clusters: Vec<Clusters>,
    idle: Option<Idle>,
    applied: Vec<Applied>,
    decided: Vec<Decided>,
}

impl Report {
    pub(crate) fn new(quick: bool) -> Result<Self> {
        let date = output_of(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%MZ"]))?.trim().to_owned();
        Ok(Self {
            date,
            machine: machine(),
            quick,
            proxies: Vec::new(),
            clusters: Vec::new(),
            idle: None,
            applied: Vec::new(),
            decided: Vec::new(),
        })
    }

    /// Keeps the round with the median CPU cost.
    pub(crate) fn proxy(&mut self, subject: &Subject, mut rows: Vec<Row>) {
        rows.sort_by(|a, b| a.saturated.total().total_cmp(&b.saturated.total()));
        if let Some(median) = rows.get(rows.len() / 2) {
            self.proxies.push((*subject, *median));
        }
    }

    pub(crate) fn clusters(&mut self, clusters: Vec<Clusters>) {
        self.clusters = clusters;
    }

    pub(crate) fn idle(&mut self, idle: &Idle) {
        self.idle = Some(*idle);
    }

    pub(crate) fn apply(&mut self, applied: &[Applied]) {
        self.applied = applied.to_vec();
    }

    pub(crate) fn decided(&mut self, decided: Vec<Decided>) {
        self.decided = decided;
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!("# Load test, {}{}\n\n", self.date, if self.quick { " (quick)" } else { "" });
        let machine = |part: &str| self.machine[part].as_str().unwrap_or("?").to_owned();
        let _ = writeln!(text, "{} × {}, Linux {}.\n", self.machine["cpus"], machine("cpu"), machine("kernel"));
        if !self.proxies.is_empty() {
            text.push_str(
                "CPU µs per request: user + system = total, of all processes of the proxy. Added latency and the second \
                 CPU column: at 2,000 requests/s.\n\n",
            );
            text.push_str("| proxy | workers | requests/s | CPU at saturation | CPU at 2,000/s | added p50 | added p99 | memory |\n");
            text.push_str("|---|--:|--:|--:|--:|--:|--:|--:|\n");
        }
        for (subject, row) in &self.proxies {
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {} | {} | {} µs | {} µs | {} |",
                subject.name(),
                subject.workers,
                row.requests_per_second,
                split(row.saturated),
                split(row.paced),
                row.added_p50.as_micros(),
                row.added_p99.as_micros(),
                megabytes(row.resident_bytes),
            );
        }
        if !self.clusters.is_empty() {
            let _ = writeln!(text, "\nFive nodes behind one balancer, CPU µs per request of all nodes:\n");
            text.push_str("| | at saturation | at 2,000/s |\n|---|--:|--:|\n");
        }
        for clusters in &self.clusters {
            let (with, without) = (clusters.clustered, clusters.unclustered);
            let extent = name(clusters.extent);
            let _ =
                writeln!(text, "| one cluster of five, {extent} | {} | {} |", split(with.saturated), split(with.paced));
            let _ =
                writeln!(text, "| five alone, {extent} | {} | {} |", split(without.saturated), split(without.paced));
            let ratio = |of: fn(&Cost) -> PerRequest| of(&with).total() / of(&without).total();
            let (fast, paced) = (ratio(|cost| cost.saturated), ratio(|cost| cost.paced));
            let _ = writeln!(text, "| … against each other | {fast:.2} | {paced:.2} |");
        }
        if let Some(idle) = &self.idle {
            let _ = writeln!(
                text,
                "\nIdle, each node of three: {}, {:.2} % of a core, {:.1} fsyncs per second.",
                megabytes(idle.resident_bytes),
                idle.core_share * 100.0,
                idle.syncs_per_second
            );
        }
        for applied in &self.applied {
            let _ = writeln!(
                text,
                "\nA document with {} routes is served by all three nodes after {} ms.",
                applied.routes,
                applied.took.as_millis()
            );
        }
        if !self.decided.is_empty() {
            text.push_str("\nA decision, from the caller's ids to the permit, CPU time:\n\n");
        }
        for decided in &self.decided {
            let _ = writeln!(text, "- {decided}");
        }
        text
    }

    /// `DATE.md` and `DATE.json`, or `quick.*`, which nobody should keep.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let name = if self.quick { "quick" } else { self.date.split('T').next().unwrap_or("undated") };
        let json = serde_json::to_string_pretty(&self.json())? + "\n";
        for (kind, text) in [("md", self.table()), ("json", json)] {
            let file = folder.join(format!("{name}.{kind}"));
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            eprintln!("wrote {}", file.display());
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let proxies: Vec<Value> = self.proxies.iter().map(|(subject, row)| proxy_json(subject, row)).collect();
        let clusters = self.clusters.iter().map(|clusters| {
            json!({
                "extent": name(clusters.extent),
                "clustered": {"saturated": cpu_json(clusters.clustered.saturated), "paced": cpu_json(clusters.clustered.paced)},
                "unclustered": {"saturated": cpu_json(clusters.unclustered.saturated), "paced": cpu_json(clusters.unclustered.paced)},
            })
        });
        let clusters: Vec<Value> = clusters.collect();
        let idle = self.idle.as_ref().map(|idle| {
            json!({"resident_bytes": idle.resident_bytes, "core_share": idle.core_share, "syncs_per_second": idle.syncs_per_second})
        });
        let applied: Vec<Value> = self
            .applied
            .iter()
            .map(|applied| json!({"routes": applied.routes, "milliseconds": millis(applied.took)}))
            .collect();
        let decided: Vec<Value> = self
            .decided
            .iter()
            .map(|one| json!({"limits": one.limits, "threads": one.threads, "nanoseconds": one.nanos}))
            .collect();
        json!({
            "date": self.date, "quick": self.quick, "machine": self.machine,
            "proxies": proxies, "five_nodes": clusters, "idle": idle, "apply": applied, "decisions": decided,
        })
    }
}

fn name(extent: Extent) -> &'static str {
    match extent {
        Extent::Bare => "bare",
        Extent::Limited => "two limits",
        Extent::Full => "full",
    }
}

fn proxy_json(subject: &Subject, row: &Row) -> Value {
    json!({
        "name": subject.name(), "workers": subject.workers,
        "requests_per_second": row.requests_per_second,
        "saturated": cpu_json(row.saturated), "paced": cpu_json(row.paced),
        "added_p50_ms": millis(row.added_p50), "added_p99_ms": millis(row.added_p99),
        "resident_bytes": row.resident_bytes,
    })
}

pub(crate) fn cpu_json(cpu: PerRequest) -> Value {
    json!({"user_micros": cpu.user_micros, "system_micros": cpu.system_micros})
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(crate) fn split(cpu: PerRequest) -> String {
    format!("{:.1} + {:.1} = {:.1}", cpu.user_micros, cpu.system_micros, cpu.total())
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

pub(crate) fn machine() -> Value {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = file("/proc/cpuinfo");
    let cpu = cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let version = |program: &str, flag: &str| {
        let output = Command::new(program).arg(flag).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        // Some say their name, some say where they are.
        let line = line.rsplit_once("/envoy ").map_or(line, |(_, version)| version.trim());
        let named = line.to_lowercase().contains(program.split('-').next().unwrap_or(program));
        Some(if named { line.to_owned() } else { format!("{program} {line}") })
    };
    json!({
        "cpu": cpu.map_or("unknown", |(_, model)| model),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "kernel": file("/proc/sys/kernel/osrelease").trim(),
        "nginx": version("nginx", "-v"),
        "haproxy": version("haproxy", "-v"),
        "redis": version("redis-server", "--version"),
        "caddy": version("caddy", "version"),
        "envoy": version("envoy", "--version"),
        "wrk": version("wrk", "-v"),
        "h2load": version("h2load", "--version"),
    })
}
