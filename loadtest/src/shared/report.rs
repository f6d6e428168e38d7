//! What was measured, for people as Markdown, for programs as JSON: two files, in sections. A section that was not measured
//! this time stays as it was. `shared` and `limits` write theirs.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::matrix::report::machine;
use crate::process::output_of;

pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// What one has to know to read it.
    pub(crate) how: String,
    pub(crate) columns: &'static [&'static str],
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) json: Value,
    /// Load average, before and after.
    pub(crate) load: String,
}

pub(crate) struct Report {
    about: About,
    folder: PathBuf,
    date: String,
    quick: bool,
    /// By name: what is in the JSON file.
    sections: Map<String, Value>,
}

/// What a report is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About {
    /// `FILE.md` and `FILE.json`.
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    /// What of the machine is told: `nginx`, `redis`.
    pub(crate) rival: &'static str,
    /// In this order.
    pub(crate) sections: &'static [&'static str],
}

impl Section {
    pub(crate) fn new(title: &'static str, how: String, columns: &'static [&'static str]) -> Self {
        Self { title, how, columns, rows: Vec::new(), json: Value::Null, load: String::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>, json: Value) {
        self.rows.push(cells);
        if !self.json.is_array() {
            self.json = json!([]);
        }
        if let Some(all) = self.json.as_array_mut() {
            all.push(json);
        }
    }

    pub(crate) fn text(&self, name: &str) -> String {
        let mut text =
            format!("## {} (`{name}`)\n\n{}\n\n| {} |\n|---", self.title, self.how, self.columns.join(" | "));
        text.push_str(&"|--:".repeat(self.columns.len() - 1));
        text.push_str("|\n");
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text
    }
}

impl Report {
    pub(crate) fn begin(folder: &Path, about: About, quick: bool) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let date = output_of(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%MZ"]))?.trim().to_owned();
        let earlier = fs::read(folder.join(format!("{}.json", about.file))).ok();
        let earlier: Option<Value> = earlier.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let sections = earlier.and_then(|value| value["sections"].as_object().cloned()).unwrap_or_default();
        Ok(Self { about, folder: folder.to_owned(), date, quick, sections })
    }

    /// Writes both files anew.
    pub(crate) fn add(&mut self, name: &str, section: Section) -> Result<()> {
        let text = section.text(name);
        let entry = json!({
            "date": self.date, "quick": self.quick, "load_average": section.load, "text": text, "rows": section.json,
        });
        self.sections.insert(name.to_owned(), entry);
        let machine = machine();
        let mut text = format!("# {}\n\n", self.about.title);
        let part = |part: &str| machine[part].as_str().unwrap_or("?").to_owned();
        let _ = writeln!(
            text,
            "{} × {}, Linux {}; {}. How: [README.md](../README.md).",
            machine["cpus"],
            part("cpu"),
            part("kernel"),
            part(self.about.rival)
        );
        for name in self.about.sections {
            let Some(entry) = self.sections.get(*name) else { continue };
            let of = |field: &str| entry[field].as_str().unwrap_or("?");
            let quick = if entry["quick"] == true { ", quick" } else { "" };
            let _ = writeln!(text, "\n{}\n{}{quick}; load average {}.", of("text"), of("date"), of("load_average"));
        }
        let json = json!({"machine": machine, "sections": self.sections});
        for (kind, text) in [("md", text), ("json", serde_json::to_string_pretty(&json)? + "\n")] {
            let file = self.folder.join(format!("{}.{kind}", self.about.file));
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}
