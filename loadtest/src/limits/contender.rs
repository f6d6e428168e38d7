//! Who is measured, started as processes of their own: Tidegate's nodes, or gateways that ask Redis or each other.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::plan::Rule;
use super::responder::{Mode, TRAFFIC, rules_json, wall_ahead};
use crate::http;
use crate::linux::WhenOrphaned;
use crate::node::{Binary, Cluster, Manner};
use crate::process::{Folder, Process, Start, free_addresses};
use crate::shared::redis::Redis;

/// A path without a limit.
pub(super) const FREE: &str = "free";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    Tidegate,
    RedisIncr,
    RedisLua,
    /// Milliseconds between two exchanges.
    Interval(u32),
}

pub(super) const ALL: [Contender; 5] = [
    Contender::Tidegate,
    Contender::RedisIncr,
    Contender::RedisLua,
    Contender::Interval(100),
    Contender::Interval(1_000),
];

/// Ends when dropped.
pub(super) struct Running {
    pub(super) contender: Contender,
    pub(super) nodes: Vec<SocketAddr>,
    gateways: Gateways,
    redis: Option<Redis>,
    _folder: Folder,
}

enum Gateways {
    Ours(Box<Cluster>),
    Theirs(Vec<(Process, PathBuf)>),
}

/// What was sent between nodes, and to Redis, so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    pub(super) messages: u64,
    pub(super) log_bytes: u64,
}

impl Contender {
    pub(super) fn name(self) -> String {
        match self {
            Self::Tidegate => "tidegate".to_owned(),
            Self::RedisIncr => "redis INCR".to_owned(),
            Self::RedisLua => "redis Lua".to_owned(),
            Self::Interval(millis @ 0..1_000) => format!("counters, {millis} ms"),
            Self::Interval(millis) => format!("counters, {} s", millis / 1_000),
        }
    }

    /// So many nodes with these limits, all ready; each limit's name is a path.
    pub(super) fn start(self, binary: &Binary, within: &Path, nodes: usize, rules: &[Rule]) -> Result<Running> {
        let folder = Folder::within(within)?;
        if self == Self::Tidegate {
            let manner = Manner { decision_log: true, ..Manner::default() };
            let cluster = Cluster::start(binary, &folder.path, nodes, manner)?;
            cluster.apply(&document(rules))?;
            let addresses = cluster.nodes.iter().map(|node| node.http).collect();
            let gateways = Gateways::Ours(Box::new(cluster));
            return Ok(Running { contender: self, nodes: addresses, gateways, redis: None, _folder: folder });
        }
        let redis = match self {
            Self::RedisIncr | Self::RedisLua => Some(Redis::start_anywhere(&folder.path)?),
            Self::Tidegate | Self::Interval(_) => None,
        };
        let (addresses, gateways) = self.rivals(&folder.path, nodes, rules, redis.as_ref())?;
        Ok(Running { contender: self, nodes: addresses, gateways, redis, _folder: folder })
    }

    fn rivals(
        self,
        folder: &Path,
        nodes: usize,
        rules: &[Rule],
        redis: Option<&Redis>,
    ) -> Result<(Vec<SocketAddr>, Gateways)> {
        let file = folder.join("rules.json");
        fs::write(&file, rules_json(rules).to_string())?;
        let (addresses, peers) = (free_addresses(nodes)?, free_udp(nodes)?);
        let peers = peers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let wall_ahead = wall_ahead().0.to_string();
        let mut all = Vec::new();
        for (nth, http) in addresses.iter().enumerate() {
            let log = folder.join(format!("stamps-{nth}"));
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["limited", "--http", &http.to_string(), "--node", &(nth + 1).to_string(), "--peers", &peers]);
            command.arg("--rules").arg(&file).arg("--log").arg(&log).args([
                "--mode",
                self.mode(),
                "--wall-ahead",
                &wall_ahead,
            ]);
            if let Some(redis) = redis {
                command.args(["--redis", &redis.address().to_string()]);
            }
            if let Self::Interval(millis) = self {
                command.args(["--every-ms", &millis.to_string()]);
            }
            let name = format!("gateway-{nth}");
            let start = Start { name: &name, logs: folder, when_orphaned: WhenOrphaned::Kill, cpus: None };
            let mut process = Process::start(command, start)?;
            process.wait_until(Duration::from_secs(10), || TcpStream::connect(http).is_ok())?;
            all.push((process, log));
        }
        Ok((addresses, Gateways::Theirs(all)))
    }

    fn mode(self) -> &'static str {
        let mode = match self {
            Self::RedisIncr => Mode::RedisIncr,
            Self::RedisLua => Mode::RedisLua,
            Self::Tidegate | Self::Interval(_) => Mode::Interval,
        };
        match mode {
            Mode::RedisIncr => "redis-incr",
            Mode::RedisLua => "redis-lua",
            Mode::Interval => "interval",
        }
    }
}

impl Running {
    /// Process ids of the gateways.
    pub(super) fn gateways(&self) -> Vec<u32> {
        match &self.gateways {
            Gateways::Ours(cluster) => cluster.groups(),
            Gateways::Theirs(all) => all.iter().map(|(process, _)| process.pid()).collect(),
        }
    }

