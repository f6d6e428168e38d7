//! Tidegate nodes as child processes, and the CLI calls that a scenario makes. Everything goes through the program's
//! own command line, as an operator would.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::http;
use crate::linux::WhenOrphaned;
use crate::process::{Folder, Process, Start, free_addresses, output_of};

/// Generous: a machine under full load may need seconds to start a process.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the `tidegate` program is.
#[derive(Debug, Clone)]
pub(crate) struct Binary {
    path: PathBuf,
    /// Nodes run beneath this program.
    under: Vec<String>,
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) http: SocketAddr,
    /// `None`: it has no TLS listener.
    pub(crate) https: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) data: PathBuf,
    /// `None` while it is down.
    pub(crate) process: Option<Process>,
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) token: String,
    binary: Binary,
    folder: Folder,
    manner: Manner,
}

/// How a scenario runs its nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manner {
    /// Each permit on record, for the checker. Costs a little.
    pub(crate) decision_log: bool,
    /// Pinned to these, with as many workers; default: all, as the program sees fit.
    pub(crate) cpus: Option<Vec<usize>>,
    /// A TLS listener beside the one in clear text.
    pub(crate) https: bool,
    /// One runtime for all workers instead of one for each.
    pub(crate) shared_runtime: bool,
    /// More of `tidegate serve`, for every node.
    pub(crate) more: Vec<String>,
}

/// How much of the gate a request passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// A route and an upstream.
    Bare,
    /// The same with two limits, for whoever comes.
    Limited,
    /// A key, three limits, an access log in a file, metrics, RateLimit headers.
    Full,
}

impl Binary {
    /// By default the one beside this program.
    pub(crate) fn at(path: Option<PathBuf>) -> Result<Self> {
        let path = match path {
            Some(path) => path,
            None => std::env::current_exe()?.with_file_name("tidegate"),
        };
        ensure!(path.is_file(), "{} is missing: build it, or name another with --tidegate", path.display());
        Ok(Self { path, under: Vec::new() })
    }

    pub(crate) fn command(&self) -> Command {
        Command::new(&self.path)
    }

    /// How it was built: figures of different builds are not to be compared. `cargo xtask pgo` has a folder of its own.
    pub(crate) fn profile(&self) -> String {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = self.path.parent().map(name).unwrap_or_default();
        let is_trained = self.path.iter().any(|part| part == "pgo");
        if is_trained { format!("`{folder}`, trained") } else { format!("`{folder}`") }
    }

    /// With nodes beneath another program: slow, and given time.
    pub(crate) fn under(self, under: &[&str]) -> Self {
        Self { under: under.iter().map(|word| (*word).to_owned()).collect(), ..self }
    }

    fn node(&self) -> Command {
        let Some((program, arguments)) = self.under.split_first() else { return self.command() };
        let mut command = Command::new(program);
        command.args(arguments).arg(&self.path);
        command
    }

    fn patience(&self) -> Duration {
        if self.under.is_empty() { PATIENCE } else { PATIENCE * 10 }
    }
}

impl Node {
    /// Ports only; nothing is started.
    pub(crate) fn planned(name: &str, folder: &Path, manner: &Manner) -> Result<Self> {
        let addresses = free_addresses(4)?;
        let [http, https, admin, peer] = addresses[..] else { anyhow::bail!("four addresses were asked for") };
        let https = manner.https.then_some(https);
        Ok(Self { name: name.to_owned(), http, https, admin, peer, data: folder.join(name), process: None })
    }

