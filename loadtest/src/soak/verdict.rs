//! What the soak found, against its bounds: a table for people, one line for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::listed::{How, Kind, LIST, listed};
use super::memory::{Held, Look, slope_per_minute};
use super::stage::STEADY;
use super::tally::{Counts, Failure};

/// Of memory, in the last 70 % of the load.
const MOST_SLOPE: f64 = 0.5e6;
/// Of memory after the load, at rest, to before it.
const MOST_BACK: f64 = 1.10;
/// Descriptors and threads that may come and go: a look, a timer, a worker for files.
const FEW: u64 = 8;
/// Of each kind of failure.
const SHOWN: usize = 4;

/// All that is known at the end.
pub(super) struct Story {
    pub(super) asked_for: Duration,
    /// Some parts were left away: what did not happen is not missed.
    pub(super) partly: bool,
    /// At rest after the warm-up; at rest after everything.
    pub(super) before: [Held; STEADY],
    pub(super) after: [Held; STEADY],
    /// Each five seconds, under load.
    pub(super) looks: Vec<(Duration, [Held; STEADY])>,
    pub(super) counts: Counts,
    pub(super) failures: Vec<Failure>,
    pub(super) requests: u64,
    pub(super) unlisted: u64,
    pub(super) documents: usize,
    pub(super) purges: usize,
    pub(super) joins: usize,
    pub(super) leaves: usize,
    pub(super) deaths: usize,
    /// Requests, health checks and revalidations at the backend.
    pub(super) seen: (u64, u64, u64),
    /// A client did not come to its end.
    pub(super) stuck: bool,
}

/// One node's.
struct Course {
    slope: f64,
    anonymous_slope: f64,
    /// Of the line through them, over the window.
    descriptors_grew: f64,
    descriptors_mean: f64,
    back: f64,
}

