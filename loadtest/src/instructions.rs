//! How many instructions a request takes in the thread that serves it, counted by valgrind: the same on a busy machine as on a
//! quiet one, so that two builds can be compared while something else runs, and a change that costs is seen. Not what it
//! costs: the kernel's part is not in it, nor are misses. `results/instructions.json` keeps what was counted.

mod kept;
mod subject;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use self::kept::Kept;
use self::subject::{Site, Subject};
use crate::balancer::find_program;
use crate::http::Connection;
use crate::linux;
use crate::llm::Provider;
use crate::matrix::measure::Backend;
use crate::node::Binary;
use crate::process::{Folder, output_of};

const WARM: usize = 200;
const COUNTED: usize = 500;
/// More than was kept, in hundredths: it fails.
const MORE: u64 = 5;

pub(crate) struct Options {
    pub(crate) keep: bool,
    /// Parts of names; empty: all.
    pub(crate) only: Vec<String>,
    pub(crate) results: PathBuf,
    pub(crate) profiles: Option<PathBuf>,
    pub(crate) binary: Binary,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    for program in ["valgrind", "callgrind_control", "nginx"] {
        ensure!(find_program(program).is_some(), "{program} is needed: install it, or use `cargo xtask instructions`");
    }
    linux::note_signals();
    let folder = Folder::fresh("instructions")?;
    let profiles = options.profiles.clone().unwrap_or_else(|| folder.path.clone());
    fs::create_dir_all(&profiles)?;
    let site = Site {
        folder: &folder.path,
        backend: Backend::start(&folder.path)?,
        provider: Provider::start(&folder.path)?,
        binary: &options.binary,
    };
    let wanted = |subject: &Subject| {
        options.only.is_empty() || options.only.iter().any(|only| subject.name().contains(only.as_str()))
    };
    let mut kept = Kept::read(&options.results)?;
    let mut counted = Vec::new();
    for subject in Subject::ALL.into_iter().filter(wanted) {
        eprintln!("{} …", subject.name());
        let each = count(subject, &site, &profiles).with_context(|| subject.name())?;
        counted.push((subject.name(), each));
    }
    ensure!(!counted.is_empty(), "no subject has this in its name");
    println!("{}", kept.table(&counted));
    if options.keep {
        return kept.keep(&counted, &options.results);
    }
    let dearer: Vec<&str> =
        counted.iter().filter(|(name, each)| kept.is_dearer(name, *each, MORE)).map(|it| it.0).collect();
    if !dearer.is_empty() {
        bail!("more than {MORE} % dearer than what is kept: {}. If it has to be: --keep", dearer.join("; "));
    }
    Ok(())
}

/// Of the thread that serves: what a node does in the background takes as long as the clock says, not as requests come.
fn count(subject: Subject, site: &Site<'_>, profiles: &Path) -> Result<u64> {
    let name = subject.name().replace([' ', ','], "-");
    let profile = std::path::absolute(profiles.join(format!("callgrind.{name}")))?;
    let running =
        subject.start(site, &["--separate-threads=yes", &format!("--callgrind-out-file={}", profile.display())])?;
    let mut connection = Connection::open(running.address, std::time::Duration::from_secs(60))?;
    let mut ask = |times: usize| -> Result<()> {
        for _ in 0..times {
            let answer = connection.exchange(&running.request).map_err(|broken| broken.why)?;
            ensure!(answer.status == 200, "status {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(())
    };
    ask(WARM)?;
    control(running.pid, "--zero")?;
    ask(COUNTED)?;
    control(running.pid, "--dump")?;
    Ok(busiest(profiles, &profile)? / COUNTED as u64)
}

/// valgrind writes a file for each thread: `FILE.1-03`.
fn busiest(folder: &Path, profile: &Path) -> Result<u64> {
    let start = format!("{}.1-", profile.file_name().unwrap_or_default().to_string_lossy());
    let mut most = 0;
    for file in fs::read_dir(folder)?.flatten() {
        if !file.file_name().to_string_lossy().starts_with(&start) {
            continue;
        }
        let told = fs::read_to_string(file.path())?;
        let total = told.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
        let total = total.and_then(|text| text.split(' ').next()).context("a profile has no sum")?;
        most = most.max(total.parse::<u64>()?);
    }
    ensure!(most > 0, "valgrind left no profile");
    Ok(most)
}

fn control(pid: u32, what: &str) -> Result<()> {
    output_of(Command::new("callgrind_control").args([what, &pid.to_string()])).map(drop)
}
