//! Whose instructions are counted: a request and a chat, as little and as much as is done with them, and an empty hyper proxy
//! to read them by.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::http;
use crate::linux::WhenOrphaned;
use crate::llm::{self, Ask, Provider};
use crate::matrix::measure::{Backend, PATH};
use crate::matrix::subject as matrix;
use crate::node::Binary;
use crate::process::{Process, Start, free_address};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Hyper,
    Bare,
    Full,
    Chat(llm::Kind),
}

pub(super) struct Site<'a> {
    pub(super) folder: &'a Path,
    pub(super) backend: Backend,
    pub(super) provider: Provider,
    pub(super) binary: &'a Binary,
}

/// Ends when dropped.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) pid: u32,
    pub(super) request: Vec<u8>,
    _keep: Keep,
}

#[expect(dead_code, reason = "held only to be dropped")]
enum Keep {
    Process(Process),
    Request(matrix::Running),
    Chat(llm::Running),
}

impl Subject {
    pub(super) const ALL: [Self; 6] = [
        Self::Hyper,
        Self::Bare,
        Self::Full,
        Self::Chat(llm::Kind::Passing),
        Self::Chat(llm::Kind::Translating),
        Self::Chat(llm::Kind::Full),
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hyper => "a request, hyper, empty",
            Self::Bare => "a request, bare",
            Self::Full => "a request, full policy",
            Self::Chat(llm::Kind::Translating) => "a chat, translating",
            Self::Chat(llm::Kind::Full) => "a chat, full policy",
            Self::Chat(_) => "a chat, passing on",
        }
    }

    /// `options`: more of valgrind's.
    pub(super) fn start(self, site: &Site<'_>, options: &[&str]) -> Result<Running> {
        let under: Vec<&str> = ["valgrind", "--tool=callgrind"].into_iter().chain(options.iter().copied()).collect();
        let binary = site.binary.clone().under(&under);
        match self {
            Self::Hyper => hyper(site, &under),
            Self::Bare | Self::Full => {
                let kind = if self == Self::Bare { matrix::Kind::TidegateBare } else { matrix::Kind::TidegateFull };
                let site = matrix::Site { folder: site.folder, backend: site.backend.address, binary: Some(&binary) };
                let running = matrix::Subject { kind, workers: 1 }.start(&site)?;
                let pid = *running.groups.first().context("no process")?;
                let headers: Vec<(&str, &str)> =
                    running.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let request = http::get_request("load.test", PATH, &headers);
                Ok(Running { address: running.address, pid, request, _keep: Keep::Request(running) })
            }
            Self::Chat(kind) => {
                let site = llm::Site { binary: &binary, folder: site.folder, provider: site.provider.address };
                let running = kind.start(&site)?;
                let pid = *running.groups.first().context("no process")?;
                let request = running.request(Ask::Chat);
                Ok(Running { address: running.address, pid, request, _keep: Keep::Chat(running) })
            }
        }
    }
}

fn hyper(site: &Site<'_>, under: &[&str]) -> Result<Running> {
    let address = free_address()?;
    let (program, arguments) = under.split_first().context("it runs beneath valgrind")?;
    let mut command = Command::new(program);
    command.args(arguments).arg(std::env::current_exe()?);
    command.args(["empty-proxy", "--layout", "per-worker", "--workers", "1"]);
    command.args(["--http", &address.to_string(), "--upstream", &site.backend.address.to_string()]);
    let start = Start { name: "hyper", logs: site.folder, when_orphaned: WhenOrphaned::Kill, cpus: None };
    let mut process = Process::start(command, start)?;
    process.wait_until(Duration::from_secs(60), || TcpStream::connect(address).is_ok())?;
    let request = http::get_request("load.test", PATH, &[]);
    Ok(Running { address, pid: process.pid(), request, _keep: Keep::Process(process) })
}
