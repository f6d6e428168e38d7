//! Limits side by side: Tidegate, Redis asked for every request (INCR, and a script), and counters that nodes exchange at
//! intervals; the same load, machine and judge. README.md beside `src/` says how.

mod cold;
mod contender;
mod costs;
mod cpu;
mod demand;
mod exact;
mod failover;
mod plan;
mod reach;
mod responder;
mod verdict;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub(crate) use responder::{Args as Limited, serve as limited};

use crate::figure::Figure;
use crate::linux;
use crate::node::Binary;
use crate::process::Folder;
use crate::shared::report::{About, Report, Section};
use crate::{decide, shared};
use cold::Cold;
use costs::Cost;
use exact::{Bill, Row};
use failover::Killed;
use plan::Case;
use reach::Measured;

pub(crate) struct Options {
    pub(crate) quick: bool,
    /// Empty: what is usual.
    pub(crate) nodes: Vec<u16>,
    /// Parts of names of contenders; empty: all.
    pub(crate) only: Vec<String>,
    pub(crate) results: PathBuf,
    pub(crate) binary: Binary,
}

/// What every part is given.
struct Site<'a> {
    binary: &'a Binary,
    folder: &'a Path,
    quick: bool,
}

const ABOUT: About = About {
    file: "limits",
    title: "Limits side by side",
    rivals: &["redis"],
    sections: &["reach", "exact", "decision", "traffic", "cold", "killed"],
};

pub(crate) fn run(options: &Options) -> Result<()> {
    linux::note_signals();
    let folder = Folder::fresh("limits")?;
    let site = Site { binary: &options.binary, folder: &folder.path, quick: options.quick };
    let mut report = Report::begin(&options.results, ABOUT, options.quick)?;
    let (before, mut all, mut bills) = (shared::load_average(), Measured::default(), Vec::new());
    let mut write = |all: &Measured, bills: &[Bill]| -> Result<()> {
        let load = format!("{before} → {}{}", shared::load_average(), busy(&before));
        for (name, mut section) in sections(all, bills) {
            section.load.clone_from(&load);
            report.add(name, section)?;
        }
        Ok(())
    };
    let usual = if options.quick { &[3][..] } else { &[3, 5, 10] };
    let counts = if options.nodes.is_empty() { usual } else { &options.nodes };
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| name.contains(only.as_str()));
    for nodes in counts {
        let cases = plan::cases(usize::from(*nodes), options.quick);
        for contender in contender::ALL.into_iter().filter(|contender| wanted(&contender.name())) {
            eprintln!("{}, {nodes} nodes", contender.name());
            let first = *nodes == counts[0]; // what one decision costs depends little on how many nodes there are
            one(&site, contender, usize::from(*nodes), first, &cases, &mut all, &mut bills)?;
            write(&all, &bills)?; // at once, so that an hour is not lost when the next one fails
        }
    }
    // Alone it is a matter of seconds, so that the rare slow election shows.
    let alone = options.only.iter().any(|only| only == failover::NAME);
    if alone || wanted(reach::OURS) {
        let rounds = if alone {
            10
        } else if site.quick {
            1
        } else {
            5
        };
        all.killed = failover::measure(&site, rounds)?;
    }
    if !options.quick && wanted(reach::OURS) {
        all.decided = decide::measure()?;
    }
    write(&all, &bills)?;
    for (name, section) in sections(&all, &bills) {
        println!("{}", section.text(name));
    }
    println!("{}", summary(&all));
    Ok(())
}

/// One contender with so many nodes: all cases, and `costs` of a single decision.
fn one(
    site: &Site<'_>,
    contender: contender::Contender,
    nodes: usize,
    costs: bool,
    cases: &[Case],
    all: &mut Measured,
    bills: &mut Vec<Bill>,
) -> Result<()> {
    let rules = cases.iter().flat_map(|case| &case.streams).map(|stream| stream.rule.clone());
    let rules = contender::distinct(rules.chain([costs::rule(), cold::rule()]));
    let running = contender.start(site.binary, site.folder, nodes, &rules)?;
    if costs {
        all.cold.push(cold::measure(&running, site.quick)?);
        all.costs.push(costs::measure(&running, site.quick)?);
    }
    for case in cases {
        let (rows, bill) = exact::measure(&running, case)?;
        all.rows.extend(rows);
        bills.push(bill);
    }
    Ok(())
}