impl Story {
    /// The part of the load that is judged: minutes 3 to 10 of ten.
    fn window(&self, nth: usize) -> Vec<Look> {
        let from = self.asked_for.mul_f64(0.3);
        self.looks.iter().filter(|(at, _)| *at >= from).map(|(at, held)| (*at, held[nth])).collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "what a machine holds is far below 2^52")]
    fn course(&self, nth: usize) -> Course {
        let window = self.window(nth);
        let minutes = window.last().map_or(0.0, |last| (last.0 - window[0].0).as_secs_f64() / 60.0);
        let descriptors: u64 = window.iter().map(|(_, held)| held.descriptors).sum();
        Course {
            slope: slope_per_minute(&window, |held| held.rss),
            anonymous_slope: slope_per_minute(&window, |held| held.anonymous),
            descriptors_grew: slope_per_minute(&window, |held| held.descriptors) * minutes,
            descriptors_mean: descriptors as f64 / window.len().max(1) as f64,
            back: self.after[nth].rss as f64 / self.before[nth].rss.max(1) as f64,
        }
    }

    /// What has to happen in a run that says anything, and did not.
    fn missing(&self) -> Vec<String> {
        let missed = |kind: &Kind, outcome: &str| !self.counts.contains_key(&(*kind, outcome.to_owned()));
        let musts = LIST
            .iter()
            .filter(|line| line.how == How::Must)
            .flat_map(|line| line.kinds.iter().map(|kind| (kind, line.outcome)));
        let never = musts.filter(|(kind, outcome)| missed(kind, outcome));
        never.map(|(kind, outcome)| format!("{} never ended as {outcome}", kind.name())).collect()
    }

    /// What is to be seldom, and was not.
    fn too_often(&self) -> Vec<String> {
        let mut often = Vec::new();
        for line in LIST.iter().filter(|line| line.how == How::Seldom) {
            for kind in line.kinds {
                let all: u64 = self.counts.iter().filter(|((of, _), _)| of == kind).map(|(_, count)| count).sum();
                let count = self.counts.get(&(*kind, line.outcome.to_owned())).copied().unwrap_or(0);
                if count > all / 100 {
                    often.push(format!("{}: {count} of {all} ended as {}", kind.name(), line.outcome));
                }
            }
        }
        often
    }

    /// Every bound that does not hold.
    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for nth in 0..STEADY {
            let course = self.course(nth);
            let name = format!("n{}", nth + 1);
            if course.slope > MOST_SLOPE {
                broken.push(format!("{name}: memory grows by {:.2} MB/min", course.slope / 1e6));
            }
            if course.back > MOST_BACK {
                broken.push(format!("{name}: {:.0} % of the memory at rest before the load", course.back * 100.0));
            }
            if course.descriptors_grew.abs() > (course.descriptors_mean / 10.0).max(10.0) {
                broken
                    .push(format!("{name}: descriptors changed by {:+.0} within the window", course.descriptors_grew));
            }
            for (what, before, after) in [
                ("descriptors", self.before[nth].descriptors, self.after[nth].descriptors),
                ("threads", self.before[nth].threads, self.after[nth].threads),
            ] {
                if after > before + FEW {
                    broken.push(format!("{name}: {after} {what} at rest, {before} before the load"));
                }
            }
        }
        if self.unlisted > 0 {
            broken.push(format!("{} outcomes are not on the list", self.unlisted));
        }
        if self.stuck {
            broken.push("a client did not come to its end".to_owned());
        }
        broken.extend(self.too_often());
        if self.partly {
            return broken;
        }
        if self.documents < usize::try_from(self.asked_for.as_secs() * 4 / 5).unwrap_or(0) {
            broken.push(format!("only {} documents were applied", self.documents));
        }
        if self.joins == 0 || self.leaves != self.joins || self.deaths == 0 {
            broken.push(format!("{} joins, {} leaves, {} deaths of the backend", self.joins, self.leaves, self.deaths));
        }
        broken.extend(self.missing());
        broken
    }

    /// Prints all of it; returns what does not hold.
    pub(super) fn tell(&self) -> Vec<String> {
        println!("\n{}\n{}", self.outcomes(), self.nodes());
        let mut shown = BTreeMap::new();
        for failure in &self.failures {
            let count: &mut usize = shown.entry((failure.kind, &failure.outcome)).or_default();
            *count += 1;
            if *count <= SHOWN {
                println!("NOT LISTED  {failure}");
            }
        }
        let broken = self.broken();
        for bound in &broken {
            println!("BROKEN  {bound}");
        }
        println!("{}", self.line(broken.is_empty()));
        broken
    }

    fn outcomes(&self) -> String {
        let mut table = format!("{:<13} {:<24} {:>8}  why it may be\n", "traffic", "outcome", "times");
        for ((kind, outcome), count) in &self.counts {
            let why = listed(*kind, outcome).map_or("IT MAY NOT", |line| line.why);
            let _ = writeln!(table, "{:<13} {outcome:<24} {count:>8}  {why}", kind.name());
        }
        table
    }

    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    fn nodes(&self) -> String {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let mut table = format!(
            "{:<5} {:>9} {:>9} {:>8} {:>12} {:>12} {:>14} {:>12}\n",
            "node", "MB before", "MB after", "after/b.", "MB/min (rss)", "MB/min (own)", "descriptors", "threads"
        );
        for nth in 0..STEADY {
            let (course, before, after) = (self.course(nth), self.before[nth], self.after[nth]);
            let most = |what: fn(&Held) -> u64| self.looks.iter().map(|(_, held)| what(&held[nth])).max().unwrap_or(0);
            let descriptors = format!("{} {} {}", before.descriptors, most(|held| held.descriptors), after.descriptors);
            let threads = format!("{} {} {}", before.threads, most(|held| held.threads), after.threads);
            let _ = writeln!(
                table,
                "n{:<4} {:>9.1} {:>9.1} {:>8.2} {:>12.2} {:>12.2} {descriptors:>14} {threads:>12}",
                nth + 1,
                mb(before.rss),
                mb(after.rss),
                course.back,
                course.slope / 1e6,
                course.anonymous_slope / 1e6,
            );
        }
        table.push_str("(before, most under load, after; rss: smaps_rollup, own: what it allocated)");
        table
    }

    fn line(&self, held: bool) -> String {
        let worst = |of: &dyn Fn(usize) -> f64| (0..STEADY).map(of).fold(f64::MIN, f64::max);
        let slope = worst(&|nth| self.course(nth).slope / 1e6);
        let back = worst(&|nth| self.course(nth).back);
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let descriptors = worst(&|nth| self.after[nth].descriptors as f64 - self.before[nth].descriptors as f64);
        let (asked, checks, unchanged) = self.seen;
        format!(
            "soak seconds={} requests={} unlisted={} slope_mb_per_min={slope:.2} memory_back={back:.3} \
             descriptors_back={descriptors:+.0} documents={} purges={} joins={} leaves={} backend_deaths={} \
             backend_requests={asked} health_checks={checks} revalidated={unchanged} held={}",
            self.asked_for.as_secs(),
            self.requests,
            self.unlisted,
            self.documents,
            self.purges,
            self.joins,
            self.leaves,
            self.deaths,
            if held { "yes" } else { "no" },
        )
    }
}
