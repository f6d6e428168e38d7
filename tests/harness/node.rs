//! One `tidegate serve`.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::ports::Ports;
use super::wire::{Switchboard, Wire};

/// What `--ready-file` says.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Ready {
    pub(crate) id: u64,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) pid: u32,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) wire: Wire,
    pub(crate) ports: Ports,
    pub(crate) extra: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// `ulimit -n`.
    pub(crate) descriptors: Option<u32>,
    /// The folder of the cgroup that it runs in.
    pub(crate) group: Option<PathBuf>,
    pub(crate) ready: Option<Ready>,
    child: Option<Child>,
}

pub(crate) const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

impl Node {
    pub(crate) async fn new(folder: &Path, name: &str, board: &Switchboard, extra: &[&str]) -> Self {
        let data = folder.join(name);
        std::fs::create_dir_all(&data).unwrap();
        let ports = Ports::take();
        Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            data,
            wire: board.wire(ports.peer).await,
            ports,
            extra: extra.iter().map(|word| (*word).to_owned()).collect(),
            environment: Vec::new(),
            descriptors: None,
            group: None,
            ready: None,
            child: None,
        }
    }

    fn ready_file(&self) -> PathBuf {
        self.folder.join(format!("{}.ready", self.name))
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join(format!("{}.log", self.name))).unwrap_or_default()
    }

    /// Starts the process; on a later start it has the ports that it had.
    pub(crate) fn spawn(&mut self, join: Option<(SocketAddr, &str)>) {
        let mut command = self.command();
        if let Some((to, token)) = join {
            command.args(["--join", &to.to_string()]).env("TIDEGATE_TOKEN", token);
        }
        self.child = Some(command.spawn().unwrap());
    }

    /// Drains, and starts with these words instead of those it had.
    pub(crate) async fn restart(&mut self, extra: &[&str]) {
        self.drain().await;
        self.extra = extra.iter().map(|word| (*word).to_owned()).collect();
        self.spawn(None);
        self.wait_until_ready().await;
    }

    /// Starts another process, which takes over; the one that serves now, which finishes what is open.
    pub(crate) fn take_over(&mut self, more: &[&str]) -> Child {
        let next = self.command().arg("--take-over").args(more).spawn().unwrap();
        self.child.replace(next).unwrap()
    }

    /// What the process says that serves now, whoever started it.
    pub(crate) fn look_again(&mut self) {
        let text = std::fs::read_to_string(self.ready_file()).unwrap();
        self.ready = Some(serde_json::from_str(&text).unwrap());
    }

    /// Nobody took over from it: it is the node's process as before.
    pub(crate) fn goes_on(&mut self, process: Child) {
        self.child = Some(process);
    }

    fn command(&self) -> Command {
        let _not_there = std::fs::remove_file(self.ready_file());
        let log =
            File::options().create(true).append(true).open(self.folder.join(format!("{}.log", self.name))).unwrap();
        let Ports { http, https, admin, peer, .. } = &self.ports;
        let bounds = self.descriptors.iter().map(|most| format!("ulimit -n {most}"));
        let groups = self.group.iter().map(|group| format!("echo $$ > '{}/cgroup.procs'", group.display()));
        let first: Vec<String> = bounds.chain(groups).collect();
        let mut command = if first.is_empty() {
            Command::new(TIDEGATE)
        } else {
            let mut shell = Command::new("sh");
            shell.arg("-ec").arg(format!("{}; exec \"$0\" \"$@\"", first.join("; "))).arg(TIDEGATE);
            shell
        };
        command
            .arg("serve")
            .arg("--data")
            .arg(&self.data)
            .args(["--name", &self.name])
            .args(["--http", &http.to_string(), "--https", &https.to_string(), "--admin", &admin.to_string()])
            .args(["--peer", &peer.to_string(), "--advertise", &self.wire.address.to_string()])
            .args(["--decision-log", "--exit-with-parent", "--drain-wait", "100ms", "--drain-timeout", "10s"])
            .arg("--ready-file")
            .arg(self.ready_file())
            .args(&self.extra)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn wait_until_ready(&mut self) {
        let ends = Instant::now() + Duration::from_secs(40);
        loop {
            if let Ok(text) = std::fs::read_to_string(self.ready_file()) {
                self.ready = Some(serde_json::from_str(&text).unwrap());
                return;
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{} ended: {ended:?}\n{}", self.name, self.log());
            assert!(Instant::now() < ends, "{} is not ready\n{}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// For starts that ought to fail: the exit code.
    pub(crate) async fn wait_for_end(&mut self) -> Option<i32> {
        let child = self.child.as_mut().unwrap();
        let status = tokio::time::timeout(Duration::from_secs(30), child.wait()).await.expect("it ends").unwrap();
        self.child = None;
        status.code()
    }

    /// `None`: it became ready. Otherwise its exit code.
    pub(crate) async fn wait_for_ready_or_end(&mut self) -> Option<i32> {
        let ends = Instant::now() + Duration::from_secs(30);
        loop {
            if self.ready_file().exists() {
                return None;
            }
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return Some(status.code().unwrap_or(-1));
            }
            assert!(Instant::now() < ends, "{} neither starts nor ends\n{}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.ready.as_ref().unwrap().id
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.ready.as_ref().unwrap().http)
    }

    pub(crate) fn admin(&self, path: &str) -> String {
        format!("http://{}{path}", self.ready.as_ref().unwrap().admin)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.unwrap();
        }
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn drain(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait_for_end().await
    }
}

/// To any process.
pub(crate) fn signal(pid: u32, name: &str) {
    // The shell's own: a bare Debian has no program of that name.
    let done = std::process::Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status();
    assert!(done.unwrap().success(), "signal {name}");
}
