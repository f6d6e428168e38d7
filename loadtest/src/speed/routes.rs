//! What 10,000 routes cost beside one: all of them are asked for in turn, of both.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::Site;
use super::client::Wire;
use super::configuration::{ROUTES, prefix};
use super::contender::{Extent, Kind, Running};
use super::fast::{self, Ask, Fast};
use crate::matrix::report::{cpu_json, split};
use crate::shared::median;
use crate::shared::report::Section;

const COLUMNS: &[&str] = &["proxy", "one route", "10,000 routes", "×", "requests/s of many"];

pub(super) fn measure(site: &Site<'_>, kinds: &[Kind]) -> Result<Section> {
    let script = in_turn(site.folder)?;
    // hyper knows no routes.
    let kinds: Vec<Kind> = kinds.iter().copied().filter(|kind| !kind.is_full() && *kind != Kind::Hyper).collect();
    let mut pairs = Vec::new();
    for kind in &kinds {
        eprintln!("starts {}, twice", kind.name());
        pairs.push((Running::start(*kind, Extent::OneRoute, site)?, Running::start(*kind, Extent::ManyRoutes, site)?));
    }
    let mut rounds: Vec<Vec<(Fast, Fast)>> = pairs.iter().map(|_| Vec::new()).collect();
    // A twentieth is looked for: more rounds, each side in turn first.
    for round in 1..=site.effort.rounds.max(3) {
        for ((one, many), rounds) in pairs.iter().zip(&mut rounds) {
            eprintln!("  {} · round {round}", one.kind.name());
            let fast = |running| {
                let ask = Ask { wire: Wire::Clear, path: "/", script: Some(&script) };
                fast::steady(running, ask, &site.trust, site.effort.saturated)
            };
            rounds.push(if round % 2 == 1 {
                (fast(one)?, fast(many)?)
            } else {
                let many = fast(many)?;
                (fast(one)?, many)
            });
        }
    }
    let how = "CPU µs per request (HTTP/1.1 in clear text, 12 bytes), at saturation; 10,000 URLs in turn.".to_owned();
    let mut section = Section::new("10,000 routes against one", how, COLUMNS);
    for (kind, rounds) in kinds.iter().zip(rounds) {
        tell(*kind, &rounds, &mut section);
    }
    Ok(section)
}

fn tell(kind: Kind, rounds: &[(Fast, Fast)], section: &mut Section) {
    // Neighbours in time are compared, so the ratio has a median of its own.
    let ratio = |round: &(Fast, Fast)| round.1.cpu.total() / round.0.cpu.total();
    let one = median(rounds, |round| round.0.cpu.total());
    let many = median(rounds, |round| round.1.cpu.total());
    let (Some(one), Some(many), Some(middle)) = (one, many, median(rounds, ratio)) else { return };
    let ratios: Vec<f64> = rounds.iter().map(ratio).collect();
    section.row(
        vec![
            kind.name().to_owned(),
            split(one.0.cpu),
            split(many.1.cpu),
            format!("{:.3}", ratio(&middle)),
            format!("{:.0}", many.1.per_second),
        ],
        json!({
            "name": kind.name(), "one": cpu_json(one.0.cpu), "many": cpu_json(many.1.cpu), "micros": many.1.cpu.total(),
            "ratio": ratio(&middle), "rounds_ratio": ratios, "requests_per_second": many.1.per_second,
        }),
    );
}

/// Tells `wrk` to ask for all of them, one after the other.
fn in_turn(folder: &Path) -> Result<PathBuf> {
    let file = folder.join("routes.lua");
    let path = prefix(0).replace('0', "' .. n .. '");
    let text = format!(
        "local all, nth = {{}}, 0\n\
         function init(args)\n  for n = 1, {ROUTES} do all[n] = wrk.format('GET', '{path}load') end\nend\n\
         function request()\n  nth = nth % {ROUTES} + 1\n  return all[nth]\nend\n"
    );
    fs::write(&file, text)?;
    Ok(file)
}