    pub(super) fn redis(&self) -> Vec<u32> {
        self.redis.iter().map(Redis::pid).collect()
    }

    pub(super) fn cluster(&mut self) -> Option<&mut Cluster> {
        match &mut self.gateways {
            Gateways::Ours(cluster) => Some(cluster),
            Gateways::Theirs(_) => None,
        }
    }

    /// All files with stamps, each complete a moment after the last answer.
    pub(super) fn stamps(&self) -> Result<Vec<PathBuf>> {
        match &self.gateways {
            Gateways::Theirs(all) => Ok(all.iter().map(|(_, log)| log.clone()).collect()),
            Gateways::Ours(cluster) => {
                let mut files = Vec::new();
                for node in &cluster.nodes {
                    for entry in fs::read_dir(node.data.join("decisions")).context("no decision log")? {
                        files.push(entry?.path());
                    }
                }
                Ok(files)
            }
        }
    }

    /// Tidegate: reports and their answers, and an append and its answer for each entry that a follower wrote. Redis:
    /// commands and their answers. Counters: datagrams.
    pub(super) fn traffic(&self) -> Result<Traffic> {
        let Gateways::Ours(cluster) = &self.gateways else {
            let told = self.nodes.iter().map(|node| -> Result<u64> {
                let answer = get(*node, &format!("/{TRAFFIC}"))?;
                let told: Value = serde_json::from_slice(&answer)?;
                told["messages"].as_u64().context("a gateway does not tell its traffic")
            });
            return Ok(Traffic { messages: told.sum::<Result<u64>>()?, log_bytes: 0 });
        };
        let (mut batches, mut entries, mut log_bytes) = (0, Vec::new(), 0);
        for node in cluster.nodes.iter().filter(|node| node.process.is_some()) {
            let text = String::from_utf8_lossy(&get(node.admin, "/metrics")?).into_owned();
            batches += sample(&text, "tidegate_quota_batches", "").context("no count of reports in /metrics")?;
            entries.push(sample(&text, "tidegate_raft_log_entries", "quota").unwrap_or(0));
            log_bytes += sample(&text, "tidegate_raft_log_bytes", "quota").unwrap_or(0);
        }
        let all: u64 = entries.iter().sum();
        let by_the_leader = entries.iter().copied().max().unwrap_or(0);
        Ok(Traffic { messages: 2 * batches + 2 * (all - by_the_leader), log_bytes })
    }
}

impl Traffic {
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(earlier.messages),
            log_bytes: self.log_bytes.saturating_sub(earlier.log_bytes),
        }
    }
}

fn get(from: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let answer = http::get(from, path, Duration::from_secs(5)).map_err(|broken| broken.why)?;
    ensure!(answer.status == 200, "{path} is answered with {}", answer.status);
    Ok(answer.body)
}

/// A counter of `/metrics`, of the group if one is named.
fn sample(text: &str, name: &str, group: &str) -> Option<u64> {
    let of = |line: &&str| {
        let rest = line.strip_prefix(name)?;
        let rest = rest.strip_prefix("_total").unwrap_or(rest);
        let ends = rest.starts_with([' ', '{']) && (group.is_empty() || rest.contains(&format!("\"{group}\"")));
        ends.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
    };
    text.lines().find_map(|line| of(&line)).map(|value| value as u64)
}

/// Each limit on a path of its own, and one path without; all answered on the spot.
fn document(rules: &[Rule]) -> Value {
    let limits = rules.iter().map(|rule| {
        let per: &[&str] = if rule.keyed { &["header:x-key"] } else { &[] };
        let window = format!("{}s", rule.window.as_secs());
        json!({"name": rule.name, "window": window, "max": rule.max, "per": per, "on_unavailable": "deny"})
    });
    let route = |name: &str, limits: &[&str]| {
        json!({
            "name": name, "match": {"path": format!("/{name}")},
            "respond": {"status": 200, "body": "ok"}, "limits": limits,
        })
    };
    let mut routes: Vec<Value> = rules.iter().map(|rule| route(&rule.name, &[&rule.name])).collect();
    routes.push(route(FREE, &[]));
    json!({"version": 1, "limits": limits.collect::<Vec<_>>(), "routes": routes})
}

fn free_udp(count: usize) -> Result<Vec<SocketAddr>> {
    let held: Vec<_> = (0..count).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    held.iter().map(|socket| Ok(socket.local_addr()?)).collect()
}

/// By name.
pub(super) fn distinct(rules: impl Iterator<Item = Rule>) -> Vec<Rule> {
    rules.map(|rule| (rule.name.clone(), rule)).collect::<BTreeMap<_, _>>().into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_whole_name_and_its_group() {
        let text = "# HELP a_b_total x\na_b_more_total 3\na_b_total{group=\"control\"} 4\na_b_total{group=\"quota\"} 5\nc_total 6\n";
        assert_eq!(sample(text, "a_b", "quota"), Some(5));
        assert_eq!(sample(text, "a_b", ""), Some(4));
        assert_eq!(sample(text, "c", ""), Some(6));
        assert_eq!(sample(text, "a", ""), None);
    }
}
