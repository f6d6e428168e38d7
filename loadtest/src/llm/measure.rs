//! The rounds: each subject in turn, so that a slow minute of the machine hits all. CPU is that of all its processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::subject::{Ask, Kind, Running};
use super::{Site, first, open};
use crate::matrix::measure::wrk_of;
use crate::matrix::report::millis;
use crate::shared::median;
use crate::shared::report::Section;
use crate::usage::Usage;

/// Events of [`Ask::Paced`].
const PACED: f64 = 100.0;
/// Streams a second, where the first bytes are waited for.
const RATE: u32 = 200;
const OPEN: usize = 2_000;
/// A thousand times slower, and so long at least.
const SLOW: Duration = Duration::from_secs(10);

/// µs of CPU, and ms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) chat: f64,
    chats_per_second: f64,
    pub(super) burst: f64,
    bursts_per_second: f64,
    /// Of a stream with one each 5 ms.
    pub(super) event: f64,
    added_p50_ms: f64,
    pub(super) added_p99_ms: f64,
}

pub(super) struct Measured {
    subjects: Vec<(Kind, Vec<Round>)>,
    /// Bytes for each stream.
    open: Vec<(Kind, f64)>,
}

pub(super) fn rounds(site: &Site<'_>, kinds: &[Kind], quick: bool) -> Result<Measured> {
    let mut running = Vec::new();
    for kind in kinds {
        eprintln!("  starting {}", kind.name());
        running.push(kind.start(site).with_context(|| kind.name())?);
    }
    let mut subjects: Vec<(Kind, Vec<Round>)> = kinds.iter().map(|kind| (*kind, Vec::new())).collect();
    let (rounds, time) = if quick { (2, Duration::from_secs(3)) } else { (5, Duration::from_secs(6)) };
    for nth in 1..=rounds {
        for (subject, (_, rounds)) in running.iter().zip(&mut subjects) {
            if subject.kind.is_slow() && nth > 1 + usize::from(!quick) {
                continue;
            }
            eprintln!("  round {nth}, {}", subject.kind.name());
            rounds.push(subject.round(site, time).with_context(|| subject.kind.name())?);
        }
    }
    Ok(Measured { subjects, open: Vec::new() })
}

impl Running {
    fn round(&self, site: &Site<'_>, time: Duration) -> Result<Round> {
        let (chat, chats_per_second) = self.cost(site, Ask::Chat, time)?;
        let (burst, bursts_per_second) = self.cost(site, Ask::Burst, time)?;
        let (paced, _) = self.cost(site, Ask::Paced, time + Duration::from_secs(1))?;
        let rate = if self.kind.is_slow() { RATE / 20 } else { RATE };
        let direct =
            first::measure(site.provider, &request(site.provider.to_string(), Ask::First, false, &[]), rate, time)?;
        let through = first::measure(self.address, &self.request(Ask::First), rate, time);
        let through = self.or_nothing(through.map(|it| (millis(it.p50), millis(it.p99))), (f64::NAN, f64::NAN))?;
        Ok(Round {
            chat,
            chats_per_second,
            burst,
            bursts_per_second,
            event: paced / PACED,
            added_p50_ms: through.0 - millis(direct.p50),
            added_p99_ms: through.1 - millis(direct.p99),
        })
    }

    /// µs of CPU for each, and how many a second. Others may fail at one thing and not at the next.
    fn cost(&self, site: &Site<'_>, ask: Ask, time: Duration) -> Result<(f64, f64)> {
        self.or_nothing(self.try_cost(site, ask, time), (f64::NAN, f64::NAN))
    }

    fn or_nothing<T>(&self, measured: Result<T>, nothing: T) -> Result<T> {
        match measured {
            Err(why) if self.kind.is_slow() => {
                eprintln!("  {}: {why:#}", self.kind.name());
                Ok(nothing)
            }
            measured => measured,
        }
    }

    fn try_cost(&self, site: &Site<'_>, ask: Ask, time: Duration) -> Result<(f64, f64)> {
        self.warm(site, ask)?;
        let time = if self.kind.is_slow() { time.max(SLOW) } else { time };
        let before = Usage::of(&self.groups);
        let (requests, seconds) = self.wrk(site, ask, time)?;
        let used = Usage::of(&self.groups) - before;
        Ok(((used.user + used.system).as_secs_f64() * 1e6 / requests, requests / seconds))
    }

    /// Whoever is slow may not answer anybody so soon.
    fn warm(&self, site: &Site<'_>, ask: Ask) -> Result<()> {
        let warmed = self.wrk(site, ask, Duration::from_secs(1)).map(drop);
        if self.kind.is_slow() { Ok(()) } else { warmed }
    }

    pub(super) fn wrk(&self, site: &Site<'_>, ask: Ask, time: Duration) -> Result<(f64, f64)> {
        let script = script(site.folder, ask, self.kind.is_ours())?;
        let url = format!("http://{}{}", self.address, self.path(ask));
        let run = wrk_of(&url, &self.headers, Some(&script), time)?;
        ensure!(run.failed == 0 && run.requests > 0, "{ask:?}: {} of {} answers are not 200", run.failed, run.requests);
        #[expect(clippy::cast_precision_loss)]
        Ok((run.requests as f64, run.seconds))
    }

    fn path(&self, ask: Ask) -> &'static str {
        if self.kind.is_slow() { Ask::Chat.path() } else { ask.path() }
    }

    pub(crate) fn request(&self, ask: Ask) -> Vec<u8> {
        let plain = request(self.address.to_string(), ask, self.kind.is_ours(), &self.headers);
        if self.kind.is_slow() {
            return String::from_utf8_lossy(&plain).replacen(ask.path(), self.path(ask), 1).into();
        }
        plain
    }
}

