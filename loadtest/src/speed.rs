//! Speed beside nginx, HAProxy, Caddy, Envoy and an empty hyper: protocols, bodies, handshakes, routes, policies, and
//! connections that nobody uses. Every contender has one worker. README.md beside `src/` says how.

mod backend;
mod client;
mod configuration;
mod contender;
mod fast;
mod idle;
mod overview;
mod paced;
mod routes;
mod scene;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::balancer::find_program;
use crate::linux;
use crate::node::Binary;
use crate::process::Folder;
use crate::shared::load_average;
use crate::shared::report::{About, Report, Section};
use backend::Backend;
use client::Trust;
use contender::{Extent, Kind, Running};

pub(crate) struct Options {
    pub(crate) quick: bool,
    /// Parts of the names of sections and contenders; empty: all.
    pub(crate) only: Vec<String>,
    pub(crate) results: PathBuf,
    /// Without it only the others are measured.
    pub(crate) binary: Option<Binary>,
}

/// How long and how often.
#[derive(Debug, Clone, Copy)]
struct Effort {
    warm_up: Duration,
    saturated: Duration,
    paced: Duration,
    rounds: usize,
}

impl Effort {
    fn of(quick: bool) -> Self {
        let millis = Duration::from_millis;
        if quick {
            // Everything runs already, and a second more for each would be a minute.
            Self { warm_up: millis(200), saturated: millis(2_000), paced: millis(1_000), rounds: 1 }
        } else {
            Self { warm_up: millis(1_000), saturated: millis(4_000), paced: millis(4_000), rounds: 3 }
        }
    }
}

type Measure = fn(&Site<'_>, &[Kind]) -> Result<Section>;

/// What everything is measured with.
struct Site<'a> {
    folder: &'a Path,
    backend: Backend,
    trust: Trust,
    binary: Option<&'a Binary>,
    effort: Effort,
}

const ABOUT: About = About {
    file: "speed",
    title: "Speed",
    rivals: &["nginx", "haproxy", "caddy", "envoy", "tidegate", "wrk", "h2load"],
    sections: &[
        "reach",
        "overview",
        "h1",
        "1k",
        "64k",
        "1m",
        "h2",
        "tls",
        "h2-tls",
        "tls-1m",
        "tls-new",
        "tls-resumed",
        "policy",
        "routes",
        "idle",
    ],
};

pub(crate) fn run(options: &Options) -> Result<()> {
    for program in ["nginx", "wrk", "h2load"] {
        ensure!(find_program(program).is_some(), "{program} is needed: install it, or use `cargo xtask load --speed`");
    }
    linux::note_signals();
    linux::open_files(idle::FILES);
    let mut report = Report::begin(&options.results, ABOUT, options.quick)?;
    report.command = command(options);
    let wanted = Wanted::of(&options.only);
    let kinds = wanted.kinds(options.binary.is_some());
    let folder = Folder::fresh("speed")?;
    let site = Site {
        folder: &folder.path,
        backend: Backend::start(&folder.path)?,
        trust: Trust::fresh(&folder.path)?,
        binary: options.binary.as_ref(),
        effort: Effort::of(options.quick),
    };
    scenes(&site, &kinds, &wanted, &mut report)?;
    for (name, measure) in [("routes", routes::measure as Measure), ("idle", idle::measure)] {
        if wanted.section(name) {
            eprintln!("{name}");
            let before = load_average();
            let mut section = measure(&site, &kinds)?;
            section.load = format!("{before} → {}", load_average());
            println!("{}", section.text(name));
            report.add(name, section)?;
        }
    }
    for (name, of) in [("reach", overview::reach as fn(&Report) -> Section), ("overview", overview::of)] {
        let mut section = of(&report);
        section.load = load_average();
        println!("{}", section.text(name));
        report.add(name, section)?;
    }
    Ok(())
}

/// Everybody is up at once and measured in turn; a scene is written down as soon as it is over.
fn scenes(site: &Site<'_>, kinds: &[Kind], wanted: &Wanted<'_>, report: &mut Report) -> Result<()> {
    let scenes: Vec<_> = scene::ALL.iter().filter(|scene| wanted.section(scene.name)).collect();
    if scenes.is_empty() {
        return Ok(());
    }
    let start = |kind: &Kind| {
        eprintln!("starts {}", kind.name());
        Running::start(*kind, Extent::OneRoute, site)
    };
    let running = kinds.iter().map(start).collect::<Result<Vec<_>>>()?;
    for scene in scenes {
        eprintln!("{}", scene.name);
        let before = load_average();
        let mut section = scene.measure(&running, site)?;
        section.load = format!("{before} → {}", load_average());
        println!("{}", section.text(scene.name));
        report.add(scene.name, section)?;
    }
    Ok(())
}

/// What was asked for by `--only`: a word is part of the names of sections, or else of contenders.
struct Wanted<'a> {
    sections: Vec<&'a str>,
    contenders: Vec<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(only: &'a [String]) -> Self {
        let is_section = |word: &&str| ABOUT.sections.contains(word);
        let (sections, contenders) = only.iter().map(String::as_str).partition(is_section);
        Self { sections, contenders }
    }

    fn section(&self, name: &str) -> bool {
        self.sections.is_empty() || self.sections.contains(&name)
    }

    /// Those that can be measured here; the others are named.
    fn kinds(&self, with_tidegate: bool) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for kind in Kind::ALL {
            if !self.contenders.is_empty() && !self.contenders.iter().any(|word| kind.name().contains(word)) {
                continue;
            }
            match kind.missing(with_tidegate) {
                None => kinds.push(kind),
                Some(how) => eprintln!("SKIPPED {}: {how}", kind.name()),
            }
        }
        kinds
    }
}

/// As it would be called again, but for the paths of this machine.
fn command(options: &Options) -> String {
    let mut words = vec!["tidegate-loadtest speed".to_owned()];
    if options.quick {
        words.push("--quick".to_owned());
    }
    if !options.only.is_empty() {
        words.push(format!("--only {}", options.only.join("+")));
    }
    let profile = options.binary.as_ref().map_or_else(String::new, |binary| format!(", profile {}", binary.profile()));
    format!("`{}`{profile}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_a_section_or_a_contender() {
        let only: Vec<String> = ["h2", "nginx", "idle"].map(str::to_owned).into();
        let wanted = Wanted::of(&only);
        assert!(wanted.section("h2") && wanted.section("idle") && !wanted.section("h2-tls"));
        assert_eq!(wanted.contenders, ["nginx"]);
    }

    #[test]
    fn every_scene_has_its_place_in_the_report() {
        assert!(scene::ALL.iter().all(|scene| ABOUT.sections.contains(&scene.name)));
    }
}
