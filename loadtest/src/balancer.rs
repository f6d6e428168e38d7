//! The load balancer in front of the nodes: HAProxy, or nginx where that is missing. Writes its configuration, starts
//! it, and (nginx only, which checks nobody's health by itself) tells it which nodes are ready.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::linux::WhenOrphaned;
use crate::process::{Process, Start, free_address};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Haproxy,
    Nginx,
}

/// One node as the balancer sees it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) http: SocketAddr,
    /// Where `/readyz` is; `None`: never checked, always in.
    pub(crate) health: Option<SocketAddr>,
}

pub(crate) struct Balancer {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    folder: PathBuf,
    servers: Vec<Server>,
    workers: usize,
    listed: Vec<bool>,
}

impl Kind {
    pub(crate) fn installed() -> Result<Self> {
        let all = [(Self::Haproxy, "haproxy"), (Self::Nginx, "nginx")];
        match all.into_iter().find(|(_, program)| find_program(program).is_some()) {
            Some((kind, _)) => Ok(kind),
            None => bail!("a load balancer is needed: install haproxy (or nginx)"),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
        }
    }
}

/// Also in the folders that only root has on its PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

impl Balancer {
    pub(crate) fn start(
        kind: Kind,
        folder: &Path,
        servers: Vec<Server>,
        workers: usize,
        cpus: Option<&[usize]>,
    ) -> Result<Self> {
        let address = free_address()?;
        let listed = vec![true; servers.len()];
        write_configuration(kind, folder, address, &servers, &listed, workers)?;
        let (program, when_orphaned) = match kind {
            Kind::Haproxy => ("haproxy", WhenOrphaned::Kill),
            Kind::Nginx => ("nginx", WhenOrphaned::Terminate),
        };
        let mut command = Command::new(find_program(program).with_context(|| format!("{program} is not installed"))?);
        match kind {
            Kind::Haproxy => command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg")),
            Kind::Nginx => command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")),
        };
        let start = Start { name: program, logs: folder, when_orphaned, cpus };
        let mut process = Process::start(command, start)?;
        process.wait_until(Duration::from_secs(5), || std::net::TcpStream::connect(address).is_ok())?;
        Ok(Self { kind, address, process, folder: folder.to_owned(), servers, workers, listed })
    }

    /// Which servers it sends requests to; `None` if it cannot say.
    pub(crate) fn servers_up(&self) -> Option<Vec<bool>> {
        if self.kind == Kind::Nginx {
            return Some(self.listed.clone());
        }
        let mut socket = UnixStream::connect(self.folder.join("haproxy.sock")).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        socket.write_all(b"show stat\n").ok()?;
        let mut table = String::new();
        socket.read_to_string(&mut table).ok()?;
        // CSV: pxname,svname,…; the 18th column is the status.
        let up = |server: &Server| {
            table.lines().any(|line| {
                let mut columns = line.split(',');
                columns.next() == Some("nodes")
                    && columns.next() == Some(&server.name)
                    && columns.nth(15).is_some_and(|status| status.starts_with("UP") || status == "no check")
            })
        };
        Some(self.servers.iter().map(up).collect())
    }

    /// For nginx, which has no checks of its own: `ready[i]` is what the `i`th server's `/readyz` says.
    pub(crate) fn heed(&mut self, ready: &[bool]) -> Result<()> {
        // With nobody ready nginx keeps what it has: an empty list is no valid configuration.
        if self.kind == Kind::Haproxy || ready == self.listed || !ready.contains(&true) {
            return Ok(());
        }
        self.listed = ready.to_vec();
        write_configuration(self.kind, &self.folder, self.address, &self.servers, &self.listed, self.workers)?;
        self.process.signal(libc::SIGHUP)
    }
}

fn write_configuration(
    kind: Kind,
    folder: &Path,
    listen: SocketAddr,
    servers: &[Server],
    listed: &[bool],
    workers: usize,
) -> Result<()> {
    let (file, text) = match kind {
        Kind::Haproxy => ("haproxy.cfg", haproxy_configuration(servers)),
        Kind::Nginx => ("nginx.conf", nginx_configuration(servers, listed)),
    };
    let text = text
        .replace("@LISTEN@", &listen.to_string())
        .replace("@WORKERS@", &workers.to_string())
        .replace("@SOCKET@", &folder.join("haproxy.sock").display().to_string())
        .replace("@FOLDER@", &folder.display().to_string());
    fs::write(folder.join(file), text).context("cannot write the balancer's configuration")
}

fn haproxy_configuration(servers: &[Server]) -> String {
    let line = |server: &Server| match server.health {
        Some(health) => format!("    server {} {} check port {}", server.name, server.http, health.port()),
        None => format!("    server {} {}", server.name, server.http),
    };
    let lines: Vec<_> = servers.iter().map(line).collect();
    include_str!("../conf/haproxy.cfg").replace("@SERVERS@", &lines.join("\n"))
}

fn nginx_configuration(servers: &[Server], listed: &[bool]) -> String {
    let lines: Vec<_> = servers
        .iter()
        .zip(listed)
        .filter(|(_, listed)| **listed)
        .map(|(server, _)| format!("        server {} max_fails=1 fail_timeout=1s;", server.http))
        .collect();
    // After a retry $upstream_addr lists all that were tried; the last one answered.
    let names: Vec<_> = servers
        .iter()
        .map(|server| format!("        ~(^|\\ ){}$ {};", server.http.to_string().replace('.', "\\."), server.name))
        .collect();
    include_str!("../conf/nginx.conf").replace("@SERVERS@", &lines.join("\n")).replace("@NAMES@", &names.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Vec<Server> {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        (1..=5)
            .map(|nth| Server {
                name: format!("n{nth}"),
                http: address(18080 + nth),
                health: Some(address(17080 + nth)),
            })
            .collect()
    }

    /// Checked by the program itself, where it is installed.
    fn accepts(kind: Kind, program: &str, arguments: impl FnOnce(&mut Command, &Path)) {
        let Some(program) = find_program(program) else { return };
        let folder = crate::process::Folder::fresh(kind.name()).expect("a folder");
        let listen = free_address().expect("an address");
        let listed = [true, true, true, false, false];
        write_configuration(kind, &folder.path, listen, &servers(), &listed, 1).expect("written");
        let mut command = Command::new(program);
        arguments(&mut command, &folder.path);
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn haproxy_accepts_the_configuration_of_the_demo() {
        accepts(Kind::Haproxy, "haproxy", |command, folder| {
            command.arg("-c").arg("-f").arg(folder.join("haproxy.cfg"));
        });
    }

    #[test]
    fn nginx_accepts_the_configuration_of_the_demo() {
        accepts(Kind::Nginx, "nginx", |command, folder| {
            command.arg("-t").arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
        });
    }

    #[test]
    fn nginx_sends_requests_to_the_nodes_that_are_listed_and_knows_the_names_of_all() {
        let text = nginx_configuration(&servers(), &[true, false, true, false, false]);
        assert_eq!(text.matches("max_fails=1").count(), 2);
        assert!(text.contains("18082$ n2;") && !text.contains("server 127.0.0.1:18082"), "{text}");
    }
}
