//! Chaos: real nodes, each in a network and on a small disk of its own, under load and under operators, while one fault after the
//! other is drawn from a seed. When all is mended, five things are judged: no window holds more than its limit; what operators
//! were told has an order that explains it (each history is searched for one); nothing acknowledged is lost; all nodes are ready
//! and the same; which requests failed that a load balancer could have given to another node.

mod admin;
mod dice;
mod document;
mod faults;
mod linear;
mod load;
mod member;
mod models;
mod stage;
mod verdict;
mod world;
mod writers;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use crate::linux::{self, WhenOrphaned};
use crate::node::Binary;
use crate::process::{Folder, Process, Start};
use dice::Dice;
use document::Terms;
pub(crate) use faults::Fault;
use load::Load;
use stage::Stage;
use verdict::Verdict;
use writers::Writers;

const COUNTED: u16 = 9000;
const OPEN: u16 = 9001;

pub(crate) struct Options {
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) only: Vec<Fault>,
    pub(crate) rate: u32,
    pub(crate) keep: bool,
    pub(crate) binary: Binary,
}

/// Another one each time.
pub(crate) fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() ^ u64::from(now.subsec_nanos())
}

/// What a run came to.
struct Story {
    requests: u64,
    failed: u64,
    verdict: Verdict,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    linux::note_signals();
    let mut folder = Folder::at(std::env::temp_dir().join(format!("tidegate-chaos-{}", seed())))?;
    println!("chaos of {} s with seed {} over {} nodes", options.seconds, options.seed, options.nodes);
    let story = match play(options, &folder.path) {
        Ok(story) => story,
        Err(why) => {
            keep(&mut folder, options.nodes);
            return Err(why);
        }
    };
    let Verdict { ratio, lost, illegal, faults } = &story.verdict;
    for fault in faults {
        println!("{fault}");
    }
    if options.keep || !faults.is_empty() || story.failed > 0 {
        keep(&mut folder, options.nodes);
    } else {
        // What is mounted cannot be removed.
        for nth in 1..=options.nodes {
            world::run("umount", &["-R", "-l", &folder.path.join(format!("n{nth}")).display().to_string()])?;
        }
    }
    let Story { requests, failed, .. } = story;
    println!("chaos requests={requests} failed={failed} worst_window_ratio={ratio:.3} lost={lost} illegal={illegal}");
    match faults.len() {
        0 => Ok(()),
        count => bail!("{count} things are wrong; the same again: --seed {}", options.seed),
    }
}

/// The nodes' disks are gone with this process: what is on them is copied.
fn keep(folder: &mut Folder, nodes: usize) {
    folder.keep();
    for nth in 1..=nodes {
        let (disk, copy) = (folder.path.join(format!("n{nth}")), folder.path.join(format!("n{nth}.disk")));
        let _not_full_any_more = std::fs::remove_file(disk.join("filler"));
        let copied = Command::new("cp").arg("-a").arg(&disk).arg(&copy).status();
        if !copied.is_ok_and(|status| status.success()) {
            println!("the disk of n{nth} could not be copied");
        }
    }
    println!("kept: {}", folder.path.display());
}

fn play(options: &Options, folder: &Path) -> Result<Story> {
    let mut stage = Stage::set(folder, &options.binary, options.nodes)?;
    let requests = folder.join("requests");
    std::fs::write(&requests, "")?;
    // What no limit counts is in no decision log.
    let _open = backend(folder, OPEN, None)?;
    let _counted = backend(folder, COUNTED, Some(&requests))?;
    let [open, backend] = [OPEN, COUNTED].map(|port| SocketAddr::new(world::OUTSIDE, port));
    // A quarter and a half of the requests, each at about twice what its limit allows.
    let terms = Terms { open, backend, window: u64::from(options.rate), minute: u64::from(options.rate) * 15 / 2 };
    let key = stage.tell_what_to_do(&terms)?;
    let load = Load::start(options.nodes, &key, options.rate, options.seed);
    let writers = Writers::start(&stage.told.token, options.nodes, terms, options.seed);
    let struck = trouble(options, &mut stage);
    let mended = struck.and_then(|()| {
        let took = stage.converge()?;
        stage.tell(&format!("all nodes are ready and the same after {took:.1?}"));
        Ok(())
    });
    stage.tell(&format!("{} operations on the control state", writers.operations()));
    let done = writers.finish();
    let counts = load.finish();
    done.write(folder)?;
    mended?;
    stage.converge()?;
    stage.tell(&verdict::of_the_load(&counts));
    for (sample, times) in counts.samples.lock().expect("no panic while locked").iter() {
        println!("failed {times} times at {sample}");
    }
    let verdict = verdict::judge(&mut stage, &done, &requests)?;
    stage.tell(&format!(
        "judged {} histories of registers and one of {} operations on the document; nobody knows whether {} writes happened",
        done.registers.len(),
        done.document.len(),
        done.unknown
    ));
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    Ok(Story { requests: of(&counts.requests), failed: of(&counts.failed), verdict })
}

/// One fault after the other, until the time is over.
fn trouble(options: &Options, stage: &mut Stage) -> Result<()> {
    let faults: Vec<Fault> = if options.only.is_empty() { Fault::ALL.to_vec() } else { options.only.clone() };
    let mut dice = Dice::new(options.seed);
    let ends = Instant::now() + Duration::from_secs(options.seconds);
    let mut turn = Vec::new();
    stage.rest(Duration::from_secs(2))?;
    while Instant::now() < ends {
        // All of them in some order, then all of them in another.
        if turn.is_empty() {
            turn = dice.shuffled(faults.len());
        }
        let fault = faults[turn.pop().unwrap_or(0)];
        faults::strike(fault, stage, &mut dice)?;
        let took = stage.wait_until_ready()?;
        stage.tell(&format!("{:<12} all are ready after {took:.1?}", ""));
        stage.rest(Duration::from_millis(dice.between(200, 2_500)))?;
    }
    Ok(())
}

fn backend(folder: &Path, port: u16, requests: Option<&Path>) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["backend", "--http", &SocketAddr::new(world::OUTSIDE, port).to_string()]);
    if let Some(requests) = requests {
        command.arg("--requests").arg(requests);
    }
    let name = format!("backend-{port}");
    Process::start(command, Start { name: &name, logs: folder, when_orphaned: WhenOrphaned::Kill, cpus: None })
}
