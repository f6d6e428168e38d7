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
    /// How it was called, for what is measured next; may be empty.
    pub(crate) command: String,
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
    pub(crate) rivals: &'static [&'static str],
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
        Ok(Self { about, folder: folder.to_owned(), date, quick, command: String::new(), sections })
    }

    /// What was told to programs of a section, now or earlier.
    pub(crate) fn rows(&self, section: &str) -> &Value {
        self.sections.get(section).map_or(&Value::Null, |entry| &entry["rows"])
    }

    /// Writes both files anew.
    pub(crate) fn add(&mut self, name: &str, section: Section) -> Result<()> {
        let text = section.text(name);
        let entry = json!({
            "date": self.date, "quick": self.quick, "load_average": section.load, "command": self.command,
            "text": text, "rows": section.json,
        });
        self.sections.insert(name.to_owned(), entry);
        let machine = machine();
        let mut text = format!("# {}\n\n", self.about.title);
        let part = |part: &str| machine[part].as_str().unwrap_or("?").to_owned();
        let rivals: Vec<_> = self.about.rivals.iter().filter_map(|rival| machine[*rival].as_str()).collect();
        let _ = writeln!(
            text,
            "{} × {}, Linux {}; {}. How: [README.md](../README.md).",
            machine["cpus"],
            part("cpu"),
            part("kernel"),
            rivals.join("; ")
        );
        for name in self.about.sections {
            let Some(entry) = self.sections.get(*name) else { continue };
            let of = |field: &str| entry[field].as_str().unwrap_or("?");
            let quick = if entry["quick"] == true { ", quick" } else { "" };
            let command = entry["command"].as_str().filter(|command| !command.is_empty());
            let command = command.map_or_else(String::new, |command| format!("; {command}"));
            let (told, date, load) = (of("text"), of("date"), of("load_average"));
            let _ = writeln!(text, "\n{told}\n{date}{quick}; load average {load}{command}.");
        }
        let json = json!({"machine": machine, "sections": self.sections});
        for (kind, text) in [("md", text), ("json", serde_json::to_string_pretty(&json)? + "\n")] {
            let file = self.folder.join(format!("{}.{kind}", self.about.file));
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}
