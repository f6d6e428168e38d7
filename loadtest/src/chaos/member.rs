//! One node: its process, its small disk, its dials (a wrong wall clock, a slow disk).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::admin;
use super::world::{at_port, inside, run};
use crate::linux::WhenOrphaned;
use crate::node::Binary;
use crate::process::{Process, Start, output_of};

pub(super) const HTTP: u16 = 8080;
pub(super) const ADMIN: u16 = 7080;
const PEER: u16 = 7081;
/// Of a node's disk, decision logs apart: they are the evidence.
const DISK: &str = "size=96m,mode=0700";

pub(super) struct Member {
    pub(super) at: usize,
    pub(super) data: PathBuf,
    dials: File,
    process: Option<Process>,
}

/// What all of them are told.
pub(super) struct Told {
    pub(super) folder: PathBuf,
    pub(super) binary: Binary,
    pub(super) token: String,
    shim: PathBuf,
    peers: String,
}

impl Told {
    pub(super) fn prepare(folder: &Path, binary: &Binary, count: usize) -> Result<Self> {
        let source = folder.join("shim.c");
        let shim = folder.join("shim.so");
        fs::write(&source, include_str!("shim.c"))?;
        let mut compile = Command::new("cc");
        output_of(compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source).arg("-ldl"))?;
        let token = format!("tga_{}", "5".repeat(40));
        fs::write(folder.join("first.token"), &token)?;
        fs::write(folder.join("cluster.secret"), "0123456789abcdef0123456789abcdef\n")?;
        let peers: Vec<_> = (0..count).map(|at| at_port(at, PEER).to_string()).collect();
        Ok(Self { folder: folder.to_owned(), binary: binary.clone(), token, shim, peers: peers.join(",") })
    }
}

impl Member {
    pub(super) fn new(at: usize, told: &Told) -> Result<Self> {
        let name = format!("n{}", at + 1);
        let (data, evidence) = (told.folder.join(&name), told.folder.join("evidence").join(&name).join("decisions"));
        fs::create_dir_all(&data)?;
        fs::create_dir_all(&evidence)?;
        run("mount", &["-t", "tmpfs", "-o", DISK, "tmpfs", text(&data)?])?;
        fs::create_dir(data.join("decisions"))?;
        run("mount", &["--bind", text(&evidence)?, text(&data.join("decisions"))?])?;
        let path = told.folder.join(format!("{name}.dials"));
        fs::write(&path, [0; 16])?;
        let dials = File::options().write(true).open(&path)?;
        Ok(Self { at, data, dials, process: None })
    }

    pub(super) fn name(&self) -> String {
        format!("n{}", self.at + 1)
    }

    pub(super) fn start(&mut self, told: &Told) -> Result<()> {
        let mut command = inside(self.at);
        let own = at_port(self.at, PEER).to_string();
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
            command.env_remove(name);
        }
        let folder = |name: &str| told.folder.join(name);
        command.arg("env").arg(format!("LD_PRELOAD={}", told.shim.display()));
        command.arg(format!("CHAOS_DIALS={}", folder(&format!("{}.dials", self.name())).display()));
        command
            .arg(told.binary.command().get_program())
            .arg("serve")
            .arg("--data")
            .arg(&self.data)
            .args(["--name", &self.name()]);
        command.args(["--http", &format!("0.0.0.0:{HTTP}"), "--https", "off"]);
        command.args(["--admin", &format!("127.0.0.1:{ADMIN}"), "--peer", &own, "--advertise", &own]);
        command.args(["--initial-peers", &told.peers]);
        command.arg("--cluster-secret-file").arg(folder("cluster.secret"));
        command.arg("--first-admin-token-file").arg(folder("first.token"));
        command.args(["--decision-log", "--drain-wait", "500ms", "--drain-timeout", "10s", "--forget-after", "never"]);
        command.args(["--cache-memory", "16MiB"]);
        let name = self.name();
        let start = Start { name: &name, logs: &told.folder, when_orphaned: WhenOrphaned::Kill, cpus: None };
        self.process = Some(Process::start(command, start)?);
        Ok(())
    }

    pub(super) fn is_ready(&self) -> bool {
        admin::is_ready(self.at)
    }

    /// It ended though nobody asked it to.
    pub(super) fn has_died(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| !process.is_running())
    }

    pub(super) fn last_words(&self) -> String {
        self.process.as_ref().map(Process::tail).unwrap_or_default()
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill_now(),
            None => Ok(()),
        }
    }

    pub(super) fn signal(&self, signal: i32) -> Result<()> {
        self.process.as_ref().context("the node runs")?.signal(signal)
    }

    /// SIGTERM, and to its end.
    pub(super) fn drain(&mut self) -> Result<()> {
        self.signal(libc::SIGTERM)?;
        self.wait_for_end()
    }

    pub(super) fn wait_for_end(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the node runs")?;
        let ended = process.wait_for_exit(Duration::from_secs(40))?;
        ensure!(ended.is_some(), "{} does not end when it is told to:\n{}", self.name(), process.tail());
        Ok(())
    }

    /// The wall clock is ahead by so many milliseconds.
    pub(super) fn shift_wall(&self, millis: i64) -> Result<()> {
        Ok(self.dials.write_all_at(&millis.to_ne_bytes(), 0)?)
    }

    pub(super) fn slow_disk(&self, each_sync: Duration) -> Result<()> {
        let millis = i64::try_from(each_sync.as_millis())?;
        Ok(self.dials.write_all_at(&millis.to_ne_bytes(), 8)?)
    }

    /// To the last byte.
    pub(super) fn fill_disk(&self) -> Result<()> {
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", &format!("of={}", self.filler().display()), "bs=4096"]);
        let _ends_with_an_error = dd.output()?;
        Ok(())
    }

    pub(super) fn free_disk(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.data.join("filler")
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}
