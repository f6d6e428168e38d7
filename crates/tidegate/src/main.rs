//! The one binary: `serve` runs a node, `dev` a whole cluster for trying out, the rest talks to a running one.

mod allocator;
mod cli;
mod connect;
mod dev;
mod process;
mod serve;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate_tls::install();
    match cli::parse(std::env::args_os()) {
        Ok(cli) => cli::run(cli),
        Err(end) => end,
    }
}

/// One thing said on standard output. A reader that went away (`| head`) is no error.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _reader_gone = writeln!(out, "{text}").and_then(|()| out.flush());
}
