//! What the requests end at: nginx with a short answer, and files of three sizes.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::balancer::find_program;
use crate::linux::WhenOrphaned;
use crate::matrix::measure::last_cpu;
use crate::process::{Process, Start, free_address};

pub(super) struct Backend {
    pub(super) address: SocketAddr,
    _process: Process,
}

impl Backend {
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let bodies = folder.join("bodies");
        fs::create_dir_all(&bodies)?;
        for bytes in [1 << 10, 64 << 10, 1 << 20] {
            fs::write(bodies.join(bytes.to_string()), vec![b'x'; bytes])?;
        }
        let text = include_str!("../../conf/nginx-speed-backend.conf")
            .replace("@LISTEN@", &address.to_string())
            .replace("@FOLDER@", &folder.display().to_string());
        let file = folder.join("nginx-speed-backend.conf");
        fs::write(&file, text)?;
        let mut command = Command::new(find_program("nginx").context("nginx is not installed")?);
        command.arg("-p").arg(folder).arg("-c").arg(file);
        let cpus = [last_cpu()];
        let start = Start { name: "backend", logs: folder, when_orphaned: WhenOrphaned::Terminate, cpus: Some(&cpus) };
        let mut process = Process::start(command, start)?;
        process.wait_until(Duration::from_secs(5), || TcpStream::connect(address).is_ok())?;
        Ok(Self { address, _process: process })
    }
}
