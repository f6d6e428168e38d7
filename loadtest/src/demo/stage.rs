//! The demo's processes: nodes, backend, balancer; and what the script does to them.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::balancer::{Balancer, Kind, Server};
use crate::linux::WhenOrphaned;
use crate::node::{Binary, Cluster, Manner};
use crate::process::{Folder, Process, Start, logged_line};

/// The limit's window. Ten seconds let a lease bridge a failover.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);
/// The request ids that the backend saw.
const SEEN: &str = "requests";
const LOOK_EVERY: Duration = Duration::from_millis(500);
const JOINING: [usize; 2] = [3, 4];

pub(crate) struct Stage {
    // Dropped in this order: the balancer first, so that nobody sees the nodes go.
    pub(crate) balancer: Balancer,
    pub(crate) cluster: Cluster,
    _backend: Process,
    folder: Folder,
    pub(crate) binary: Binary,
    /// Permits per window, over all nodes.
    pub(crate) max: u64,
    /// What was announced last.
    pub(crate) news: String,
    /// Positions of the nodes that lead the control and the quota group, when last looked.
    pub(crate) leader: Option<usize>,
    pub(crate) ready: Vec<bool>,
    looked: Instant,
    starting: HashMap<usize, Instant>,
    leaving: Vec<usize>,
    pub(crate) joined: Vec<(usize, Duration)>,
    pub(crate) killed: Option<Killed>,
}

/// The kill, for telling what it cut.
#[derive(Debug, Clone)]
pub(crate) struct Killed {
    pub(crate) nth: usize,
    /// Just before the signal.
    pub(crate) from: Instant,
    /// The kernel has closed all its sockets.
    pub(crate) until: Instant,
    /// How many connections were open to it.
    pub(crate) connections: usize,
    /// Until another node led.
    pub(crate) succeeded_after: Option<Duration>,
    /// From its new start until it was ready.
    pub(crate) back_after: Option<Duration>,
}

impl Stage {
    pub(crate) fn set(binary: &Binary, kind: Kind, max: u64) -> Result<Self> {
        let folder = Folder::fresh("demo")?;
        println!("cache: memory only");
        println!("starting three nodes, a backend and {} …", kind.name());
        let (backend, backend_address) = start_backend(&folder)?;
        let mut cluster = Cluster::start(binary, &folder.path, 3, Manner { decision_log: true, ..Manner::default() })?;
        for _ in JOINING {
            cluster.plan()?;
        }
        cluster.apply(&document(backend_address, max))?;
        let servers = cluster.nodes.iter().map(|node| Server {
            name: node.name.clone(),
            http: node.http,
            health: Some(node.admin),
        });
        let balancer = Balancer::start(kind, &folder.path, servers.collect(), 1, None)?;
        let ready = vec![true, true, true, false, false];
        let mut stage = Self {
            balancer,
            cluster,
            _backend: backend,
            folder,
            binary: binary.clone(),
            max,
            news: "three nodes, one limit".to_owned(),
            leader: None,
            ready,
            looked: Instant::now(),
            starting: HashMap::new(),
            leaving: Vec::new(),
            joined: Vec::new(),
            killed: None,
        };
        stage.wait_for_the_balancer()?;
        stage.see_the_cluster();
        Ok(stage)
    }

