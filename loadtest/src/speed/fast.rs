//! As many requests as one core of clients can ask for: wrk, h2load, or handshakes of our own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::client::{self, HOST, Trust, Wire};
use super::contender::Running;
use crate::linux::{self, WhenOrphaned};
use crate::matrix::measure::{PerRequest, last_cpu, wrk_of};
use crate::process::output_of;
use crate::usage::Usage;

/// Requests under way at once.
pub(super) const AT_ONCE: usize = 64;
/// Of h2; each with as many streams.
const H2_CONNECTIONS: usize = 8;
/// Requests per second; the slowest of all, bodies of 1 MiB over TLS and Caddy's 10,000 routes, bring ten times as many.
const FEWEST: f64 = 20.0;
/// Each has one connection after the other.
const HANDSHAKERS: usize = 32;

#[derive(Debug, Clone, Copy)]
pub(super) struct Fast {
    pub(super) per_second: f64,
    pub(super) cpu: PerRequest,
}

/// What is asked for, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) wire: Wire,
    pub(super) path: &'a str,
    /// For wrk, which varies the path.
    pub(super) script: Option<&'a Path>,
}

/// Once more, up to four times, where so few came through that opening the connections is what was measured: others had the CPU.
pub(super) fn steady(running: &Running, ask: Ask<'_>, trust: &Trust, time: Duration) -> Result<Fast> {
    let mut fast = measure(running, ask, trust, time)?;
    for _again in 0..4 {
        if fast.per_second >= FEWEST {
            break;
        }
        eprintln!("  {}: {:.0} requests/s, once more", running.kind.name(), fast.per_second);
        fast = measure(running, ask, trust, time)?;
    }
    Ok(fast)
}

pub(super) fn measure(running: &Running, ask: Ask<'_>, trust: &Trust, time: Duration) -> Result<Fast> {
    ensure!(!linux::asked_to_stop(), "stopped");
    let before = Usage::of(&running.groups);
    let (requests, seconds) = match ask.wire {
        Wire::Clear => {
            let url = format!("http://{}{}", running.doors.clear, ask.path);
            let run = wrk_of(&url, &running.headers, ask.script, time)?;
            ensure!(run.failed == 0, "{}: {} of {} failed", running.kind.name(), run.failed, run.requests);
            (run.requests, run.seconds)
        }
        Wire::H2 | Wire::Tls | Wire::H2Tls => h2load(running, ask, time)?,
        Wire::TlsNew | Wire::TlsResumed => handshakes(running, ask, trust, time)?,
    };
    let used = Usage::of(&running.groups) - before;
    #[expect(clippy::cast_precision_loss)]
    let per_second = requests as f64 / seconds;
    Ok(Fast { per_second, cpu: PerRequest::of(used, requests) })
}

fn h2load(running: &Running, ask: Ask<'_>, time: Duration) -> Result<(u64, f64)> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &last_cpu().to_string(), "h2load", "-t1"]);
    let (scheme, clients) = match ask.wire {
        Wire::H2 => ("http", H2_CONNECTIONS),
        Wire::H2Tls => ("https", H2_CONNECTIONS),
        _ => ("https", AT_ONCE),
    };
    if ask.wire == Wire::Tls {
        command.arg("--h1");
    }
    command.args(client::H2LOAD);
    command.args([format!("-c{clients}"), format!("-m{}", AT_ONCE / clients)]);
    command.arg(format!("-D{}ms", time.as_millis()));
    for (name, value) in &running.headers {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    let to: SocketAddr = ask.wire.door(&running.doors);
    command.arg(format!("--connect-to={to}")).arg(format!("{scheme}://{HOST}{}", ask.path));
    linux::tie_to_us(&mut command, WhenOrphaned::Kill, None);
    let printed = output_of(&mut command)?;
    let run = parse_h2load(&printed).with_context(|| format!("h2load printed something unexpected:\n{printed}"))?;
    let all = run.failed + run.succeeded;
    ensure!(run.failed == 0, "{}: {} of {all} failed:\n{printed}", running.kind.name(), run.failed);
    Ok((run.succeeded, time.as_secs_f64()))
}

#[derive(Debug, PartialEq, Eq)]
struct H2load {
    succeeded: u64,
    failed: u64,
}

/// "requests: 90 total, 64 started, 90 done, 88 succeeded, 2 failed, 2 errored, 0 timeout", and
/// "status codes: 88 2xx, 0 3xx, 0 4xx, 0 5xx".
fn parse_h2load(printed: &str) -> Option<H2load> {
    let counts = |prefix: &str| printed.lines().find_map(|line| line.strip_prefix(prefix));
    let of = |line: &str, what: &str| -> Option<u64> {
        line.split(',').find_map(|one| one.trim().strip_suffix(what)?.trim().parse().ok())
    };
    let (requests, codes) = (counts("requests: ")?, counts("status codes: ")?);
    let succeeded = of(codes, "2xx")?;
    let others = of(codes, "3xx")? + of(codes, "4xx")? + of(codes, "5xx")?;
    Some(H2load { succeeded, failed: of(requests, "failed")? + others })
}

/// A connection, a handshake and a request, again and again.
fn handshakes(running: &Running, ask: Ask<'_>, trust: &Trust, time: Duration) -> Result<(u64, f64)> {
    let (done, began) = (AtomicU64::new(0), Instant::now());
    thread::scope(|scope| {
        let start = |_| {
            let mut call = client::call(ask.wire, &running.doors, ask.path, &running.headers, trust.session(ask.wire));
            let done = &done;
            scope.spawn(move || -> Result<()> {
                linux::pin_this_thread(&[last_cpu()])?;
                while began.elapsed() < time {
                    let answer = call().map_err(|broken| anyhow!("{}: {}", running.kind.name(), broken.why))?;
                    ensure!(answer.status == 200, "{}: status {}", running.kind.name(), answer.status);
                    done.fetch_add(1, Relaxed);
                }
                Ok(())
            })
        };
        let threads: Vec<_> = (0..HANDSHAKERS).map(start).collect();
        for thread in threads {
            match thread.join() {
                Ok(ended) => ended?,
                Err(_) => bail!("a client panicked"),
            }
        }
        Ok((done.load(Relaxed), began.elapsed().as_secs_f64()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_h2load_prints_is_read_with_its_failures() {
        let printed = "finished in 2.00s, 45.00 req/s, 2.44MB/s\n\
            requests: 90 total, 98 started, 90 done, 88 succeeded, 2 failed, 1 errored, 0 timeout\n\
            status codes: 85 2xx, 0 3xx, 2 4xx, 1 5xx\n";
        assert_eq!(parse_h2load(printed), Some(H2load { succeeded: 85, failed: 5 }));
        assert_eq!(parse_h2load("h2load: unrecognized option"), None);
    }
}
