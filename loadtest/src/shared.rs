//! What nodes share, in figures: cache hits against nginx and Varnish, a thundering herd, purges, the waste on a backend
//! that dies, and how often a target is checked. README.md beside `src/` says how.

mod herd;
mod hits;
mod origin;
mod probes;
mod purges;
pub(crate) mod redis;
pub(crate) mod report;
mod rivals;
mod waste;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

pub(crate) use origin::constant;

use crate::linux;
use crate::node::Binary;
use crate::process::Folder;
use report::{About, Report, Section};

pub(crate) struct Options {
    pub(crate) quick: bool,
    /// Parts of the names of sections; empty: all.
    pub(crate) only: Vec<String>,
    pub(crate) results: PathBuf,
    pub(crate) binary: Binary,
}

/// What every section is given.
struct Site<'a> {
    binary: &'a Binary,
    folder: &'a Path,
    quick: bool,
}

/// Measures one thing and tells it in a table.
type Measure = fn(&Site<'_>) -> Result<Section>;

const ABOUT: About = About {
    file: "shared",
    title: "What nodes share",
    rivals: &["nginx"],
    sections: &["hits", "herd", "purges", "waste", "probes"],
};

const SECTIONS: [(&str, Measure); 5] = [
    ("hits", hits::measure),
    ("herd", herd::measure),
    ("purges", purges::measure),
    ("waste", waste::measure),
    ("probes", probes::measure),
];

pub(crate) fn run(options: &Options) -> Result<()> {
    linux::note_signals();
    let folder = Folder::fresh("shared")?;
    let site = Site { binary: &options.binary, folder: &folder.path, quick: options.quick };
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| name.contains(only.as_str()));
    let mut report = Report::begin(&options.results, ABOUT, options.quick)?;
    for (name, measure) in SECTIONS {
        if !wanted(name) {
            continue;
        }
        eprintln!("{name}");
        let before = load_average();
        let mut section = measure(&site)?;
        section.load = format!("{before} → {}", load_average());
        println!("{}", section.text(name));
        // At once, so that an hour is not lost when the next section fails.
        report.add(name, section)?;
    }
    Ok(())
}

/// Of the last minute: how many others wanted the machine.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

/// One route to one upstream, both with more to them.
fn document(origin: &str, upstream: Value, route: Value) -> Value {
    let mut up = json!({"name": "origin", "endpoints": [{"url": format!("http://{origin}")}]});
    let mut way = json!({"name": "all", "match": {"path": "/*"}, "to": [{"upstream": "origin"}]});
    for (into, from) in [(&mut up, upstream), (&mut way, route)] {
        if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
            into.extend(from);
        }
    }
    json!({"version": 1, "upstreams": [up], "routes": [way]})
}

/// The middle one; of an even number the lower of the two.
pub(crate) fn median<T: Copy>(of: &[T], by: impl Fn(&T) -> f64) -> Option<T> {
    let mut sorted = of.to_vec();
    sorted.sort_by(|a, b| by(a).total_cmp(&by(b)));
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}