    /// Until it has found out which nodes are there.
    fn wait_for_the_balancer(&mut self) -> Result<()> {
        self.balancer.heed(&self.ready)?;
        let until = Instant::now() + Duration::from_secs(10);
        while self.balancer.servers_up().as_ref() != Some(&self.ready) {
            if Instant::now() > until {
                bail!("{} does not find the nodes:\n{}", self.balancer.kind.name(), self.balancer.process.tail());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    pub(crate) fn say(&mut self, news: &str) {
        news.clone_into(&mut self.news);
    }

    pub(crate) fn name(&self, nth: usize) -> &str {
        &self.cluster.nodes[nth].name
    }

    /// A node is on its way in or out.
    pub(crate) fn is_busy(&self) -> bool {
        !self.starting.is_empty() || !self.leaving.is_empty()
    }

    pub(crate) fn join_two(&mut self) -> Result<()> {
        for nth in JOINING {
            self.starting.insert(nth, self.cluster.join(nth)?);
        }
        self.say("spike: n4 and n5 join");
        Ok(())
    }

    pub(crate) fn kill_the_leader(&mut self) -> Result<()> {
        self.see_the_cluster();
        let nth = self.leader.context("nobody knows who leads")?;
        let node = &mut self.cluster.nodes[nth];
        let process = node.process.as_mut().context("the leader does not run")?;
        let connections = connections_to(node.http);
        let from = Instant::now();
        process.kill_now()?;
        let until = Instant::now();
        node.process = None;
        self.leader = None;
        self.ready[nth] = false;
        self.killed = Some(Killed { nth, from, until, connections, succeeded_after: None, back_after: None });
        self.say(&format!("the leader n{} was killed (SIGKILL)", nth + 1));
        Ok(())
    }

    pub(crate) fn restart_the_killed(&mut self) -> Result<()> {
        let Some(killed) = &self.killed else { return Ok(()) };
        let nth = killed.nth;
        self.starting.insert(nth, self.cluster.restart(nth)?);
        self.say(&format!("n{} starts again", nth + 1));
        Ok(())
    }

    pub(crate) fn drain_two(&mut self) -> Result<()> {
        for nth in JOINING {
            let Some(process) = &self.cluster.nodes[nth].process else { continue };
            process.signal(libc::SIGTERM)?;
            self.leaving.push(nth);
        }
        self.say("n4 and n5 drain away (SIGTERM)");
        Ok(())
    }

    /// Notes what has changed since the last look.
    pub(crate) fn look(&mut self) -> Result<()> {
        self.see_starts();
        self.see_exits()?;
        if self.looked.elapsed() >= LOOK_EVERY || self.leader.is_none() {
            self.looked = Instant::now();
            for (nth, node) in self.cluster.nodes.iter().enumerate() {
                self.ready[nth] = node.process.is_some() && node.is_ready();
            }
            self.see_the_cluster();
            self.balancer.heed(&self.ready)?;
        }
        Ok(())
    }

    fn see_starts(&mut self) {
        let ready: Vec<usize> =
            self.starting.keys().copied().filter(|nth| self.cluster.nodes[*nth].is_ready()).collect();
        for nth in ready {
            let Some(began) = self.starting.remove(&nth) else { continue };
            self.ready[nth] = true;
            match &mut self.killed {
                Some(killed) if killed.nth == nth => killed.back_after = Some(began.elapsed()),
                _ => self.joined.push((nth, began.elapsed())),
            }
            self.say(&format!("n{} is ready after {} ms", nth + 1, began.elapsed().as_millis()));
        }
    }

    fn see_exits(&mut self) -> Result<()> {
        for (nth, node) in self.cluster.nodes.iter_mut().enumerate() {
            let Some(process) = &mut node.process else { continue };
            if process.is_running() {
                continue;
            }
            if !self.leaving.contains(&nth) {
                let why = format!("{} ended by itself:\n{}", process.name, process.tail());
                bail!("{why}\nkept: {}", self.keep());
            }
            self.leaving.retain(|leaving| *leaving != nth);
            node.process = None;
            self.ready[nth] = false;
            self.news = format!("{} has left", node.name);
        }
        Ok(())
    }

    fn see_the_cluster(&mut self) {
        let known = self.cluster.quota_leader();
        self.leader = known;
        if let (Some(_), Some(killed)) = (known, &mut self.killed) {
            killed.succeeded_after.get_or_insert(killed.until.elapsed());
        }
    }

    /// Where the backend noted the request ids it saw.
    pub(crate) fn seen_requests(&self) -> PathBuf {
        self.folder.path.join(SEEN)
    }

    /// Leaves data and logs behind for someone to read; says where.
    pub(crate) fn keep(&mut self) -> String {
        self.folder.keep();
        self.cluster.keep_folder();
        self.folder.path.display().to_string()
    }

    /// Ends the nodes in good order, so that their decision logs are complete.
    pub(crate) fn end_nodes(&mut self) -> Result<()> {
        for node in &self.cluster.nodes {
            if let Some(process) = &node.process {
                process.signal(libc::SIGKILL)?; // the decision logs survive this, which is their point
            }
        }
        for node in &mut self.cluster.nodes {
            if let Some(mut process) = node.process.take() {
                process.wait_for_exit(Duration::from_secs(5))?;
            }
        }
        Ok(())
    }
}

fn start_backend(folder: &Folder) -> Result<(Process, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["backend", "--http", "127.0.0.1:0", "--requests"]).arg(folder.path.join(SEEN));
    let start = Start { name: "backend", logs: &folder.path, when_orphaned: WhenOrphaned::Kill, cpus: None };
    let mut process = Process::start(command, start)?;
    let log = folder.path.join("backend.log");
    let mut address = None;
    process.wait_until(Duration::from_secs(5), || {
        address = logged_line(&log, "listening ").and_then(|line| line.trim().parse().ok());
        address.is_some()
    })?;
    Ok((process, address.context("the backend did not say where it listens")?))
}

fn document(backend: SocketAddr, max: u64) -> Value {
    json!({
        "version": 1,
        "limits": [{"name": "everyone", "window": format!("{}s", WINDOW.as_secs()), "max": max, "per": [], "on_unavailable": "deny"}],
        "upstreams": [{"name": "backend", "endpoints": [{"url": format!("http://{backend}")}]}],
        "routes": [{"name": "hello", "match": {"path": "/hello"}, "to": [{"upstream": "backend"}], "limits": ["everyone"]}],
    })
}

/// Established connections to a listener of this machine, as the kernel lists them.
fn connections_to(address: SocketAddr) -> usize {
    let SocketAddr::V4(v4) = address else { return 0 };
    let local = format!("{:08X}:{:04X}", u32::from_le_bytes(v4.ip().octets()), v4.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let established = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next() == Some(&local) && columns.nth(1) == Some("01")
    };
    table.lines().skip(1).filter(established).count()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_to_a_listener_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        assert_eq!(connections_to(address), 0);
        let _client = TcpStream::connect(address).expect("connects");
        let _server = listener.accept().expect("accepts");
        assert_eq!(connections_to(address), 1);
    }
}
