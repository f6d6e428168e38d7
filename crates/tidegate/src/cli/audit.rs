//! `tidegate audit …`: who changed what, and whether the records of it are whole.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use serde::Serialize;
use serde_json::Value;
use tidegate_admin::audit::{Chain, Misfit};
use tidegate_admin::wire::{AuditRecord, AuditReply, ClusterStatus};

use super::Output;
use super::client::{Ask, Client};
use super::exit::{Error, Exit};
use super::print::{self, either};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Who changed what, the newest last
    Ls(Listed),
    /// Compute the chain of hashes anew: says the first record that does not fit
    Verify(Checked),
}

#[derive(Debug, Args)]
pub(crate) struct Listed {
    /// Only of this one: a token's name, a certificate's, `node 2`
    #[arg(long)]
    actor: Option<String>,
    /// Only this: `key.revoke`, or all of `key`
    #[arg(long)]
    action: Option<String>,
    /// Only since then: 2026-11-20T18:00:00Z, 2026-11-20, or so long ago, 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 50, conflicts_with = "all")]
    limit: usize,
    /// All that are kept: to be exported
    #[arg(long)]
    all: bool,
    /// What this node has, without asking whether there is newer
    #[arg(long)]
    stale: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Checked {
    /// What `audit ls -o json` printed, in a file (`-`: standard input); default: the cluster's own, on every node
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Number and hash of a record, as an earlier `verify` printed them: nothing up to it was written anew
    #[arg(long, value_name = "NUMBER:HASH", value_parser = expected)]
    expect: Option<(u64, String)>,
}

const PAGE: usize = 10_000;

/// What came of it.
#[derive(Serialize)]
struct Verdict {
    /// Everything fits.
    whole: bool,
    first: u64,
    last: u64,
    hash: String,
    /// What does not fit.
    misfits: Vec<String>,
    /// Nodes that did not answer.
    silent: Vec<String>,
}

/// Without a node: the rest is asked of one.
pub(super) fn without_a_node(verb: Verb, output: Output) -> Result<Result<Exit, Error>, Verb> {
    match verb {
        Verb::Verify(Checked { file: Some(file), expect }) => Ok(of_file(&file, expect, output)),
        other => Err(other),
    }
}

pub(super) async fn run(client: &Client, verb: Verb, output: Output) -> Result<Exit, Error> {
    match verb {
        Verb::Ls(listed) => {
            let reply = if listed.all { all(client, &listed).await? } else { client.send(asked(&listed)).await? };
            either(output, &reply, list);
            Ok(Exit::Ok)
        }
        Verb::Verify(Checked { expect, .. }) => verify(client, expect, output).await,
    }
}

fn asked(listed: &Listed) -> Ask {
    let mut ask = Ask::new(Method::GET, "/v1/audit");
    for (name, value) in [("actor", &listed.actor), ("action", &listed.action), ("since", &listed.since)] {
        if let Some(value) = value {
            ask = ask.query(name, value);
        }
    }
    if listed.stale {
        ask = ask.query("stale", "true");
    }
    if listed.all {
        return ask.query("limit", &PAGE.to_string());
    }
    ask.query("newest", "true").query("limit", &listed.limit.to_string())
}

/// All pages as one.
async fn all(client: &Client, listed: &Listed) -> Result<AuditReply, Error> {
    let mut whole: AuditReply = client.send(asked(listed)).await?;
    while let Some(next) = whole.next {
        let page: AuditReply = client.send(asked(listed).query("after", &next.to_string())).await?;
        let mut records = std::mem::take(&mut whole.records);
        records.extend(page.records);
        // What was forgotten stays as the first page had it: that is what the first record follows.
        whole = AuditReply { records, forgotten: whole.forgotten, before: whole.before, ..page };
    }
    Ok(whole)
}

fn list(reply: &AuditReply) {
    let row = |record: &AuditRecord| {
        let AuditRecord { seq, at, actor, address, action, target, detail, result, .. } = record;
        let from = if address.is_empty() { "-".to_owned() } else { address.clone() };
        let role = actor.role.map_or_else(String::new, |role| format!(" ({})", role.as_str()));
        let (who, detail) = (format!("{}{role}", actor.name), detail.clone());
        vec![seq.to_string(), at.clone(), who, from, action.clone(), target.clone(), result.clone(), detail]
    };
    let header = ["no", "at", "who", "from", "action", "target", "result", "detail"];
    print::table(&header, reply.records.iter().map(row).collect());
    if reply.forgotten > 0 {
        print::line(&format!("\nrecords up to {} are kept no more", reply.forgotten));
    }
}

fn expected(text: &str) -> Result<(u64, String), String> {
    let parts = text.split_once(':').and_then(|(seq, hash)| Some((seq.parse().ok()?, hash.to_owned())));
    parts.filter(|(_, hash)| hash.len() == 64).ok_or_else(|| "a number, a colon and 64 hexadecimal digits".to_owned())
}

fn begin(expect: Option<(u64, String)>) -> Chain {
    expect.map_or_else(Chain::default, |(seq, hash)| Chain::expecting(seq, hash))
}

fn of_file(file: &Path, expect: Option<(u64, String)>, output: Output) -> Result<Exit, Error> {
    let text =
        if file == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let text = text.map_err(|error| Error::Usage(format!("{}: {error}", file.display())))?;
    let mut chain = begin(expect);
    let misfit = parsed(&text).and_then(|reply| chain.page(&reply).map_err(|misfit| misfit.to_string())).err();
    Ok(conclude(output, &chain, misfit.into_iter().collect(), Vec::new()))
}

/// Record by record, so that one which is none can be named.
fn parsed(text: &str) -> Result<AuditReply, String> {
    let no = |why: &dyn std::fmt::Display| format!("this is no listing of `tidegate audit ls -o json`: {why}");
    let mut whole: Value = serde_json::from_str(text).map_err(|error| no(&error))?;
    let records = whole.get_mut("records").and_then(Value::as_array_mut).map(std::mem::take);
    let mut reply: AuditReply = serde_json::from_value(whole).map_err(|error| no(&error))?;
    for (place, value) in records.unwrap_or_default().into_iter().enumerate() {
        let seq = value.get("seq").and_then(Value::as_u64);
        let named = || seq.map_or_else(|| format!("the record at place {}", place + 1), |seq| format!("record {seq}"));
        reply.records.push(serde_json::from_value(value).map_err(|error| format!("{} is none: {error}", named()))?);
    }
    Ok(reply)
}

async fn verify(client: &Client, expect: Option<(u64, String)>, output: Output) -> Result<Exit, Error> {
    let mut chain = begin(expect);
    let (mut after, mut misfits, mut silent) = (0, Vec::new(), Vec::new());
    loop {
        let ask = Ask::new(Method::GET, "/v1/audit").query("limit", &PAGE.to_string());
        let reply: AuditReply = client.send(ask.query("after", &after.to_string())).await?;
        if let Err(Misfit { seq, why }) = chain.page(&reply) {
            misfits.push(format!("record {seq} {why}"));
            break;
        }
        let Some(next) = reply.next else { break };
        after = next;
    }
    if let Some((_, last, hash)) = chain.checked() {
        let status: ClusterStatus = client.get("/v1/cluster").await?;
        for node in status.nodes.iter().filter(|node| node.id != status.node_id) {
            match head_of(client, &node.admin, last).await {
                Ok(Some(other)) if other == hash => {}
                Ok(Some(other)) => misfits.push(format!("node {} has {other} as the hash of record {last}", node.id)),
                Ok(None) => misfits.push(format!("node {} does not have record {last}", node.id)),
                Err(why) => silent.push(format!("node {}: {why}", node.id)),
            }
        }
    }
    Ok(conclude(output, &chain, misfits, silent))
}

/// The hash of that record, as another node has it.
async fn head_of(client: &Client, admin: &str, seq: u64) -> Result<Option<String>, String> {
    if admin.is_empty() {
        return Err("it tells nobody where its admin port is".to_owned());
    }
    let ask = Ask::new(Method::GET, "/v1/audit").query("limit", "1").query("after", &(seq - 1).to_string());
    let reply: AuditReply = client.at(admin).send(ask).await.map_err(|error| error.message())?;
    Ok(reply.records.into_iter().find(|record| record.seq == seq).map(|record| record.hash))
}

fn conclude(output: Output, chain: &Chain, misfits: Vec<String>, silent: Vec<String>) -> Exit {
    let (first, last, hash) = chain.checked().unwrap_or((0, 0, ""));
    let verdict = Verdict { whole: misfits.is_empty(), first, last, hash: hash.to_owned(), misfits, silent };
    either(output, &verdict, |verdict| {
        verdict.misfits.iter().for_each(|misfit| print::line(&print::clean(misfit)));
        verdict.silent.iter().for_each(|node| eprintln!("not compared: {}", print::clean(node)));
        match (verdict.whole, verdict.last) {
            (false, _) => print::line("these records are not what the cluster wrote"),
            (true, 0) => print::line("nothing is recorded yet"),
            (true, _) => {
                print::line(&format!("records {first} to {last} fit; keep this for the next time: {last}:{hash}"));
            }
        }
    });
    if !verdict.whole {
        return Exit::Refused;
    }
    if verdict.silent.is_empty() { Exit::Ok } else { Exit::Incomplete }
}
