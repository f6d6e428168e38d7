//! What is measured: how each proxy is started in front of the backend.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::measure::subject_cpus;
use crate::balancer::find_program;
use crate::linux::WhenOrphaned;
use crate::node::{Binary, Cluster, Extent, Manner};
use crate::process::{Process, Start, free_address};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    HyperPerWorker,
    HyperShared,
    TidegateBare,
    TidegateFull,
    TidegateBareShared,
    TidegateFullShared,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) workers: usize,
}

/// What every subject is started with.
pub(crate) struct Site<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) backend: SocketAddr,
    pub(crate) binary: Option<&'a Binary>,
}

/// A started subject; ends when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    /// Sent with every request.
    pub(crate) headers: Vec<(String, String)>,
    /// Process groups to account.
    pub(crate) groups: Vec<u32>,
    _keep: Keep,
}

#[expect(dead_code, reason = "held only to be dropped")]
enum Keep {
    Process(Process),
    Cluster(Box<Cluster>),
}

pub(crate) fn all(workers: usize, with_tidegate: bool) -> Vec<Subject> {
    let others = [Kind::Nginx, Kind::Haproxy, Kind::HyperPerWorker, Kind::HyperShared];
    let ours = [Kind::TidegateBare, Kind::TidegateFull, Kind::TidegateBareShared, Kind::TidegateFullShared];
    let ours = if with_tidegate { &ours[..] } else { &[] };
    others.iter().chain(ours).map(|kind| Subject { kind: *kind, workers }).collect()
}

impl Subject {
    pub(crate) fn name(&self) -> String {
        let name = match self.kind {
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
            Kind::HyperPerWorker => "hyper, a runtime per worker",
            Kind::HyperShared => "hyper, one shared runtime",
            Kind::TidegateBare => "tidegate bare",
            Kind::TidegateFull => "tidegate full",
            Kind::TidegateBareShared => "tidegate bare, shared runtime",
            Kind::TidegateFullShared => "tidegate full, shared runtime",
        };
        name.to_owned()
    }

    pub(crate) fn start(&self, site: &Site<'_>) -> Result<Running> {
        match self.kind {
            Kind::Nginx | Kind::Haproxy | Kind::HyperPerWorker | Kind::HyperShared => self.start_other(site),
            Kind::TidegateBare => self.start_tidegate(site, Extent::Bare, false),
            Kind::TidegateFull => self.start_tidegate(site, Extent::Full, false),
            Kind::TidegateBareShared => self.start_tidegate(site, Extent::Bare, true),
            Kind::TidegateFullShared => self.start_tidegate(site, Extent::Full, true),
        }
    }

    fn start_other(&self, site: &Site<'_>) -> Result<Running> {
        let address = free_address()?;
        let command = match self.kind {
            Kind::Nginx => {
                let mut command = Command::new(find_program("nginx").context("nginx is not installed")?);
                let text = include_str!("../../conf/nginx-proxy.conf");
                let file = self.write_configuration(site, "nginx-proxy.conf", text, address)?;
                command.arg("-p").arg(site.folder).arg("-c").arg(file);
                command
            }
            Kind::Haproxy => {
                let mut command = Command::new(find_program("haproxy").context("haproxy is not installed")?);
                let text = include_str!("../../conf/haproxy-proxy.cfg");
                command.arg("-db").arg("-f").arg(self.write_configuration(site, "haproxy-proxy.cfg", text, address)?);
                command
            }
            _ => {
                let layout = if self.kind == Kind::HyperShared { "shared" } else { "per-worker" };
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["empty-proxy", "--layout", layout, "--workers", &self.workers.to_string()]);
                command.args(["--http", &address.to_string(), "--upstream", &site.backend.to_string()]);
                command
            }
        };
        let cpus = subject_cpus(self.workers);
        let start = Start {
            name: "subject",
            logs: site.folder,
            when_orphaned: if self.kind == Kind::Nginx { WhenOrphaned::Terminate } else { WhenOrphaned::Kill },
            cpus: Some(&cpus),
        };
        let mut process = Process::start(command, start)?;
        process.wait_until(Duration::from_secs(5), || TcpStream::connect(address).is_ok())?;
        Ok(Running { address, headers: Vec::new(), groups: vec![process.pid()], _keep: Keep::Process(process) })
    }

    fn write_configuration(&self, site: &Site<'_>, name: &str, text: &str, listen: SocketAddr) -> Result<String> {
        let text = text
            .replace("@WORKERS@", &self.workers.to_string())
            .replace("@LISTEN@", &listen.to_string())
            .replace("@UPSTREAM@", &site.backend.to_string())
            .replace("@FOLDER@", &site.folder.display().to_string());
        let file = site.folder.join(name);
        fs::write(&file, text)?;
        Ok(file.display().to_string())
    }

    fn start_tidegate(&self, site: &Site<'_>, extent: Extent, shared_runtime: bool) -> Result<Running> {
        let binary = site.binary.context("the tidegate program is missing")?;
        let manner = Manner { cpus: Some(subject_cpus(self.workers)), shared_runtime, ..Manner::default() };
        let cluster = Cluster::start(binary, site.folder, 1, manner)?;
        let headers = cluster.publish(extent, site.backend)?;
        let (address, groups) = (cluster.nodes[0].http, cluster.groups());
        Ok(Running { address, headers, groups, _keep: Keep::Cluster(Box::new(cluster)) })
    }
}
