//! One child process of `tidegate dev`.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::End;

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Node {
    pub(super) id: u64,
    pub(super) http: String,
    pub(super) admin: String,
    pub(super) peer: String,
    pub(super) data: PathBuf,
    child: Child,
    ended: bool,
}

/// What `serve --ready-file` writes.
#[derive(Debug, Deserialize)]
struct Ready {
    id: u64,
    http: String,
    admin: String,
    peer: String,
}

impl Node {
    /// Starts node number `nth` and waits until it is ready.
    pub(super) fn start(
        folder: &Path,
        nth: u16,
        port: u16,
        join: Option<(String, String)>,
        end: &End,
    ) -> anyhow::Result<Self> {
        let data = folder.join(format!("node-{nth}"));
        std::fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
        let (ready, log) = (folder.join(format!("node-{nth}.ready")), folder.join(format!("node-{nth}.log")));
        let _not_there = std::fs::remove_file(&ready);
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("serve")
            .arg("--data")
            .arg(&data)
            .args(["--name", &format!("node-{nth}")])
            .args(["--http", &free_or_any(port.wrapping_add(nth - 1)), "--https", "127.0.0.1:0"])
            .args(["--admin", &free_or_any(7_079_u16.wrapping_add(nth)), "--peer", "127.0.0.1:0"])
            .args(["--drain-wait", "0s", "--drain-timeout", "5s", "--decision-log", "--exit-with-parent"])
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).with_context(|| format!("writing {}", log.display()))?);
        if let Some((to, token)) = &join {
            // Not on the command line, where every user of the machine could read it.
            command.args(["--join", to]).env("TIDEGATE_TOKEN", token);
        }
        let mut child = command.spawn().context("starting a node")?;
        match wait_until_ready(&mut child, &ready, &log, end) {
            Ok(Ready { id, http, admin, peer }) => Ok(Self { id, http, admin, peer, data, child, ended: false }),
            Err(why) => {
                let _ended = child.kill().and_then(|()| child.wait());
                Err(why.context(format!("node {nth} did not become ready")))
            }
        }
    }

    pub(super) fn as_json(&self) -> Value {
        json!({
            "id": self.id,
            "http": format!("http://{}", self.http),
            "admin": format!("http://{}", self.admin),
            "pid": self.child.id(),
        })
    }

    /// Somebody may have ended it on purpose: that is what trying out is for.
    pub(super) fn report_if_ended(&mut self) {
        if self.ended {
            return;
        }
        if let Ok(Some(status)) = self.child.try_wait() {
            self.ended = true;
            eprintln!("node {} ended: {status}", self.id);
        }
    }

    pub(super) fn ask_to_end(&self) {
        crate::process::terminate(&self.child);
    }

    pub(super) fn wait_or_kill(&mut self, patience: Instant) {
        while Instant::now() < patience {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn wait_until_ready(child: &mut Child, ready: &Path, log: &Path, end: &End) -> anyhow::Result<Ready> {
    let ends = Instant::now() + PATIENCE;
    loop {
        if let Ok(text) = std::fs::read_to_string(ready) {
            return serde_json::from_str(&text).context("in the ready file");
        }
        if end.has_come() {
            bail!("told to end");
        }
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() >= ends {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            let last: Vec<_> = said.lines().rev().take(12).collect();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
            match ended {
                Some(status) => bail!("it ended with {status}; its last words:\n{last}"),
                None => bail!("not ready after {PATIENCE:?}; its last words:\n{last}"),
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The well-known port on loopback, or any when it is taken.
fn free_or_any(port: u16) -> String {
    let port = TcpListener::bind(("127.0.0.1", port)).map_or(0, |_free| port);
    format!("127.0.0.1:{port}")
}

/// Runs one command of this binary against a node and reads its JSON.
pub(super) fn ask(words: &[&str], admin: &str, token: &str) -> anyhow::Result<Value> {
    let output = Command::new(std::env::current_exe()?)
        .args(words)
        .args(["-o", "json"])
        .env("TIDEGATE_ADMIN", format!("http://{admin}"))
        .env("TIDEGATE_TOKEN", token)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running tidegate {}", words.join(" ")))?;
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("tidegate {} said: {}{}", words.join(" "), out.trim(), err.trim());
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("reading what tidegate {} said", words.join(" ")))
}
