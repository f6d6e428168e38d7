//! The command line: what can be said to `tidegate`, and what it answers with: words for people, JSON for programs, an
//! exit code for scripts.
//!
//! Everything but `serve`, `dev`, `check`, `schema`, `catalogue`, `quota verify` and part of `cluster` (see `disaster`) is a client of a node's admin port and knows no
//! more than that API says.

mod audit;
mod cache;
mod catalogue;
mod cert;
mod client;
mod cluster;
mod diff;
mod disaster;
mod doctor;
mod document;
mod exit;
mod key;
mod model;
mod print;
mod quota;
mod scrape;
mod secret;
mod sources;
mod token;
mod top;
mod upstream;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use exit::{Error, Exit};

/// A cluster of API, AI and LLM gateways with limits that are exact over all of its nodes.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, propagate_version = true, after_help = exit::HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// A node's admin port
    #[arg(long, global = true, value_name = "URL", env = "TIDEGATE_ADMIN", default_value = client::DEFAULT_ADMIN)]
    pub(crate) admin: String,
    /// An admin token; default: what is in ./tidegate-data/admin.token, when the admin port is on this machine
    #[arg(long, global = true, value_name = "TOKEN", env = "TIDEGATE_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<Secret>,
    /// PEM roots to trust at an https admin port, instead of the system's
    #[arg(long, global = true, value_name = "FILE", env = "TIDEGATE_ADMIN_CA")]
    pub(crate) admin_ca: Option<PathBuf>,
    /// PEM chain of your own certificate, for an admin port that knows operators by theirs
    #[arg(long, global = true, value_name = "FILE", env = "TIDEGATE_CLIENT_CERT", requires = "client_key")]
    pub(crate) client_cert: Option<PathBuf>,
    /// PEM key of your own certificate
    #[arg(long, global = true, value_name = "FILE", env = "TIDEGATE_CLIENT_KEY", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,
    /// Tables for people or JSON for programs; yaml: of `get` only; csv: of `usage` and `catalogue` only
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
    Yaml,
    Csv,
}

/// Something that is never printed.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node
    Serve(Box<crate::serve::Args>),
    /// Run a whole cluster on this machine, with demo backends
    Dev(crate::dev::Args),
    /// Say everything that is wrong with a document; needs no node
    Check(document::Check),
    /// Say what publishing a document would change, and what that does to counters
    Diff(document::Diff),
    /// Publish a document
    Apply(document::Apply),
    /// Show the current document, or an old revision
    Get(document::Get),
    /// List published revisions
    History(document::Reading),
    /// Publish the text of an old revision again
    Rollback(document::Rollback),
    /// Print the JSON Schema of documents; needs no node
    Schema,
    /// Members: who they are, how one joins, how one leaves
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// All nodes at a glance: requests, errors, memory, who leads; again and again
    Top(top::Watch),
    /// Keys of consumers
    #[command(subcommand)]
    Key(key::Verb),
    /// Endpoints of upstreams: how they are, weights and drains set by hand
    #[command(subcommand)]
    Upstream(upstream::Verb),
    /// Deployments of language models: how they are
    #[command(subcommand)]
    Model(model::Verb),
    /// Kept responses: purge them, see what there is
    #[command(subcommand)]
    Cache(cache::Verb),
    /// Certificates: keep them, see them, ask an authority for them
    #[command(subcommand)]
    Cert(cert::Verb),
    /// Secrets of your own, sealed in the cluster: keep them, see which there are, give them new values
    #[command(subcommand)]
    Secret(secret::Verb),
    /// Admin tokens: who may use the admin port
    #[command(subcommand)]
    Token(token::Verb),
    /// Who changed what: records, each with a hash over the one before it
    #[command(subcommand)]
    Audit(audit::Verb),
    /// Counters of limits, orders about them, and proofs
    #[command(subcommand)]
    Quota(Box<quota::Verb>),
    /// What language models were used, by whom, and what it cost
    Usage(Box<usage::Asked>),
    /// Models that this build knows, what they can and what they cost; needs no node
    #[command(subcommand)]
    Catalogue(catalogue::Verb),
}

/// What was said, or how to end: after help that was asked for, or words that cannot be understood.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let words: Vec<OsString> = words.collect();
    Cli::try_parse_from(&words).map_err(|why| {
        if why.use_stderr() && is_a_program(&words) {
            Error::Usage(of_clap(&why)).print(Output::Json);
        } else {
            let _reader_gone = why.print();
        }
        ExitCode::from(u8::try_from(why.exit_code()).unwrap_or(Exit::Usage as u8))
    })
}