    /// `join`: an address of a member, and a join token. A node that was a member before needs neither.
    fn start(&mut self, binary: &Binary, logs: &Path, manner: &Manner, join: Option<(SocketAddr, &str)>) -> Result<()> {
        let mut command = binary.node();
        // Nothing of the caller's environment decides how the scenario's nodes run.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
            command.env_remove(name);
        }
        command.current_dir(logs).arg("serve").arg("--data").arg(&self.data).args(["--name", &self.name]);
        let https = self.https.map_or_else(|| "off".to_owned(), |https| https.to_string());
        command.args(["--http", &self.http.to_string(), "--https", &https]);
        command.args(["--admin", &self.admin.to_string(), "--peer", &self.peer.to_string()]);
        if manner.decision_log {
            command.arg("--decision-log");
        }
        if let Some(cpus) = &manner.cpus {
            command.args(["--workers", &cpus.len().to_string()]);
        }
        if manner.shared_runtime {
            command.args(["--runtime", "shared"]);
        }
        command.args(&manner.more);
        if let Some((member, token)) = join {
            // Whoever joins a running cluster here also leaves it for good when it is drained.
            command.args(["--join", &member.to_string(), "--token", token, "--leave"]);
        }
        let start = Start { name: &self.name, logs, when_orphaned: WhenOrphaned::Kill, cpus: manner.cpus.as_deref() };
        self.process = Some(Process::start(command, start)?);
        Ok(())
    }

    pub(crate) fn is_ready(&self) -> bool {
        http::get(self.admin, "/readyz", Duration::from_millis(500)).is_ok_and(|answer| answer.status == 200)
    }

    /// From the call to the first positive answer.
    pub(crate) fn wait_until_ready(&mut self) -> Result<Duration> {
        self.wait_so_long(PATIENCE)
    }

    fn wait_so_long(&mut self, most: Duration) -> Result<Duration> {
        let (admin, patience) = (self.admin, Duration::from_millis(500));
        let ready = || http::get(admin, "/readyz", patience).is_ok_and(|answer| answer.status == 200);
        self.process.as_mut().context("the node was not started")?.wait_until(most, ready)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }
}

impl Cluster {
    /// `count` nodes, all ready.
    pub(crate) fn start(binary: &Binary, within: &Path, count: usize, manner: Manner) -> Result<Self> {
        let folder = Folder::within(within)?;
        let nodes: Vec<_> =
            (1..=count).map(|nth| Node::planned(&format!("n{nth}"), &folder.path, &manner)).collect::<Result<_>>()?;
        let mut cluster = Self { nodes, token: String::new(), binary: binary.clone(), folder, manner };
        cluster.nodes[0].start(binary, &cluster.folder.path, &cluster.manner, None)?;
        cluster.nodes[0].wait_so_long(binary.patience())?;
        let token = fs::read_to_string(cluster.nodes[0].data.join("admin.token")).context("no admin.token")?;
        token.trim().clone_into(&mut cluster.token);
        for nth in 1..count {
            cluster.join(nth)?;
            cluster.nodes[nth].wait_until_ready()?;
        }
        Ok(cluster)
    }

    /// Starts the node at this position as a new member and says when; it is not yet ready when this returns.
    pub(crate) fn join(&mut self, nth: usize) -> Result<Instant> {
        let join_token = self.join_token()?;
        let member = self.running().context("no node is running")?.peer;
        let began = Instant::now();
        self.nodes[nth].start(&self.binary, &self.folder.path, &self.manner, Some((member, &join_token)))?;
        Ok(began)
    }

    /// Starts a node again that was a member before.
    pub(crate) fn restart(&mut self, nth: usize) -> Result<Instant> {
        let began = Instant::now();
        self.nodes[nth].start(&self.binary, &self.folder.path, &self.manner, None)?;
        Ok(began)
    }

    /// Plans one more node, without starting it.
    pub(crate) fn plan(&mut self) -> Result<usize> {
        let name = format!("n{}", self.nodes.len() + 1);
        self.nodes.push(Node::planned(&name, &self.folder.path, &self.manner)?);
        Ok(self.nodes.len() - 1)
    }

    /// Leaves data and logs behind for someone to read.
    pub(crate) fn keep_folder(&mut self) {
        self.folder.keep();
    }

    /// Asks the nodes, in order, until one knows who leads the quota group, or else the control group.
    pub(crate) fn quota_leader(&self) -> Option<usize> {
        self.nodes.iter().filter(|node| node.process.is_some()).find_map(|node| {
            let status = status_of(node.admin, &self.token)?;
            let leader = status["quota"]["leader"].as_u64().or(status["control"]["leader"].as_u64())?;
            let members = status["nodes"].as_array()?;
            let name = members.iter().find(|member| member["id"].as_u64() == Some(leader))?["name"].as_str()?;
            let nth = self.nodes.iter().position(|node| node.name == name)?;
            self.nodes[nth].process.is_some().then_some(nth) // not the dead one, that nobody missed yet
        })
    }

