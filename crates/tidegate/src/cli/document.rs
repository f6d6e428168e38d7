//! `tidegate check|diff|apply|get|history|rollback|schema`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Method;
use tidegate_admin::wire::{CheckReply, DiffReply, DocumentReply, HistoryReply, PublishReply, RevisionInfo, Severity};
use tidegate_config::Span;

use super::Output;
use super::client::{Ask, Client};
use super::exit::{Error, Exit};
use super::print::{self, either};
use super::sources::{self, Document};

#[derive(Debug, Args)]
pub(crate) struct Sources {
    /// Files, or folders of .yaml, .yml and .json files, read as one document; `-`: standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    sources: Sources,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    sources: Sources,
}

#[derive(Debug, Args)]
pub(crate) struct Waiting {
    /// Answer when every node serves it, or its node lease lapsed
    #[arg(long)]
    wait: bool,
    /// How long to wait for that, at most 300s
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = Span::or_seconds, requires = "wait")]
    timeout: Duration,
    /// Why: goes into the history
    #[arg(long)]
    note: Option<String>,
    /// Only if this revision is the current one; 0: only if nothing was published yet
    #[arg(long, value_name = "N")]
    replaces: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    how: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// An old revision; default: the current one
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    #[command(flatten)]
    reading: Reading,
}

// How new an answer must be. (No doc comment: clap would show it as the command's own.)
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Reading {
    /// Show what the node has, without asking the others whether there is newer: works without a quorum
    #[arg(long)]
    stale: bool,
}

impl Reading {
    pub(super) fn is_stale(self) -> bool {
        self.stale
    }

    pub(super) fn of(self, ask: Ask) -> Ask {
        if self.stale { ask.query("stale", "true") } else { ask }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The revision whose text is published again
    #[arg(value_name = "N")]
    revision: u64,
    #[command(flatten)]
    how: Waiting,
}

pub(super) fn check(ask: &Check, output: Output) -> Result<Exit, Error> {
    let problems = sources::check(&sources::read(&ask.sources.paths)?);
    let ok = problems.iter().all(|problem| problem.severity == Severity::Warning);
    if output == Output::Json {
        print::json(&CheckReply { ok, problems });
    } else {
        print::problems(&problems);
        if ok {
            print::line("ok");
        }
    }
    Ok(if ok { Exit::Ok } else { Exit::Refused })
}

pub(super) fn schema() -> Result<Exit, Error> {
    print::raw(&tidegate_admin::document_schema());
    Ok(Exit::Ok)
}

pub(super) async fn diff(client: &Client, ask: &Diff, output: Output) -> Result<Exit, Error> {
    let document = Document::load(&ask.sources.paths)?;
    let request = Ask::new(Method::POST, "/v1/document/diff").text(document.text.clone());
    let diff: DiffReply = client.send(request).await.map_err(|error| document.placed(error))?;
    either(output, &diff, super::diff::show);
    Ok(Exit::Ok)
}

pub(super) async fn apply(client: &Client, ask: &Apply, output: Output) -> Result<Exit, Error> {
    let document = Document::load(&ask.sources.paths)?;
    let request = Ask::new(Method::PUT, "/v1/document").text(document.text.clone());
    let published = publish(client, request, &ask.how).await.map_err(|error| document.placed(error))?;
    Ok(told(&published, output))
}

pub(super) async fn rollback(client: &Client, ask: &Rollback, output: Output) -> Result<Exit, Error> {
    let request = Ask::new(Method::POST, &format!("/v1/rollback/{}", ask.revision));
    let published = publish(client, request, &ask.how).await?;
    Ok(told(&published, output))
}

async fn publish(client: &Client, mut request: Ask, how: &Waiting) -> Result<PublishReply, Error> {
    if how.wait {
        request = request.query("wait", &format!("{}ms", how.timeout.as_millis())).waiting(how.timeout);
    }
    if let Some(note) = &how.note {
        request = request.query("note", note);
    }
    client.send(request.if_match(how.replaces)).await
}

fn told(published: &PublishReply, output: Output) -> Exit {
    either(output, published, |published| {
        print::problems(&published.warnings);
        print::line(&format!("revision {} is published", published.revision));
        if let Some(nodes) = &published.nodes {
            print::applied(nodes);
        }
    });
    if published.complete == Some(false) { Exit::Incomplete } else { Exit::Ok }
}

pub(super) async fn get(client: &Client, ask: &Get, output: Output) -> Result<Exit, Error> {
    let path = ask.revision.map_or_else(|| "/v1/document".to_owned(), |revision| format!("/v1/history/{revision}"));
    let reply: DocumentReply = client.send(ask.reading.of(Ask::new(Method::GET, &path))).await?;
    match output {
        Output::Json => print::raw(&sources::as_json(&reply.text)?),
        Output::Table | Output::Yaml | Output::Csv => print::raw(&reply.text),
    }
    Ok(Exit::Ok)
}

pub(super) async fn history(client: &Client, reading: Reading, output: Output) -> Result<Exit, Error> {
    let history: HistoryReply = client.send(reading.of(Ask::new(Method::GET, "/v1/history"))).await?;
    either(output, &history, |history| {
        let row = |info: &RevisionInfo| {
            vec![
                info.revision.to_string(),
                info.published_at.clone(),
                info.by.clone(),
                info.bytes.to_string(),
                info.note.clone(),
            ]
        };
        print::table(&["revision", "published", "by", "bytes", "note"], history.revisions.iter().map(row).collect());
        if !history.orders.is_empty() {
            print::line("\norders about limits:");
            super::quota::events(&history.orders);
        }
    });
    Ok(Exit::Ok)
}
