//! The load test: every subject is measured in the same way, one after the other, and the table is written down.

mod cluster;
pub(crate) mod measure;
pub(crate) mod report;
pub(crate) mod subject;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::balancer::find_program;
use crate::decide;
use crate::linux;
use crate::node::Binary;
use crate::process::Folder;

pub(crate) struct Options {
    pub(crate) quick: bool,
    /// Parts of names; empty: all.
    pub(crate) only: Vec<String>,
    pub(crate) results: PathBuf,
    /// Without it only the others are measured.
    pub(crate) binary: Option<Binary>,
}

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) warm_up: Duration,
    pub(crate) saturated: Duration,
    pub(crate) paced: Duration,
    pub(crate) rounds: usize,
}

impl Effort {
    fn of(quick: bool) -> Self {
        let seconds = Duration::from_secs;
        if quick {
            Self { warm_up: seconds(1), saturated: seconds(3), paced: seconds(4), rounds: 1 }
        } else {
            Self { warm_up: seconds(2), saturated: seconds(8), paced: seconds(10), rounds: 3 }
        }
    }
}

/// Requests per second of the paced half of the measurement.
pub(crate) const PACE: f64 = 2_000.0;

pub(crate) fn run(options: &Options) -> Result<()> {
    for program in ["nginx", "haproxy", "wrk"] {
        anyhow::ensure!(find_program(program).is_some(), "{program} is needed: install it, or use `cargo xtask load`");
    }
    linux::note_signals();
    let effort = Effort::of(options.quick);
    let folder = Folder::fresh("load")?;
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| name.contains(only.as_str()));
    let mut report = report::Report::new(options.quick)?;
    let backend = measure::Backend::start(&folder.path)?;
    for workers in [1, 2] {
        let subjects = subject::all(workers, options.binary.is_some());
        let subjects: Vec<_> = subjects.into_iter().filter(|subject| wanted(&subject.name())).collect();
        let mut rows: Vec<Vec<measure::Row>> = subjects.iter().map(|_| Vec::new()).collect();
        // Round by round over all subjects, so that a slow minute of the machine hits all of them.
        for round in 1..=effort.rounds {
            for (subject, rows) in subjects.iter().zip(&mut rows) {
                eprintln!("{} · {workers} worker(s) · round {round} of {}", subject.name(), effort.rounds);
                let site =
                    subject::Site { folder: &folder.path, backend: backend.address, binary: options.binary.as_ref() };
                let running = subject.start(&site)?;
                rows.push(measure::measure(subject, &running, &backend, effort)?);
            }
        }
        for (subject, rows) in subjects.iter().zip(rows) {
            report.proxy(subject, rows);
        }
    }
    if let Some(binary) = &options.binary {
        if wanted("five") {
            report.clusters(cluster::measure(binary, &folder.path, &backend, effort)?);
        }
        if wanted("idle") {
            report.idle(&cluster::idle(binary, &folder.path, effort)?);
        }
        if wanted("apply") {
            report.apply(&cluster::apply(binary, &folder.path, effort)?);
        }
    }
    if wanted("decide") {
        eprintln!("decisions");
        report.decided(decide::measure()?);
    }
    println!("{}", report.table());
    report.write(&options.results)
}
