//! A `redis-server` of our own: memory only, on the last CPU.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::balancer::find_program;
use crate::linux::WhenOrphaned;
use crate::matrix::measure::last_cpu;
use crate::process::{Process, Start, free_address};

pub(super) struct Redis {
    address: SocketAddr,
    process: Process,
}

impl Redis {
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(find_program("redis-server").context("redis-server is not installed")?);
        command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]).arg("--dir").arg(folder);
        let cpus = [last_cpu()];
        let start = Start { name: "redis", logs: folder, when_orphaned: WhenOrphaned::Kill, cpus: Some(&cpus) };
        let mut process = Process::start(command, start)?;
        process.wait_until(Duration::from_secs(5), || TcpStream::connect(address).is_ok())?;
        Ok(Self { address, process })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What `tidegate serve` is told.
    pub(super) fn arguments(&self) -> Vec<String> {
        vec!["--redis-url".to_owned(), format!("redis://{}/", self.address)]
    }
}