/// Clap has understood nothing: what stands there is all there is to know.
fn is_a_program(words: &[OsString]) -> bool {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    words.iter().any(|word| ["-ojson", "-o=json", "--output=json"].contains(word))
        || words.windows(2).any(|pair| ["-o", "--output"].contains(&pair[0]) && pair[1] == "json")
}

/// What is wrong, without how it would be right: for that there is `--help`.
fn of_clap(why: &clap::Error) -> String {
    let text = why.render().to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or_default();
    let said = said.split("\n\nFor more information").next().unwrap_or_default();
    said.strip_prefix("error: ").unwrap_or(said).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Does what was asked and says how it went.
#[must_use]
pub(crate) fn run(cli: Cli) -> ExitCode {
    let Cli { global, command } = cli;
    let done = match command {
        Command::Serve(args) => serve(*args, &global).map(|()| Exit::Ok).map_err(Error::Local),
        Command::Dev(args) => {
            crate::dev::run(&args, global.output == Output::Json).map(|()| Exit::Ok).map_err(Error::Local)
        }
        Command::Check(ask) => document::check(&ask, global.output),
        Command::Schema => document::schema(),
        Command::Catalogue(verb) => Ok(catalogue::run(&verb, global.output)),
        Command::Quota(verb) => match *verb {
            quota::Verb::Verify(args) => verify(&args, global.output),
            other => ask_a_node(&global, Command::Quota(Box::new(other))),
        },
        Command::Cluster(verb) => cluster::without_a_node(verb, global.output)
            .unwrap_or_else(|verb| ask_a_node(&global, Command::Cluster(verb))),
        Command::Audit(verb) => {
            audit::without_a_node(verb, global.output).unwrap_or_else(|verb| ask_a_node(&global, Command::Audit(verb)))
        }
        other => ask_a_node(&global, other),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            error.print(global.output);
            error.exit().into()
        }
    }
}

/// A node's `--admin` is the address to bind, and its `--token` the join token.
fn serve(args: crate::serve::Args, global: &Global) -> anyhow::Result<()> {
    crate::serve::run(args, &global.admin, global.token.clone().map(|token| token.0))
}

fn verify(args: &crate::verify::Args, output: Output) -> Result<Exit, Error> {
    let holds = crate::verify::run(args, output == Output::Json).map_err(Error::Local)?;
    Ok(if holds { Exit::Ok } else { Exit::Refused })
}

fn ask_a_node(global: &Global, command: Command) -> Result<Exit, Error> {
    if global.output == Output::Yaml && !matches!(command, Command::Get(_)) {
        return Err(Error::Usage("-o yaml is for `get`".to_owned()));
    }
    if global.output == Output::Csv && !matches!(command, Command::Usage(_)) {
        return Err(Error::Usage("-o csv is for `usage` and `catalogue`".to_owned()));
    }
    let client = client::Client::new(global)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Local(error.into()))?;
    runtime.block_on(async {
        match command {
            Command::Diff(ask) => document::diff(&client, &ask, global.output).await,
            Command::Apply(ask) => document::apply(&client, &ask, global.output).await,
            Command::Get(ask) => document::get(&client, &ask, global.output).await,
            Command::History(reading) => document::history(&client, reading, global.output).await,
            Command::Rollback(ask) => document::rollback(&client, &ask, global.output).await,
            Command::Cluster(verb) => cluster::run(&client, verb, global.output).await,
            Command::Top(asked) => top::run(&client, &asked, global.output).await,
            Command::Key(verb) => key::run(&client, verb, global.output).await,
            Command::Upstream(verb) => upstream::run(&client, verb, global.output).await,
            Command::Model(verb) => model::run(&client, verb, global.output).await,
            Command::Cache(verb) => cache::run(&client, verb, global.output).await,
            Command::Cert(verb) => cert::run(&client, verb, global.output).await,
            Command::Secret(verb) => secret::run(&client, verb, global.output).await,
            Command::Token(verb) => token::run(&client, verb, global.output).await,
            Command::Audit(verb) => audit::run(&client, verb, global.output).await,
            Command::Quota(verb) => quota::run(&client, *verb, global.output).await,
            Command::Usage(asked) => usage::run(&client, &asked, global.output).await,
            Command::Serve(_) | Command::Dev(_) | Command::Check(_) | Command::Schema | Command::Catalogue(_) => {
                Ok(Exit::Ok)
            }
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing step is a failing test
mod tests;
