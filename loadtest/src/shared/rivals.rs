//! The caches that Tidegate is measured against, and what an answer costs at least: each started on the first CPU.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::balancer::find_program;
use crate::linux::WhenOrphaned;
use crate::matrix::measure::subject_cpus;
use crate::process::{Folder, Process, Start, free_address};

/// Ends when dropped.
pub(super) struct Rival {
    pub(super) address: SocketAddr,
    pub(super) process: Process,
    /// Where it keeps what it keeps.
    _folders: Vec<Folder>,
}

/// With `open_files` nginx also keeps the files open that it serves.
pub(super) fn nginx(within: &Path, origin: SocketAddr, open_files: bool) -> Result<Rival> {
    let (address, folder) = (free_address()?, Folder::within(within)?);
    let shm = PathBuf::from("/dev/shm");
    let kept = if shm.is_dir() {
        let name = if open_files { "nginx-open" } else { "nginx" };
        Folder::at(shm.join(format!("tidegate-{name}-{}", std::process::id())))?
    } else {
        Folder::within(within)?
    };
    let open = "open_file_cache max=1000 inactive=1h; open_file_cache_valid 1h;";
    let text = include_str!("../../conf/nginx-cache.conf")
        .replace("@FOLDER@", &folder.path.display().to_string())
        .replace("@KEPT@", &kept.path.display().to_string())
        .replace("@LISTEN@", &address.to_string())
        .replace("@UPSTREAM@", &origin.to_string())
        .replace("@OPEN_FILES@", if open_files { open } else { "" });
    let file = folder.path.join("nginx-cache.conf");
    fs::write(&file, text)?;
    let mut command = Command::new(find_program("nginx").context("nginx is not installed")?);
    command.arg("-p").arg(&folder.path).arg("-c").arg(file);
    started("nginx", command, WhenOrphaned::Terminate, address, vec![folder, kept])
}

pub(super) fn varnish(within: &Path, origin: SocketAddr) -> Result<Rival> {
    let (address, folder) = (free_address()?, Folder::within(within)?);
    let mut command = Command::new(find_program("varnishd").context("varnishd is not installed")?);
    command.args(["-F", "-a", &address.to_string(), "-b", &origin.to_string(), "-s", "malloc,64m"]);
    command.args(["-t", "1d", "-p", "thread_pools=1", "-p", "thread_pool_min=100", "-p", "thread_pool_max=200"]);
    command.arg("-n").arg(folder.path.join("work"));
    started("varnish", command, WhenOrphaned::Terminate, address, vec![folder])
}

/// hyper answering a constant.
pub(super) fn constant(within: &Path, bytes: usize) -> Result<Rival> {
    let (address, folder) = (free_address()?, Folder::within(within)?);
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["constant", "--http", &address.to_string(), "--bytes", &bytes.to_string()]);
    started("constant", command, WhenOrphaned::Kill, address, vec![folder])
}

fn started(
    name: &str,
    command: Command,
    when_orphaned: WhenOrphaned,
    address: SocketAddr,
    folders: Vec<Folder>,
) -> Result<Rival> {
    let cpus = subject_cpus(1);
    let start = Start { name, logs: &folders[0].path, when_orphaned, cpus: Some(&cpus) };
    let mut process = Process::start(command, start)?;
    process.wait_until(Duration::from_secs(20), || TcpStream::connect(address).is_ok())?;
    Ok(Rival { address, process, _folders: folders })
}
