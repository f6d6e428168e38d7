//! The harness of the load test, the demo and the soak. `cargo xtask load`, `demo` and `soak` build what is needed and
//! call it; README.md beside it says how things are measured.

mod backend;
mod balancer;
mod chaos;
mod decide;
mod demo;
mod empty_proxy;
mod figure;
mod generator;
mod histogram;
mod http;
mod instructions;
mod limits;
mod linux;
mod llm;
mod matrix;
mod node;
mod process;
mod shared;
mod soak;
mod speed;
mod usage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Load generator, empty proxies and scenarios for Tidegate.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Three nodes and a balancer under load, while nodes join, die, return and leave.
    Demo {
        /// How long the load runs.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=3600))]
        seconds: u64,
        /// Requests per second before the spike; the spike is twice that.
        #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(20..=100_000))]
        rate: u32,
        /// By default HAProxy, or nginx where that is missing.
        #[arg(long)]
        balancer: Option<balancer::Kind>,
        /// The `tidegate` program; by default the one beside this program.
        #[arg(long)]
        tidegate: Option<PathBuf>,
    },
    /// Three nodes under all kinds of traffic, faults, documents, purges, joins and leaves: nothing may pile up.
    Soak {
        /// How long the load runs, warm-up and rest apart.
        #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(60..=86_400))]
        seconds: u64,
        /// Short requests per second; streams, WebSockets and slow clients come on top.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(20..=20_000))]
        rate: u32,
        /// Only these parts, several with + between: to find out what piles up.
        #[arg(long, value_delimiter = '+')]
        only: Vec<soak::Part>,
        #[arg(long)]
        tidegate: Option<PathBuf>,
    },
    /// Nodes in network namespaces of their own under everything that goes wrong: nothing acknowledged may be lost. Needs
    /// namespaces of its own (`cargo xtask chaos` makes them).
    Chaos {
        /// How long faults go on; healing comes on top.
        #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(10..=86_400))]
        seconds: u64,
        /// Faults, their times and their victims are drawn from it; by default from the clock.
        #[arg(long)]
        seed: Option<u64>,
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
        /// Only these faults, several with + between.
        #[arg(long, value_delimiter = '+')]
        only: Vec<chaos::Fault>,
        /// Requests per second.
        #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(10..=5_000))]
        rate: u32,
        /// Logs, histories and decision logs stay even if nothing failed.
        #[arg(long)]
        keep: bool,
        #[arg(long)]
        tidegate: Option<PathBuf>,
    },
    /// Measures nginx, HAProxy, empty hyper proxies and Tidegate; prints a table and writes it.
    Matrix {
        /// One short round of each.
        #[arg(long)]
        quick: bool,
        /// Only the subjects whose name contains this, or one of `five`, `idle`, `apply`, `decide`; several with + between.
        #[arg(long, value_delimiter = '+')]
        only: Vec<String>,
        /// Where the table and the JSON go.
        #[arg(long, default_value = "loadtest/results")]
        results: PathBuf,
        #[arg(long)]
        tidegate: Option<PathBuf>,
    },
    /// Measures nginx, HAProxy, Caddy, Envoy, an empty hyper and Tidegate: protocols, bodies, handshakes, routes, idle connections.
    Speed {
        /// Few and short rounds.
        #[arg(long)]
        quick: bool,
        /// Only these sections (`h1`, `h2-tls`, `idle`, …), and only contenders whose name contains this; several with + between.
        #[arg(long, value_delimiter = '+')]
        only: Vec<String>,
        /// Where speed.md and speed.json go.
        #[arg(long, default_value = "loadtest/results")]
        results: PathBuf,
        #[arg(long)]
        tidegate: Option<PathBuf>,
    },
    /// Measures what nodes share: cache hits, a thundering herd, purges, breakers, health checks.
    Shared {
        /// Few and short rounds.
        #[arg(long)]
        quick: bool,
        /// Only these of `hits`, `herd`, `purges`, `waste`, `probes`; several with + between.
        #[arg(long, value_delimiter = '+')]
        only: Vec<String>,
        /// Where shared.md and shared.json go.
        #[arg(long, default_value = "loadtest/results")]
        results: PathBuf,
        #[arg(long)]
        tidegate: Option<PathBuf>,
    },
    /// Limits side by side: Tidegate, Redis per request, counters exchanged at intervals.
    Limits {
        /// Three minutes, with three nodes.
        #[arg(long)]
        quick: bool,
        /// How many; several with + between; by default 3+5+10, or 3 if it is to be quick.
        #[arg(long, value_delimiter = '+', value_parser = clap::value_parser!(u16).range(3..=20))]
        nodes: Vec<u16>,
        /// Only contenders whose name contains this; several with + between.
        #[arg(long, value_delimiter = '+')]
        only: Vec<String>,
        /// Where limits.md and limits.json go.
        #[arg(long, default_value = "loadtest/results")]
        results: PathBuf,
        #[arg(long)]
        tidegate: Option<PathBuf>,
    },
    /// Chat through gateways, side by side.
    Llm {
        /// Few and short rounds.
        #[arg(long)]
        quick: bool,
        /// Only the subjects whose name contains this; several with + between.
        #[arg(long, value_delimiter = '+')]
        only: Vec<String>,
        /// Where llm.md and llm.json go.
        #[arg(long, default_value = "loadtest/results")]
        results: PathBuf,
        #[arg(long)]
        tidegate: Option<PathBuf>,
        /// Chats alone, in many short rounds.
        #[arg(long)]
        chats: bool,
    },
    /// Counts a node's instructions for a request, with valgrind, and compares them with what was kept.
    Instructions {
        /// Keeps what is counted instead.
        #[arg(long)]
        keep: bool,
        /// Only the subjects whose name contains this; several with + between.
        #[arg(long, value_delimiter = '+')]
        only: Vec<String>,
        /// Where instructions.json is, and where instructions.md goes.
        #[arg(long, default_value = "loadtest/results")]
        results: PathBuf,
        /// Where the profiles go, for `callgrind_annotate`.
        #[arg(long)]
        profiles: Option<PathBuf>,
        #[arg(long)]
        tidegate: Option<PathBuf>,
    },
    /// A provider of language models that does what the model's name says: README.md has the words.
    Provider {
        #[arg(long)]
        http: SocketAddr,
    },
    /// A gateway as small as it can be, whose limit is Redis, or counters that nodes exchange.
    Limited(limits::Limited),
    /// Measures decisions: from the caller's ids to the permit, in one process and without a socket.
    Decide,
    /// A backend that answers at once.
    Backend {
        #[arg(long)]
        http: SocketAddr,
        /// Gets the request id of every request, one per line.
        #[arg(long)]
        requests: Option<PathBuf>,
    },
    /// hyper answering every request with the same body: what an answer costs at least.
    Constant {
        #[arg(long)]
        http: SocketAddr,
        #[arg(long)]
        bytes: usize,
    },
    /// A proxy that does nothing but pass requests on.
    EmptyProxy {
        #[arg(long)]
        layout: empty_proxy::Layout,
        #[arg(long)]
        workers: usize,
        #[arg(long)]
        http: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
        /// A TLS listener as well.
        #[arg(long, requires_all = ["certificate", "key"])]
        https: Option<SocketAddr>,
        #[arg(long)]
        certificate: Option<PathBuf>,
        #[arg(long)]
        key: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("tidegate-loadtest: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo { seconds, rate, balancer, tidegate } => demo::run(&demo::Options {
            seconds,
            rate: f64::from(rate),
            balancer: balancer.map_or_else(balancer::Kind::installed, Ok)?,
            binary: node::Binary::at(tidegate)?,
        }),
        Command::Soak { seconds, rate, only, tidegate } => {
            soak::run(&soak::Options { seconds, rate: f64::from(rate), only, binary: node::Binary::at(tidegate)? })
        }
        Command::Chaos { seconds, seed, nodes, only, rate, keep, tidegate } => chaos::run(&chaos::Options {
            seconds,
            seed: seed.unwrap_or_else(chaos::seed),
            nodes: usize::from(nodes),
            only,
            rate,
            keep,
            binary: node::Binary::at(tidegate)?,
        }),
        Command::Matrix { quick, only, results, tidegate } => {
            matrix::run(&matrix::Options { quick, only, results, binary: node::Binary::at(tidegate).ok() })
        }
        Command::Speed { quick, only, results, tidegate } => {
            speed::run(&speed::Options { quick, only, results, binary: node::Binary::at(tidegate).ok() })
        }
        Command::Shared { quick, only, results, tidegate } => {
            shared::run(&shared::Options { quick, only, results, binary: node::Binary::at(tidegate)? })
        }
        Command::Limits { quick, nodes, only, results, tidegate } => {
            limits::run(&limits::Options { quick, nodes, only, results, binary: node::Binary::at(tidegate)? })
        }
        Command::Llm { quick, only, results, tidegate, chats } => {
            let binary = node::Binary::at(tidegate)?;
            let options = llm::Options { quick, only, results, binary };
            if chats { llm::chats(&options) } else { llm::run(&options) }
        }
        Command::Instructions { keep, only, results, profiles, tidegate } => {
            let binary = node::Binary::at(tidegate)?;
            instructions::run(&instructions::Options { keep, only, results, profiles, binary })
        }
        Command::Provider { http } => llm::provider(http),
        Command::Limited(args) => limits::limited(&args),
        Command::Constant { http, bytes } => shared::constant(http, bytes),
        Command::Decide => decide::measure().map(drop),
        Command::Backend { http, requests } => backend::serve(http, requests.as_deref()),
        Command::EmptyProxy { layout, workers, http, upstream, https, certificate, key } => {
            let tls = https.zip(certificate.zip(key));
            let tls = tls.map(|(address, (certificate, key))| empty_proxy::Tls::of(address, &certificate, &key));
            empty_proxy::serve(layout, workers, empty_proxy::Site { http, tls: tls.transpose()?, upstream })
        }
    }
}
