//! A `redis-server` of our own: memory only.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::balancer::find_program;
use crate::linux::WhenOrphaned;
use crate::matrix::measure::last_cpu;
use crate::process::{Process, Start, free_address};

pub(crate) struct Redis {
    address: SocketAddr,
    process: Process,
}

impl Redis {
    /// On the last CPU.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        Self::start_on(folder, Some(&[last_cpu()]))
    }

    /// On any CPU, as those who ask it.
    pub(crate) fn start_anywhere(folder: &Path) -> Result<Self> {
        Self::start_on(folder, None)
    }

    fn start_on(folder: &Path, cpus: Option<&[usize]>) -> Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(find_program("redis-server").context("redis-server is not installed")?);
        command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]).arg("--dir").arg(folder);
        let start = Start { name: "redis", logs: folder, when_orphaned: WhenOrphaned::Kill, cpus };
        let mut process = Process::start(command, start)?;
        process.wait_until(Duration::from_secs(5), || TcpStream::connect(address).is_ok())?;
        Ok(Self { address, process })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What `tidegate serve` is told.
    pub(crate) fn arguments(&self) -> Vec<String> {
        vec!["--redis-url".to_owned(), format!("redis://{}/", self.address)]
    }
}
