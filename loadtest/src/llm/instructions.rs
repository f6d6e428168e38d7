//! How many instructions of a node a chat takes, counted by valgrind: the same on a busy machine as on a quiet one, so that
//! two builds can be compared while something else runs. Not what it costs: the kernel's part is not in it, nor are misses.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::provider::Provider;
use super::subject::{Ask, Kind, Running};
use super::{Options, Site};
use crate::http::Connection;
use crate::process::{Folder, output_of};

const WARM: usize = 200;
const COUNTED: usize = 500;

/// Leaves a profile of each for `callgrind_annotate`.
pub(crate) fn run(options: Options) -> Result<()> {
    let kinds = options.of(vec![Kind::Plain, Kind::Passing, Kind::Translating, Kind::Full]);
    let folder = Folder::fresh("llm-instructions")?;
    let provider = Provider::start(&folder.path)?;
    for kind in kinds {
        let profile = options.results.join(format!("callgrind.{}", kind.name().replace([' ', ','], "-")));
        let file = format!("--callgrind-out-file={}", std::path::absolute(&profile)?.display());
        let under = ["valgrind", "--tool=callgrind", "--separate-threads=no", &file];
        let binary = options.binary.clone().under(&under);
        let site = Site { binary: &binary, folder: &folder.path, provider: provider.address };
        let running = kind.start(&site).with_context(|| kind.name())?;
        let each = count(&running, &profile)?;
        println!("{}: {each} instructions for a chat; {}.1", kind.name(), profile.display());
    }
    Ok(())
}

fn count(running: &Running, profile: &Path) -> Result<u64> {
    let mut connection = Connection::open(running.address, Duration::from_secs(60))?;
    let request = running.request(Ask::Chat);
    let mut ask = |times: usize| -> Result<()> {
        for _ in 0..times {
            let answer = connection.exchange(&request).map_err(|broken| broken.why)?;
            ensure!(answer.status == 200, "status {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(())
    };
    ask(WARM)?;
    control(running, "--zero")?;
    ask(COUNTED)?;
    control(running, "--dump")?;
    let told = std::fs::read_to_string(profile.with_added_extension("1")).context("valgrind left no profile")?;
    let total = told.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    let total: u64 = total.context("the profile has no sum")?.split(' ').next().unwrap_or_default().parse()?;
    Ok(total / COUNTED as u64)
}

fn control(running: &Running, what: &str) -> Result<()> {
    let pid = running.groups.first().context("no process")?.to_string();
    output_of(Command::new("callgrind_control").args([what, &pid])).map(drop)
}
