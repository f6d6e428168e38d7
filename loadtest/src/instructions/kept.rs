//! What was counted before, and with which build: other builds are not to be compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::process::output_of;

pub(super) struct Kept {
    /// Profile and compiler.
    build: String,
    counts: BTreeMap<String, u64>,
    same_build: bool,
}

const FILE: &str = "instructions.json";

impl Kept {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let build = build()?;
        let Ok(text) = fs::read_to_string(folder.join(FILE)) else {
            return Ok(Self { build, counts: BTreeMap::new(), same_build: true });
        };
        let kept: Value = serde_json::from_str(&text).with_context(|| format!("{FILE} is no JSON"))?;
        let counts = kept["instructions"].as_object().into_iter().flatten();
        let counts = counts.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect();
        let same_build = kept["build"] == *build;
        if !same_build {
            eprintln!(
                "what is kept was counted with {}, this is {build}: shown beside each other, not judged",
                kept["build"]
            );
        }
        Ok(Self { build, counts, same_build })
    }

    pub(super) fn is_dearer(&self, name: &str, each: u64, hundredths: u64) -> bool {
        self.same_build && self.counts.get(name).is_some_and(|kept| each * 100 > kept * (100 + hundredths))
    }

    pub(super) fn table(&self, counted: &[(&str, u64)]) -> String {
        let mut text = "| subject | instructions | kept | |\n|---|--:|--:|--:|\n".to_owned();
        for (name, each) in counted {
            let kept = self.counts.get(*name);
            let change =
                kept.map_or(String::new(), |kept| format!("{:+.1} %", 100.0 * (*each as f64 / *kept as f64 - 1.0)));
            let kept = kept.map_or("-".to_owned(), u64::to_string);
            let _ = writeln!(text, "| {name} | {each} | {kept} | {change} |");
        }
        text
    }

    /// Those that were not counted now stay as they were.
    pub(super) fn keep(&mut self, counted: &[(&str, u64)], folder: &Path) -> Result<()> {
        if !self.same_build {
            self.counts.clear();
        }
        self.counts.extend(counted.iter().map(|(name, each)| ((*name).to_owned(), *each)));
        let kept = json!({"build": self.build, "instructions": self.counts});
        fs::create_dir_all(folder)?;
        let file = folder.join(FILE);
        fs::write(&file, serde_json::to_string_pretty(&kept)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

fn build() -> Result<String> {
    let program = std::env::current_exe()?;
    let profile = program.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let compiler = output_of(Command::new("rustc").arg("--version"))?;
    let compiler = compiler.split(' ').nth(1).unwrap_or("?").to_owned();
    Ok(format!("profile {profile}, rustc {compiler}, {}", std::env::consts::ARCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(same_build: bool) -> Kept {
        Kept { build: String::new(), counts: BTreeMap::from([("a request".to_owned(), 1000)]), same_build }
    }

    #[test]
    fn five_hundredths_more_are_let_pass_and_not_one_instruction_beyond() {
        assert!(!kept(true).is_dearer("a request", 1050, 5));
        assert!(kept(true).is_dearer("a request", 1051, 5));
        assert!(!kept(true).is_dearer("another", 9999, 5), "nothing is kept of it");
        assert!(!kept(false).is_dearer("a request", 9999, 5), "another build is not compared");
    }

    #[test]
    fn what_is_kept_is_read_again_and_the_rest_stays() {
        let folder = crate::process::Folder::fresh("kept").expect("a folder");
        let mut first = Kept::read(&folder.path).expect("nothing is there yet");
        first.keep(&[("one", 10), ("two", 20)], &folder.path).expect("written");
        Kept::read(&folder.path).expect("read").keep(&[("two", 21)], &folder.path).expect("written");
        let read = Kept::read(&folder.path).expect("read");
        assert!(read.same_build);
        assert_eq!(read.counts, BTreeMap::from([("one".to_owned(), 10), ("two".to_owned(), 21)]));
        assert!(read.table(&[("one", 11)]).contains("| one | 11 | 10 | +10.0 % |"), "{}", read.table(&[("one", 11)]));
    }
}
