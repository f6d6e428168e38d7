//! Chats alone, in many short rounds, each subject in turn: for comparing builds while working at what a chat costs.

use std::time::Duration;

use anyhow::{Context, Result};

use super::provider::Provider;
use super::subject::{Ask, Kind};
use super::{Options, Site};
use crate::linux;
use crate::process::Folder;
use crate::usage::Usage;

const ROUNDS: usize = 7;

/// CPU µs, user and system.
type Cost = (f64, f64);

pub(crate) fn run(options: &Options) -> Result<()> {
    linux::note_signals();
    linux::open_many_files();
    let folder = Folder::fresh("llm-chats")?;
    let provider = Provider::start(&folder.path)?;
    let site = Site { binary: &options.binary, folder: &folder.path, provider: provider.address };
    let mut subjects = Vec::new();
    for kind in options.of(Kind::installed()).into_iter().filter(|kind| !kind.is_slow()) {
        subjects.push((kind.start(&site).with_context(|| kind.name())?, Vec::<Cost>::new()));
    }
    for _ in 0..ROUNDS {
        for (running, costs) in &mut subjects {
            running.wrk(&site, Ask::Chat, Duration::from_secs(1))?;
            let before = Usage::of(&running.groups);
            let (chats, _) = running.wrk(&site, Ask::Chat, Duration::from_secs(1))?;
            let used = Usage::of(&running.groups) - before;
            costs.push((used.user.as_secs_f64() * 1e6 / chats, used.system.as_secs_f64() * 1e6 / chats));
        }
    }
    for (running, costs) in &mut subjects {
        costs.sort_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1)));
        let tell = |(user, system): Cost| format!("{user:.1} + {system:.1} = {:.1}", user + system);
        let (least, middle) = (costs[0], costs[costs.len() / 2]);
        println!("{:24} least {}, median {} µs", running.kind.name(), tell(least), tell(middle));
    }
    Ok(())
}
