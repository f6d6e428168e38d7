//! One thing that all contenders are asked for: how it is spoken, how large the answer is, how often per second.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::Site;
use super::client::{self, Wire};
use super::contender::{Doors, Running};
use super::fast::{self, Ask, Fast};
use super::paced::{self, Paced, Target};
use crate::matrix::report::{cpu_json, millis, split};
use crate::shared::median;
use crate::shared::report::Section;

#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    pub(super) name: &'static str,
    title: &'static str,
    wire: Wire,
    path: &'static str,
    /// Of the paced half, per second.
    pace: f64,
    /// With Tidegate's full policy beside it.
    policy: bool,
}

const fn scene(name: &'static str, title: &'static str, wire: Wire, path: &'static str, pace: f64) -> Scene {
    Scene { name, title, wire, path, pace, policy: false }
}

const TINY: &str = "/load";
const KIB: &str = "/bodies/1024";
const KIB_64: &str = "/bodies/65536";
const MIB: &str = "/bodies/1048576";

pub(super) const ALL: [Scene; 11] = [
    scene("h1", "HTTP/1.1 in clear text, 12 bytes", Wire::Clear, TINY, 2_000.0),
    scene("1k", "HTTP/1.1 in clear text, 1 KiB", Wire::Clear, KIB, 2_000.0),
    scene("64k", "HTTP/1.1 in clear text, 64 KiB", Wire::Clear, KIB_64, 1_000.0),
    scene("1m", "HTTP/1.1 in clear text, 1 MiB", Wire::Clear, MIB, 100.0),
    scene("h2", "h2 in clear text, 12 bytes", Wire::H2, TINY, 2_000.0),
    scene("tls", "HTTP/1.1 over TLS, kept connections, 12 bytes", Wire::Tls, TINY, 2_000.0),
    scene("h2-tls", "h2 over TLS, 12 bytes", Wire::H2Tls, TINY, 2_000.0),
    scene("tls-1m", "HTTP/1.1 over TLS, 1 MiB", Wire::Tls, MIB, 100.0),
    scene("tls-new", "A whole TLS handshake for each request", Wire::TlsNew, TINY, 500.0),
    scene("tls-resumed", "A resumed TLS session for each request", Wire::TlsResumed, TINY, 500.0),
    Scene {
        policy: true,
        ..scene("policy", "Full policy, HTTP/1.1 in clear text, 12 bytes", Wire::Clear, TINY, 2_000.0)
    },
];

pub(super) const COLUMNS: &[&str] =
    &["proxy", "requests/s", "CPU at saturation", "best", "× nginx", "CPU at the rate", "added p50", "added p99"];

/// One contender, once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) fast: Fast,
    pub(super) paced: Paced,
    pub(super) added: (Duration, Duration),
}

impl Scene {
    pub(super) fn measure(&self, running: &[Running], site: &Site<'_>) -> Result<Section> {
        let who: Vec<&Running> = running.iter().filter(|running| self.policy || !running.kind.is_full()).collect();
        let mut rounds: Vec<Vec<Round>> = who.iter().map(|_| Vec::new()).collect();
        for round in 1..=site.effort.rounds {
            let direct = self.direct(site)?;
            for (running, rounds) in who.iter().zip(&mut rounds) {
                eprintln!("  {} · round {round} of {}", running.kind.name(), site.effort.rounds);
                rounds.push(self.round(running, direct, site)?);
            }
        }
        let mut section = Section::new(self.title, self.how(), COLUMNS);
        let names: Vec<String> = who.iter().map(|running| running.kind.name().to_owned()).collect();
        tell(&names, &rounds, &mut section);
        Ok(section)
    }

    fn how(&self) -> String {
        let tls = match self.wire {
            Wire::Clear | Wire::H2 => String::new(),
            _ => format!(" {}.", client::IN_WORDS),
        };
        format!("The rate: {} a second.{tls}", self.pace)
    }

    /// The backend itself, in clear text over kept connections, at the same rate: what all latencies are compared with.
    fn direct(&self, site: &Site<'_>) -> Result<Paced> {
        let doors = Doors::all_at(site.backend.address);
        let target = Target { doors: &doors, headers: &[], groups: &[] };
        paced::measure(&target, Wire::Clear, self.path, self.pace, &site.trust, site.effort)
    }

    fn round(&self, running: &Running, direct: Paced, site: &Site<'_>) -> Result<Round> {
        let ask = Ask { wire: self.wire, path: self.path, script: None };
        if site.effort.rounds > 1 {
            fast::measure(running, ask, &site.trust, site.effort.warm_up)?;
        }
        let fast = fast::steady(running, ask, &site.trust, site.effort.saturated)?;
        let target = Target { doors: &running.doors, headers: &running.headers, groups: &running.groups };
        let paced = paced::measure(&target, self.wire, self.path, self.pace, &site.trust, site.effort)?;
        let added = (paced.p50.saturating_sub(direct.p50), paced.p99.saturating_sub(direct.p99));
        Ok(Round { fast, paced, added })
    }
}

/// The round with the median cost counts; the first contender is nginx, if it takes part.
pub(super) fn tell(names: &[String], rounds: &[Vec<Round>], section: &mut Section) {
    let total = |round: &Round| round.fast.cpu.total();
    let medians: Vec<Option<Round>> = rounds.iter().map(|rounds| median(rounds, total)).collect();
    let nginx = names.iter().zip(&medians).find(|(name, _)| *name == "nginx");
    let nginx = nginx.and_then(|(_, round)| *round).map_or(f64::NAN, |round| total(&round));
    for ((name, rounds), round) in names.iter().zip(rounds).zip(medians) {
        let Some(round) = round else { continue };
        let best = rounds.iter().map(total).fold(f64::INFINITY, f64::min);
        section.row(cells(name, round, best, nginx), row(name, round, rounds, nginx));
    }
}

fn cells(name: &str, round: Round, best: f64, nginx: f64) -> Vec<String> {
    vec![
        name.to_owned(),
        format!("{:.0}", round.fast.per_second),
        split(round.fast.cpu),
        format!("{best:.1}"),
        if nginx.is_nan() { String::new() } else { format!("{:.2}", round.fast.cpu.total() / nginx) },
        split(round.paced.cpu),
        format!("{} µs", round.added.0.as_micros()),
        format!("{} µs", round.added.1.as_micros()),
    ]
}

fn row(name: &str, round: Round, rounds: &[Round], nginx: f64) -> Value {
    json!({
        "name": name,
        "requests_per_second": round.fast.per_second,
        "saturated": cpu_json(round.fast.cpu), "micros": round.fast.cpu.total(),
        "against_nginx": if nginx.is_nan() { Value::Null } else { (round.fast.cpu.total() / nginx).into() },
        "paced": cpu_json(round.paced.cpu),
        "p50_ms": millis(round.paced.p50), "p99_ms": millis(round.paced.p99),
        "added_p50_ms": millis(round.added.0), "added_p99_ms": millis(round.added.1),
        "rounds_micros": rounds.iter().map(|round| round.fast.cpu.total()).collect::<Vec<_>>(),
    })
}