fn sections(all: &Measured, bills: &[Bill]) -> Vec<(&'static str, Section)> {
    let mut exact = Section::new("How exact, and how much is used", EXACT.to_owned(), &Row::COLUMNS);
    all.rows.iter().for_each(|row| exact.row(row.cells(), row.json()));
    let mut decision = Section::new("What a limit adds to a request", decision_how(), &Cost::COLUMNS);
    all.costs.iter().for_each(|cost| decision.row(cost.cells(), cost.json()));
    let mut traffic = Section::new("What nodes tell each other", TRAFFIC.to_owned(), &Bill::COLUMNS);
    bills.iter().for_each(|bill| traffic.row(bill.cells(), bill.json()));
    let mut cold = Section::new("The first request of a key", COLD.to_owned(), &Cold::COLUMNS);
    all.cold.iter().for_each(|one| cold.row(one.cells(), one.json()));
    let mut killed = Section::new("The leader is killed", KILLED.to_owned(), &Killed::COLUMNS);
    all.killed.iter().zip(1..).for_each(|(one, round)| killed.row(one.cells(round), one.json()));
    let mut reach = Section::new("What was to be reached", REACH.to_owned(), &Figure::COLUMNS);
    all.figures().iter().for_each(|figure| reach.row(figure.cells(), figure.json()));
    vec![
        ("reach", reach),
        ("exact", exact),
        ("decision", decision),
        ("traffic", traffic),
        ("cold", cold),
        ("killed", killed),
    ]
}

const REACH: &str = "Tidegate's figures, the worst of all rows that a line is about.";
const EXACT: &str = "A stream is SHAPE-WINDOW-DEMAND in percent of the limit L. `hot`: one key, all nodes alike; `skew`: one key, \
    80/15/5 over three nodes; `waves`: bursts of 6 L a window that drift over fixed windows; `zipf`: 500 keys, ∝ rank^-1.2, demand \
    and use are of the first. Windows are judged from stamps of every permit, by the code behind `tidegate quota verify`, \
    from the first request on; use, refusals and latencies count from the second window on. Demand is random: 0.7 of a small \
    limit passes the limit now and then, which the exact script of Redis refuses too. No decision: 503 while no leader answers.";
const TRAFFIC: &str = "Messages: Tidegate's reports and appends, with their answers; commands to Redis with their answers; \
    datagrams between counters. Log bytes: of all nodes' quota logs. CPU: gateways and redis-server, the answer itself included.";
const COLD: &str = "One at a time, over all nodes in turn; each key is asked for once. L = 300, W = 10 s.";
const KILLED: &str = "Three nodes of Tidegate, SIGKILL to the quota group's leader, demand at half of two limits (300 at 1 s, 1,500 \
    at 10 s); what the two others told their clients from then on. Grants are back when both have admitted a new key.";

fn decision_how() -> String {
    format!(
        "{} requests/s over all nodes, without a limit and with one that admits all, in turn; medians of the differences. \
         Demand is half of \
         a large limit: what decisions near and above one cost is in the table of what nodes tell each other. \
         CPU as the scheduler charges it; latencies from when a request was due.",
        costs::RATE
    )
}

fn summary(all: &Measured) -> String {
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let worst = |contender: contender::Contender| figure(all.worst(&contender.name()));
    let [ours, incr, lua, often, seldom] = contender::ALL.map(worst);
    let figures = all.figures();
    let (met, of) = (figures.iter().filter(|one| one.cells()[3] == "yes").count(), figures.len());
    let (second, ten, refused) = (figure(all.used(1)), figure(all.used(10)), figure(all.refused()));
    format!(
        "limits worst tidegate={ours} redis_incr={incr} redis_lua={lua} counters_100ms={often} counters_1s={seldom} \
         utilisation_1s={second} utilisation_10s={ten} refused_70={refused} reached={met}/{of}"
    )
}

/// What to make of times on a machine that others used.
fn busy(load: &str) -> &'static str {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let waited = load.parse::<f64>().is_ok_and(|load| load > float(cpus as u64));
    if waited {
        ": a busy machine before we began, so latencies and CPU say little; windows are judged all the same"
    } else {
        ""
    }
}

fn float(count: u64) -> f64 {
    count as f64
}

/// The middle one; of an even number the mean of the two; 0 of none.
fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    match (of.get(of.len().saturating_sub(1) / 2), of.get(of.len() / 2)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(super::median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(super::median(vec![4.0, 1.0]), 2.5);
        assert_eq!(super::median(Vec::new()), 0.0);
    }
}