fn request(host: String, ask: Ask, ours: bool, headers: &[(String, String)]) -> Vec<u8> {
    let body = ask.body(ours);
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (path, length) = (ask.path(), body.len());
    let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n");
    format!("{head}{more}content-length: {length}\r\n\r\n{body}").into()
}

/// Tells `wrk` what to send.
fn script(folder: &Path, ask: Ask, ours: bool) -> Result<PathBuf> {
    let file = folder.join(format!("{}-{ours}.lua", ask.name()));
    let body = ask.body(ours);
    let text =
        format!("wrk.method = 'POST'\nwrk.headers['content-type'] = 'application/json'\nwrk.body = [==[{body}]==]\n");
    fs::write(&file, text)?;
    Ok(file)
}

impl Measured {
    pub(super) fn open_many(&mut self, site: &Site<'_>, kinds: &[Kind]) -> Result<()> {
        for kind in kinds {
            let count = if kind.is_slow() { OPEN / 20 } else { OPEN };
            eprintln!("  {count} open streams, {}", kind.name());
            // A process of its own: what another one freed before would hide what a stream takes.
            let fresh = kind.start(site)?;
            fresh.warm(site, Ask::Chat)?;
            match open::measure(fresh.address, &fresh.request(Ask::Slow), count, &fresh.groups) {
                Ok(bytes) => self.open.push((*kind, bytes)),
                Err(why) if kind.is_slow() => eprintln!("  {}: {why:#}", kind.name()),
                Err(why) => return Err(why.context(kind.name())),
            }
        }
        Ok(())
    }

    pub(super) fn middle(&self, kind: Kind, of: fn(&Round) -> f64) -> Option<f64> {
        let (_, rounds) = self.subjects.iter().find(|(one, _)| *one == kind)?;
        median(rounds, of).as_ref().map(of)
    }

    pub(super) fn open(&self, kind: Kind) -> Option<f64> {
        self.open.iter().find(|(one, _)| *one == kind).map(|(_, bytes)| *bytes)
    }

    pub(super) fn costs(&self) -> Section {
        let how = "CPU µs (user and system, all processes of the subject, one worker) for each chat, each stream of 64 events that \
                   come at once, both with 64 callers as fast as they go, and each event of 64 streams with one each 5 ms. Medians of \
                   the rounds, lowest to highest beside it.";
        let columns = &[
            "subject",
            "chat µs",
            "× nginx",
            "chats/s",
            "64 events µs",
            "× nginx",
            "streams/s",
            "paced event µs",
            "× nginx",
        ];
        let mut section = Section::new("What it costs", how.to_owned(), columns);
        for (kind, rounds) in &self.subjects {
            let cell = |of: fn(&Round) -> f64| {
                let least = rounds.iter().map(of).fold(f64::INFINITY, f64::min);
                let most = rounds.iter().map(of).fold(0.0, f64::max);
                let middle = self.middle(*kind, of).unwrap_or(f64::NAN);
                let ratio =
                    self.middle(Kind::Nginx, of).map_or(String::new(), |nginx| format!("{:.2}", middle / nginx));
                if middle.is_nan() {
                    return ["failed".to_owned(), String::new()];
                }
                [format!("{middle:.1} ({least:.1}–{most:.1})"), ratio]
            };
            let rate = |of: fn(&Round) -> f64| format!("{:.0}", self.middle(*kind, of).unwrap_or(f64::NAN));
            let mut cells = vec![kind.name().to_owned()];
            cells.extend(cell(|round| round.chat));
            cells.push(rate(|round| round.chats_per_second));
            cells.extend(cell(|round| round.burst));
            cells.push(rate(|round| round.bursts_per_second));
            cells.extend(cell(|round| round.event));
            let all = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
            section.row(
                cells,
                json!({
                    "subject": kind.name(), "chat_micros": all(|round| round.chat), "burst_micros": all(|round| round.burst),
                    "event_micros": all(|round| round.event), "chats_per_second": all(|round| round.chats_per_second),
                    "bursts_per_second": all(|round| round.bursts_per_second),
                }),
            );
        }
        section
    }

    pub(super) fn firsts(&self) -> Section {
        let how = format!(
            "How much later than from the provider itself the first event of a stream comes: {RATE} streams a second ({} for LiteLLM and \
             Portkey), counted from when each was due. Medians of the rounds.",
            RATE / 20
        );
        let mut section = Section::new("First bytes", how, &["subject", "added p50 ms", "added p99 ms"]);
        for (kind, rounds) in &self.subjects {
            let (p50, p99) = (
                self.middle(*kind, |round| round.added_p50_ms).unwrap_or(f64::NAN),
                self.middle(*kind, |round| round.added_p99_ms).unwrap_or(f64::NAN),
            );
            let all = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
            section.row(
                vec![kind.name().to_owned(), format!("{p50:.3}"), format!("{p99:.3}")],
                json!({"subject": kind.name(), "added_p50_ms": all(|one| one.added_p50_ms), "added_p99_ms": all(|one| one.added_p99_ms)}),
            );
        }
        section
    }

    pub(super) fn opens(&self) -> Section {
        let how = format!(
            "What is resident beyond what was, for each of {OPEN} streams ({} for LiteLLM and Portkey) with an event a second; both \
             connections, buffers and the allocator's rest are in it.",
            OPEN / 20
        );
        let mut section = Section::new("An open slow stream", how, &["subject", "KB"]);
        for (kind, bytes) in &self.open {
            let cells = vec![kind.name().to_owned(), format!("{:.1}", bytes / 1024.0)];
            section.row(cells, json!({"subject": kind.name(), "bytes": bytes}));
        }
        section
    }
}