    /// Process groups of the nodes that run.
    pub(crate) fn groups(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(Node::pid).collect()
    }

    fn running(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.process.is_some())
    }

    /// A CLI call to any node that runs.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Result<String> {
        let admin = self.running().context("no node is running")?.admin;
        let mut command = self.binary.command();
        command.args(arguments).env("TIDEGATE_ADMIN", format!("http://{admin}")).env("TIDEGATE_TOKEN", &self.token);
        output_of(&mut command)
    }

    pub(crate) fn cli_json(&self, arguments: &[&str]) -> Result<Value> {
        let printed = self.cli(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&printed).with_context(|| format!("{arguments:?} printed no JSON: {printed}"))
    }

    fn join_token(&self) -> Result<String> {
        let answer = self.cli_json(&["cluster", "token"])?;
        let token = answer["token"].as_str().context("`cluster token -o json` printed no token")?;
        Ok(token.to_owned())
    }

    /// Publishes a document and returns when every node serves it.
    pub(crate) fn apply(&self, document: &Value) -> Result<()> {
        let file = self.folder.path.join("document.json");
        fs::write(&file, serde_json::to_vec_pretty(document)?)?;
        self.cli(&["apply", &file.display().to_string(), "--wait"]).map(drop)
    }

    /// Publishes the load test's document; returns the headers that its requests need.
    pub(crate) fn publish(&self, extent: Extent, backend: SocketAddr) -> Result<Vec<(String, String)>> {
        self.publish_with(extent, backend, |_| ())
    }

    /// The same, changed before.
    pub(crate) fn publish_with(
        &self,
        extent: Extent,
        backend: SocketAddr,
        change: impl FnOnce(&mut Value),
    ) -> Result<Vec<(String, String)>> {
        let mut document = document(extent, backend, &self.folder.path);
        change(&mut document);
        self.apply(&document)?;
        if extent != Extent::Full {
            return Ok(Vec::new());
        }
        let answer = self.cli_json(&["key", "create", "load"])?;
        let key = answer["secret"].as_str().context("`key create` printed no key")?;
        Ok(vec![("authorization".to_owned(), format!("Bearer {key}"))])
    }
}

fn status_of(admin: SocketAddr, token: &str) -> Option<Value> {
    let authorization = format!("Bearer {token}");
    let request = http::get_request(&admin.to_string(), "/v1/cluster", &[("authorization", &authorization)]);
    let answer = http::Connection::open(admin, Duration::from_millis(300)).ok()?.exchange(&request).ok()?;
    serde_json::from_slice(&answer.body).ok()
}

/// The limits are real and counted, and too high to be met.
fn document(extent: Extent, backend: SocketAddr, logs: &Path) -> Value {
    let upstreams = json!([{"name": "backend", "endpoints": [{"url": format!("http://{backend}")}]}]);
    let route = json!({"name": "all", "match": {"path": "/{*rest}"}, "to": [{"upstream": "backend"}]});
    if extent == Extent::Bare {
        return json!({"version": 1, "upstreams": upstreams, "routes": [route]});
    }
    let mut route = route;
    if extent == Extent::Limited {
        route["limits"] = json!(["per-route", "per-address"]);
        return json!({
            "version": 1,
            "limits": [
                {"name": "per-route", "window": "10s", "max": 100_000_000, "per": ["route"]},
                {"name": "per-address", "window": "1s", "max": 10_000_000, "per": ["ip"]},
            ],
            "upstreams": upstreams,
            "routes": [route],
        });
    }
    route["auth"] = json!(["key"]);
    route["limits"] = json!(["per-key", "per-route", "per-address"]);
    json!({
        "version": 1,
        "consumers": [{"name": "load"}],
        "limits": [
            {"name": "per-key", "window": "1s", "max": 10_000_000, "per": ["key"]},
            {"name": "per-route", "window": "10s", "max": 100_000_000, "per": ["route"]},
            {"name": "per-address", "window": "1m", "max": 1_000_000_000, "per": ["ip"]},
        ],
        "upstreams": upstreams,
        "routes": [route],
        "telemetry": {"access_log": {"format": "json", "file": logs.join("access.log")}},
    })
}
