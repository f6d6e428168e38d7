//! What chat costs on its way through a gateway, side by side in one run: nginx, an empty hyper proxy, Tidegate passing on,
//! translating and with every policy, LiteLLM and Portkey where they are installed. README.md beside `src/` says how.

mod chats;
mod first;
mod measure;
mod open;
mod provider;
mod reach;
mod rivals;
mod script;
mod subject;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::balancer::find_program;
use crate::figure::Figure;
use crate::linux;
use crate::node::Binary;
use crate::process::Folder;
use crate::shared::load_average;
use crate::shared::report::{About, Report, Section};

pub(crate) use chats::run as chats;
pub(crate) use provider::{Provider, serve as provider};
pub(crate) use subject::{Ask, Kind, Running};

pub(crate) struct Options {
    pub(crate) quick: bool,
    /// Parts of the names of subjects; empty: all.
    pub(crate) only: Vec<String>,
    pub(crate) results: PathBuf,
    pub(crate) binary: Binary,
}

impl Options {
    fn of(&self, kinds: Vec<Kind>) -> Vec<Kind> {
        let wanted =
            |kind: &Kind| self.only.is_empty() || self.only.iter().any(|only| kind.name().contains(only.as_str()));
        kinds.into_iter().filter(wanted).collect()
    }
}

/// What every subject is started with.
pub(crate) struct Site<'a> {
    pub(crate) binary: &'a Binary,
    pub(crate) folder: &'a Path,
    pub(crate) provider: std::net::SocketAddr,
}

const ABOUT: About = About {
    file: "llm",
    title: "Chat through a gateway",
    rivals: &["nginx"],
    sections: &["cost", "first", "open", "reach"],
};

pub(crate) fn run(options: &Options) -> Result<()> {
    for program in ["nginx", "wrk", "taskset"] {
        ensure!(find_program(program).is_some(), "{program} is needed: install it, or use `cargo xtask load --llm`");
    }
    linux::note_signals();
    linux::open_many_files();
    let before = load_average();
    let folder = Folder::fresh("llm")?;
    let provider = provider::Provider::start(&folder.path)?;
    let site = Site { binary: &options.binary, folder: &folder.path, provider: provider.address };
    let kinds = options.of(Kind::installed());
    ensure!(!kinds.is_empty(), "no subject has this in its name");
    let mut report = Report::begin(&options.results, ABOUT, options.quick)?;
    // At once, so that it is not lost when what comes next fails.
    let mut add = |sections: Vec<(&'static str, Section)>| -> Result<()> {
        for (name, mut section) in sections {
            section.load = format!("{before} → {}; profile {}", load_average(), options.binary.profile());
            println!("{}", section.text(name));
            report.add(name, section)?;
        }
        Ok(())
    };
    let mut measured = measure::rounds(&site, &kinds, options.quick)?;
    add(vec![("cost", measured.costs()), ("first", measured.firsts())])?;
    measured.open_many(&site, &kinds)?;
    let mut reach = Section::new("What was to be reached", REACH.to_owned(), &Figure::COLUMNS);
    reach::figures(&measured).iter().for_each(|figure| reach.row(figure.cells(), figure.json()));
    add(vec![("open", measured.opens()), ("reach", reach)])
}

const REACH: &str = "Medians of the rounds; × nginx: of this very run.";
