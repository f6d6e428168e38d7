//! A real redis-server of our own.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::eventually;

#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) port: u16,
    words: Vec<String>,
    child: Option<Child>,
    folder: TempDir,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(words: &[&str]) -> Self {
        // Free a moment ago; should somebody be quicker, the next one is tried.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let folder = tempfile::Builder::new().prefix("tidegate-redis-").tempdir().unwrap();
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            let mut redis = Self { port, words, child: None, folder };
            if redis.spawn().await {
                return redis;
            }
        }
        panic!("redis-server does not start");
    }

    /// A Sentinel that watches this master, by the name `main`, and soon holds it for dead.
    pub(crate) async fn sentinel_of(master: u16) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::Builder::new().prefix("tidegate-sentinel-").tempdir().unwrap();
        let file = folder.path().join("sentinel.conf");
        let watch = format!(
            "sentinel monitor main 127.0.0.1 {master} 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n"
        );
        std::fs::write(&file, watch).unwrap();
        let words = vec![file.to_str().unwrap().to_owned(), "--sentinel".to_owned()];
        let mut redis = Self { port, words, child: None, folder };
        assert!(redis.spawn().await, "the sentinel starts");
        redis
    }

    /// Starts it, on its port; a Redis that was killed comes back empty.
    pub(crate) async fn spawn(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        // A file of settings comes first; a Sentinel has no data to save.
        let is_sentinel = self.words.iter().any(|word| word == "--sentinel");
        let saved: &[&str] = if is_sentinel { &[] } else { &["--save", "", "--appendonly", "no"] };
        let (first, rest) = self.words.split_at(if is_sentinel { 1 } else { 0 });
        command
            .args(first)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(saved)
            .arg("--dir")
            .arg(self.folder.path())
            .args(rest)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("redis-server is installed");
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if tokio::net::TcpStream::connect(self.address()).await.is_ok() {
                self.child = Some(child);
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().unwrap();
        let done = std::process::Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status();
        assert!(done.unwrap().success(), "signal {name}");
    }

    pub(crate) async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    /// What `redis-cli` prints.
    pub(crate) async fn cli(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) async fn keys(&self) -> usize {
        self.cli(&["dbsize"]).await.parse().unwrap()
    }

    pub(crate) async fn holds_something(&self) {
        eventually("a response in Redis", Duration::from_secs(5), async || self.keys().await > 0).await;
    }
}
