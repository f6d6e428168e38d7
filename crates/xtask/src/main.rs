//! The project's verbs: test, sim, mutants, demo, soak, chaos, load, pgo, instructions, fuzz, lint. Depends on clap and std only, so that it builds in
//! seconds; what needs more lives in `loadtest/` and is built and called from here.

mod admin;
mod build;
mod cache_tests;
mod chaos;
mod demo;
mod deploy;
mod evidence;
mod fuzz;
mod hostile;
mod lint;
mod load;
mod pgo;
mod places;
mod prerequisites;
mod run;
mod sdks;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use prerequisites::Consent;

/// The project's verbs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    /// Install what is missing without asking (as with CI=true).
    #[arg(long, global = true)]
    yes: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build and run every test.
    Test {
        /// Passed on to the test runner, after `--`.
        #[arg(last = true)]
        runner: Vec<String>,
    },
    /// Three nodes and a balancer under load, while nodes join, die, return and leave.
    Demo {
        /// How long the load runs: 10 to 3,600.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Requests per second before the spike; by default what a small machine can take.
        #[arg(long)]
        rate: Option<u32>,
    },
    /// Three nodes under all kinds of traffic, faults, documents, purges, joins and leaves: nothing may pile up.
    Soak {
        /// How long the load runs, 60 to 86,400; warm-up and rest come on top.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
        /// Short requests per second; by default what leaves a small machine half idle.
        #[arg(long)]
        rate: Option<u32>,
        /// The build that is soaked.
        #[arg(long, default_value = "release")]
        profile: String,
    },
    /// Nodes in network namespaces of their own under everything that goes wrong: nothing acknowledged may be lost (needs root).
    Chaos {
        /// How long faults go on, 10 to 86,400; healing comes on top.
        #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(10..=86_400))]
        seconds: u64,
        /// Faults, their times and their victims are drawn from it; by default another one each time.
        #[arg(long)]
        seed: Option<u64>,
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
        /// Only these faults, several with + between: "kill+one-way".
        #[arg(long)]
        only: Option<String>,
        /// Logs, histories and decision logs stay even if nothing failed.
        #[arg(long)]
        keep: bool,
    },
    /// Measure Tidegate, nginx, HAProxy and empty hyper proxies; write loadtest/results/.
    Load {
        /// One short round of each: minutes instead of the better part of an hour.
        #[arg(long)]
        quick: bool,
        /// Protocols, bodies, TLS handshakes, routes and idle connections instead, beside nginx, HAProxy, Caddy, Envoy, empty hyper.
        #[arg(long)]
        speed: bool,
        /// What nodes share instead: cache hits (against nginx and Varnish), a herd, purges, breakers, health checks.
        #[arg(long, conflicts_with = "speed")]
        shared: bool,
        /// Limits side by side instead: Tidegate, Redis per request, counters exchanged at intervals.
        #[arg(long, conflicts_with_all = ["speed", "shared"])]
        limits: bool,
        /// Chat through gateways instead: nginx, empty hyper, Tidegate three ways, LiteLLM and Portkey where they are installed.
        #[arg(long, conflicts_with_all = ["speed", "shared", "limits"])]
        llm: bool,
        /// Only the subjects whose name contains this.
        #[arg(long)]
        only: Option<String>,
        /// The build that is measured; by default bench-fat, or release if it is to be quick.
        #[arg(long)]
        profile: Option<String>,
        /// Measure what `cargo xtask pgo` built.
        #[arg(long, conflicts_with = "profile")]
        trained: bool,
    },
    /// Build the program twice: what the first learns under load, the second is laid out by. Needs LLVM's own tools.
    Pgo,
    /// Count the instructions of a request, with valgrind; more than 5 % beyond what is kept fails.
    Instructions {
        /// Keep what is counted, in loadtest/results/instructions.json.
        #[arg(long)]
        keep: bool,
        /// Only the subjects whose name contains this.
        #[arg(long)]
        only: Option<String>,
    },
    /// Run the fuzz targets (needs a nightly toolchain and cargo-fuzz).
    Fuzz {
        /// One target; all of them by default.
        target: Option<String>,
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Simulate whole clusters under everything that goes wrong; the last line tells violations and figures.
    Sim {
        #[arg(long, default_value_t = 2_000)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Simulate lives of clusters: Raft, disks and networks that fail by the seed; the last line tells violations.
    Life {
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// This one alone, with its story.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Turn each guard of the limits off: something must notice.
    Mutants {
        /// Only guards whose name contains this.
        #[arg(long)]
        only: Option<String>,
    },
    /// The public suite of HTTP caching against a real node (needs Node.js).
    CacheTests {
        /// One test of it, with what was sent and received.
        #[arg(long)]
        only: Option<String>,
    },
    /// Official SDKs of language models against a real node (needs Python, Node.js, PyPI and npm).
    Sdks {
        /// Only cases with this in their line: "anthropic by-gemini loop".
        #[arg(long)]
        only: Option<String>,
    },
    /// Hostile clients and backends against a real node, byte by byte (needs Python, Node.js and PyPI).
    Hostile {
        /// Only cases with this in their line: "floods rapid_reset".
        #[arg(long)]
        only: Option<String>,
    },
    /// What deploy/ tells: the chart rendered by Helm and judged by Kubernetes' schemas, and told to real nodes (needs Python and PyPI).
    Deploy,
    /// The admin API fuzzed against its own OpenAPI document, by Schemathesis (needs Python and PyPI).
    Admin {
        /// Another than the tests have.
        #[arg(long)]
        seed: Option<u64>,
        /// Tries for each operation, beside those that its schema suggests.
        #[arg(long)]
        examples: Option<u32>,
    },
    /// Format, clippy, dependencies, and the samples in deploy/.
    Lint {
        /// Repair the format instead of complaining.
        #[arg(long)]
        fix: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let consent = Consent::of(arguments.yes);
    let done = match arguments.verb {
        Verb::Test { runner } => test::all(consent, &runner),
        Verb::Demo { seconds, rate } => demo::run(consent, seconds, rate),
        Verb::Soak { seconds, rate, profile } => soak::run(consent, &soak::Order { seconds, rate, profile }),
        Verb::Chaos { seconds, seed, nodes, only, keep } => {
            chaos::run(consent, &chaos::Order { seconds, seed, nodes, only, keep })
        }
        Verb::Load { quick, speed, shared, limits, llm, only, profile, trained } => {
            let what = if llm {
                load::What::Llm
            } else if limits {
                load::What::Limits
            } else if shared {
                load::What::Shared
            } else if speed {
                load::What::Speed
            } else {
                load::What::Matrix
            };
            load::run(consent, &load::Order { what, quick, only, profile, trained })
        }
        Verb::Pgo => pgo::build(consent),
        Verb::Instructions { keep, only } => load::instructions(consent, keep, only.as_deref()),
        Verb::Sim { seeds, from } => evidence::sim(seeds, from),
        Verb::Life { seeds, from, seed } => evidence::life(seeds, from, seed),
        Verb::Mutants { only } => evidence::mutants(only.as_deref()),
        Verb::Fuzz { target, seconds } => fuzz::search(target.as_deref(), seconds),
        Verb::CacheTests { only } => cache_tests::suite(only.as_deref()),
        Verb::Sdks { only } => sdks::all(consent, only.as_deref()),
        Verb::Hostile { only } => hostile::all(consent, only.as_deref()),
        Verb::Deploy => deploy::all(consent),
        Verb::Admin { seed, examples } => admin::all(consent, &admin::Order { seed, examples }),
        Verb::Lint { fix } => lint::all(fix),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("cargo xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
