//! Golden translations, written by us from the facts: `tests/golden/calls/NAME.DIALECT.json` is what a caller wrote,
//! `NAME.DIALECT.to.DIALECT.json` what a provider gets and what was lost on the way; `streams` likewise.
//! `TIDEGATE_WRITE_GOLDEN=1` writes missing ones only.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate_llm::{Dialect, Losses, Site, Target};

use crate::support::{decode, encode};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Name and dialect of each source, with its text.
pub(crate) fn sources(name: &str, end: &str) -> Vec<(String, Dialect, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder(name)).expect("golden files are there") {
        let path = entry.expect("a folder can be read").path();
        let file = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        let Some(stem) = file.strip_suffix(end).filter(|stem| !stem.contains(".to.")) else { continue };
        let (_, dialect) = stem.rsplit_once('.').expect("NAME.DIALECT");
        let dialect = Dialect::ALL.into_iter().find(|known| known.name() == dialect).expect("a known dialect");
        found.push((stem.to_owned(), dialect, std::fs::read_to_string(&path).expect("a golden file is text")));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn check(path: &Path, got: &str) {
    match std::fs::read_to_string(path) {
        Ok(want) => assert_eq!(got, want, "{}", path.display()),
        Err(_) if std::env::var_os("TIDEGATE_WRITE_GOLDEN").is_some() => {
            std::fs::write(path, got).expect("golden files can be written");
        }
        Err(_) => panic!("{} is missing: TIDEGATE_WRITE_GOLDEN=1 writes it", path.display()),
    }
}

#[test]
fn calls_are_translated_as_written_down() {
    let sources = sources("calls", ".json");
    for (stem, from, text) in &sources {
        let site = Site { model: Some("a-model"), stream: false };
        let call = from.parse_call(text.as_bytes(), site).expect("a golden call is valid");
        for to in Dialect::ALL.into_iter().filter(|to| to != from) {
            let mut losses = Losses::new(*from);
            let body = to.render_call(&call, &Target::guess(to, model(to)), &mut losses);
            let body: Value = serde_json::from_slice(&body).expect("it is JSON");
            let lost: Vec<String> = losses
                .list()
                .iter()
                .map(|lost| format!("{}: {} ({:?})", lost.path, lost.reason, lost.weight))
                .collect();
            let got = serde_json::to_string_pretty(&json!({"body": body, "lost": lost})).expect("it is JSON");
            check(&folder("calls").join(format!("{stem}.to.{}.json", to.name())), &(got + "\n"));
        }
    }
    println!("golden calls: {} cases ran", sources.len() * 4);
    assert!(!sources.is_empty());
}

fn model(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiChat => "gpt-4.1",
        Dialect::OpenAiResponses => "gpt-5",
        Dialect::Anthropic => "claude-sonnet-4-5",
        Dialect::Gemini => "gemini-2.5-flash",
        Dialect::Bedrock => "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
        Dialect::Cohere => "command-a-03-2025",
    }
}

#[test]
fn streams_are_translated_as_written_down() {
    let sources = sources("streams", ".txt");
    for (stem, from, text) in &sources {
        let events = decode(*from, text.as_bytes(), 17);
        // Bedrock's frames are binary; the others can be read.
        for to in Dialect::ALL.into_iter().filter(|to| to != from && *to != Dialect::Bedrock) {
            let got = String::from_utf8(encode(to, &events, true)).expect("it is text");
            check(&folder("streams").join(format!("{stem}.to.{}.txt", to.name())), &got);
        }
    }
    println!("golden streams: {} cases ran", sources.len() * 3);
    assert!(!sources.is_empty());
}
