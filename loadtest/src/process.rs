//! Child processes that never outlive us: each leads its own process group, writes to a log file in the scenario's
//! folder, and is ended when its [`Process`] is dropped, or by the kernel if we die first.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::linux::{self, WhenOrphaned};

pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
    log: PathBuf,
}

/// How a child is started, apart from its command line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) name: &'a str,
    /// Where `NAME.log` goes.
    pub(crate) logs: &'a Path,
    pub(crate) when_orphaned: WhenOrphaned,
    pub(crate) cpus: Option<&'a [usize]>,
}

impl Process {
    pub(crate) fn start(mut command: Command, start: Start<'_>) -> Result<Self> {
        let log = start.logs.join(format!("{}.log", start.name));
        let file = File::options().create(true).append(true).open(&log).context("cannot open a log file")?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        linux::tie_to_us(&mut command, start.when_orphaned, start.cpus);
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Self { name: start.name.to_owned(), child, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn signal(&self, signal: i32) -> Result<()> {
        linux::signal(self.pid(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// SIGKILL, and wait until the kernel has closed everything the process held.
    pub(crate) fn kill_now(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// `None`: it still runs after `patience`.
    pub(crate) fn wait_for_exit(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() > until {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Calls `ready` until it answers true, the process ends, or patience does.
    pub(crate) fn wait_until(&mut self, patience: Duration, mut ready: impl FnMut() -> bool) -> Result<Duration> {
        let began = Instant::now();
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended early ({status}):\n{}", self.name, self.tail());
            }
            if began.elapsed() > patience {
                bail!("{} is not ready after {patience:?}:\n{}", self.name, self.tail());
            }
            if linux::asked_to_stop() {
                bail!("stopped");
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(began.elapsed())
    }

    /// The last lines of its log, for a message about its failure.
    pub(crate) fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            // An orderly stop first: nginx takes its workers along.
            let _ = self.signal(libc::SIGTERM);
            if !matches!(self.wait_for_exit(patience()), Ok(Some(_))) {
                let _ = self.kill_now();
            }
        }
    }
}

/// For an orderly stop. A program that learns (`cargo xtask pgo`) writes down what it learned when it ends, behind its drain.
fn patience() -> Duration {
    let learns = std::env::var_os("LLVM_PROFILE_FILE").is_some();
    if learns { Duration::from_secs(20) } else { Duration::from_millis(500) }
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // Not the whole command: its environment may hold a token.
        let program = command.get_program();
        let first = command.get_args().next().unwrap_or_default();
        bail!("{program:?} {first:?} failed ({}): {}{}", output.status, text.trim(), said.trim());
    }
    Ok(text)
}

/// A port that was free a moment ago. Only for programs that cannot be asked which port they got.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// `count` different ones.
pub(crate) fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    // All are held until all are known, so that none is given twice.
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?)).collect()
}

/// The first line a child wrote to its log that starts with `prefix`, without it.
pub(crate) fn logged_line(log: &Path, prefix: &str) -> Option<String> {
    let file = File::open(log).ok()?;
    BufReader::new(file).lines().map_while(Result::ok).find_map(|line| line.strip_prefix(prefix).map(str::to_owned))
}

/// A folder that is removed at the end, unless something failed and someone may want to look.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    keep: bool,
}

impl Folder {
    pub(crate) fn fresh(what: &str) -> Result<Self> {
        Self::at(std::env::temp_dir().join(format!("tidegate-{what}-{}", std::process::id())))
    }

    /// One more, inside another; removed on its own.
    pub(crate) fn within(folder: &Path) -> Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let path = folder.join(format!("run-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, keep: false })
    }

    /// At this very place.
    pub(crate) fn at(path: PathBuf) -> Result<Self> {
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, keep: false })
    }

    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
