//! What the demo shows while it runs: a few lines drawn again four times a second on a terminal, one plain line every
//! two seconds elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::{Duration, Instant};

use super::stage::{Stage, WINDOW};
use super::window::Window;
use crate::generator::{Counts, Load};

const BAR: usize = 40;

pub(crate) struct View {
    total: Duration,
    max: u64,
    live: bool,
    drawn: Option<Instant>,
    lines: usize,
    /// Per node, at the last drawing.
    before: Vec<u64>,
    told: String,
}

impl View {
    pub(crate) fn new(total: Duration, max: u64) -> Self {
        let live = io::stdout().is_terminal();
        Self { total, max, live, drawn: None, lines: 0, before: Vec::new(), told: String::new() }
    }

    pub(crate) fn draw(&mut self, now: Duration, stage: &Stage, load: &Load, window: &Window) {
        let news = !self.live && self.told != stage.news;
        let every = Duration::from_millis(if self.live { 250 } else { 2_000 });
        let since = self.drawn.map(|drawn| drawn.elapsed());
        if !news && since.is_some_and(|since| since < every) {
            return;
        }
        let rates = self.rates(load, stage.cluster.nodes.len(), since.unwrap_or(every));
        let text = if self.live {
            self.screen(now, stage, load, window, &rates)
        } else {
            self.plain(now, stage, load, window, &rates)
        };
        self.drawn = Some(Instant::now());
        stage.news.clone_into(&mut self.told);
        let mut out = io::stdout().lock();
        if self.live && self.lines > 0 {
            let _ = write!(out, "\x1b[{}A", self.lines); // up to where the last drawing began
        }
        self.lines = text.lines().count();
        for line in text.lines() {
            // Cut at the edge, not wrapped: a wrapped line would make the drawing one line longer than it counts.
            let _ = if self.live { writeln!(out, "\x1b[2K\x1b[?7l{line}\x1b[?7h") } else { writeln!(out, "{line}") };
        }
        let _ = out.flush();
    }

    /// Whatever follows starts on a line of its own; the last drawing stays.
    pub(crate) fn close(&mut self) {
        self.lines = 0;
        if self.live {
            let _ = writeln!(io::stdout()); // the terminal may be gone
        }
    }

    fn rates(&mut self, load: &Load, nodes: usize, since: Duration) -> Vec<f64> {
        let totals: Vec<u64> = (0..nodes).map(|nth| load.of_node(nth).total()).collect();
        self.before.resize(nodes, 0);
        #[expect(clippy::cast_precision_loss)]
        let rate = |(now, before): (&u64, &u64)| (now - before) as f64 / since.as_secs_f64();
        let rates = totals.iter().zip(&self.before).map(rate).collect();
        self.before = totals;
        rates
    }

    fn screen(&self, now: Duration, stage: &Stage, load: &Load, window: &Window, rates: &[f64]) -> String {
        let mut text = String::new();
        let (at, total) = (now.as_secs(), self.total.as_secs());
        let _ = writeln!(text, "\x1b[1mtidegate demo\x1b[0m  {at:>3} s of {total} s   {}", stage.news);
        let busiest = rates.iter().copied().fold(1.0, f64::max);
        for (nth, rate) in rates.iter().enumerate() {
            let role = if stage.leader == Some(nth) { "leader" } else { "" };
            let state = state_of(stage, nth);
            let bar = bar(rate / busiest, BAR);
            let _ = writeln!(text, "  {}  {role:6}  {state:8}  {bar} {rate:>6.0} requests/s", stage.name(nth));
        }
        let admitted = window.admitted();
        #[expect(clippy::cast_precision_loss)]
        let share = admitted as f64 / self.max as f64;
        let refused = window.per_second(|counts| counts.refused + counts.undecided);
        let _ = writeln!(
            text,
            "  limit                 {} {admitted:>6} of {} in {} s, {refused:.0}/s refused",
            bar(share, BAR),
            self.max,
            WINDOW.as_secs()
        );
        let (failed, cut) = failures(stage, load);
        let _ = writeln!(
            text,
            "  errors {failed}   cut {cut}   p50 {}   p99 {}",
            millis(load.latency(0.5)),
            millis(load.latency(0.99))
        );
        text
    }

    fn plain(&self, now: Duration, stage: &Stage, load: &Load, window: &Window, rates: &[f64]) -> String {
        let each: Vec<String> = rates
            .iter()
            .enumerate()
            .filter(|(nth, _)| stage.cluster.nodes[*nth].process.is_some())
            .map(|(nth, rate)| {
                let mark = if stage.leader == Some(nth) { "*" } else { "" };
                format!("{}{mark} {rate:.0}/s", stage.name(nth))
            })
            .collect();
        let (failed, cut) = failures(stage, load);
        format!(
            "{:>3} s  {}  admitted {}/{}  errors {failed}  cut {cut}  | {}",
            now.as_secs(),
            each.join("  "),
            window.admitted(),
            self.max,
            stage.news
        )
    }
}

fn state_of(stage: &Stage, nth: usize) -> &'static str {
    match (&stage.cluster.nodes[nth].process, stage.ready[nth]) {
        (None, _) => "–",
        (Some(_), true) => "ready",
        (Some(_), false) => "…",
    }
}

/// (failed, cut): a request that was open on the killed node is cut, every other one that got no answer failed.
pub(crate) fn failures(stage: &Stage, load: &Load) -> (u64, u64) {
    let all: Counts = load.counts();
    let Some(killed) = &stage.killed else { return (all.failed, 0) };
    let name = stage.name(killed.nth);
    let cut = load
        .failures()
        .iter()
        .filter(|failure| failure.node.as_deref() == Some(name))
        .filter(|failure| failure.began <= killed.until && failure.ended >= killed.from)
        .count() as u64;
    (all.failed.saturating_sub(cut), cut)
}

pub(crate) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn bar(share: f64, width: usize) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let full = ((share.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    format!("{}{}", "█".repeat(full), "·".repeat(width - full))
}
