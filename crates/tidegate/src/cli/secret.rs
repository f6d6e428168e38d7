//! `tidegate secret …`

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use http::Method;
use tidegate_admin::wire::{PutSecret, SecretChanged, SecretList, SecretState};

use super::Output;
use super::client::{Ask, Client};
use super::exit::{Error, Exit};
use super::print::{self, either};

/// Beyond what a node takes: it says so then.
const MOST_BYTES: u64 = 64 << 10;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Every secret that the cluster keeps: name, generation, when and by whom, what uses it; never a value
    Ls,
    /// Keep a new secret, sealed; the document names it with `from: sealed`
    Put(Value),
    /// Give a secret a new value: every node uses it from then on, without a new document
    Rotate(Value),
    /// Keep a secret no longer; refused while the document uses it
    Rm {
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
}

/// A value is not taken from the command line, which other programs can read.
#[derive(Debug, Args)]
pub(crate) struct Value {
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,
    /// Where its value is; default: standard input. One line end at its end is cut
    #[arg(long, value_name = "FILE")]
    pub(crate) from_file: Option<PathBuf>,
}

pub(super) async fn run(client: &Client, verb: Verb, output: Output) -> Result<Exit, Error> {
    let (ask, done) = match verb {
        Verb::Ls => {
            let all: SecretList = client.get("/v1/secrets").await?;
            either(output, &all, list);
            return Ok(Exit::Ok);
        }
        Verb::Put(Value { name, from_file }) => {
            let body = PutSecret { value: read(from_file.as_deref())? };
            (Ask::at(Method::PUT, "/v1/secrets/", &name, "").json(&body), "is kept")
        }
        Verb::Rotate(Value { name, from_file }) => {
            let body = PutSecret { value: read(from_file.as_deref())? };
            (Ask::at(Method::POST, "/v1/secrets/", &name, "/rotate").json(&body), "has a new value")
        }
        Verb::Rm { name } => (Ask::at(Method::DELETE, "/v1/secrets/", &name, ""), "is gone"),
    };
    let changed: SecretChanged = client.send(ask).await?;
    either(output, &changed, |changed| {
        let generation = changed.secret.as_ref().map(|it| format!(" (generation {})", it.generation));
        print::line(&print::clean(&format!("secret {} {done}{}", changed.name, generation.unwrap_or_default())));
        if !changed.complete {
            print::applied(&changed.nodes);
        }
    });
    Ok(if changed.complete { Exit::Ok } else { Exit::Incomplete })
}

fn read(from: Option<&Path>) -> Result<String, Error> {
    let called = from.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let wrong = |why: String| Error::Usage(format!("{called}: {why}"));
    let mut bytes = Vec::new();
    let done = match from {
        Some(path) => std::fs::File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes)),
        None => std::io::stdin().lock().take(MOST_BYTES).read_to_end(&mut bytes),
    };
    done.map_err(|why| wrong(why.to_string()))?;
    // What it holds is not repeated.
    let text = String::from_utf8(bytes).map_err(|_| wrong("the value is not UTF-8".to_owned()))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err(wrong("there is no value".to_owned()));
    }
    Ok(text.to_owned())
}

fn list(all: &SecretList) {
    let row = |it: &SecretState| {
        let used = if it.used_by.is_empty() { "-".to_owned() } else { it.used_by.join(" ") };
        vec![it.name.clone(), it.generation.to_string(), it.changed_at.clone(), it.by.clone(), used]
    };
    print::table(&["name", "generation", "changed", "by", "used by"], all.secrets.iter().map(row).collect());
}
