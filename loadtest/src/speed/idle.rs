//! 10,000 connections that nobody uses: what each takes of the contender's memory. The kernel's part (sockets) is not in it.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;

use super::Site;
use super::client::{self, HOST, Session, Wire};
use super::contender::{Extent, Kind, Running};
use crate::http::{Connection, get_request};
use crate::linux;
use crate::matrix::measure::last_cpu;
use crate::shared::report::Section;
use crate::usage::Usage;

const CONNECTIONS: usize = 10_000;
/// Open files that a contender may have: the connections, those towards the backend, and room.
pub(super) const FILES: u64 = 20_000;
/// What is freed is given back to the system only after a while.
const SETTLED: Duration = Duration::from_secs(2);

const COLUMNS: &[&str] = &["proxy", "before", "KiB per connection, clear", "KiB per connection, TLS"];

#[derive(Debug, Clone, Copy)]
struct Idle {
    before_bytes: u64,
    /// KiB per connection.
    each: f64,
}

pub(super) fn measure(site: &Site<'_>, kinds: &[Kind]) -> Result<Section> {
    let how = format!(
        "Resident memory beyond what there was before, per connection of 10,000; each has had one answer (HTTP/1.1, 12 bytes), the \
         last {} s ago. {}.",
        SETTLED.as_secs(),
        client::IN_WORDS
    );
    let mut section = Section::new("Idle connections", how, COLUMNS);
    for kind in kinds.iter().filter(|kind| !kind.is_full()) {
        // Each on a fresh process: what the other left behind would be used again.
        let [clear, tls] = [Wire::Clear, Wire::Tls].map(|wire| {
            eprintln!("  {} · {}", kind.name(), if wire == Wire::Tls { "TLS" } else { "clear" });
            let running = Running::start(*kind, Extent::OneRoute, site)?;
            in_a_thread(&running, wire, site).with_context(|| format!("{}, idle connections", kind.name()))
        });
        let (clear, tls) = (clear?, tls?);
        let kib = |kib: f64| format!("{kib:.1}");
        section.row(
            vec![
                kind.name().to_owned(),
                format!("{} MB", clear.before_bytes.div_ceil(1_000_000)),
                kib(clear.each),
                kib(tls.each),
            ],
            json!({
                "name": kind.name(), "before_bytes": clear.before_bytes, "connections": CONNECTIONS,
                "clear_kib": clear.each, "tls_kib": tls.each,
            }),
        );
    }
    Ok(section)
}

/// Only the client is pinned.
fn in_a_thread(running: &Running, wire: Wire, site: &Site<'_>) -> Result<Idle> {
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            linux::pin_this_thread(&[last_cpu()])?;
            if wire == Wire::Tls {
                let session = site.trust.session(wire);
                let line = |session: &Session| session.over(client::connect(running.doors.tls)?);
                idle(running, || line(&session), |line| &line.sock)
            } else {
                idle(running, || client::connect(running.doors.clear), |line| line)
            }
        });
        run.join().map_err(|_| anyhow!("the client panicked"))?
    })
}

fn idle<S: Read + std::io::Write>(
    running: &Running,
    open: impl Fn() -> std::io::Result<S>,
    socket: impl Fn(&S) -> &TcpStream,
) -> Result<Idle> {
    let request = get_request(HOST, "/load", &[]);
    let ask = |line: &mut Connection<S>| -> Result<()> {
        let answer = line.exchange(&request).map_err(|broken| broken.why)?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(())
    };
    let resident = || {
        thread::sleep(SETTLED);
        Usage::of(&running.groups).resident_bytes
    };
    // What the first requests bring along is no connection's.
    for _ in 0..200 {
        ask(&mut Connection::over(open()?))?;
    }
    let before = resident();
    let mut lines = Vec::with_capacity(CONNECTIONS);
    for nth in 0..CONNECTIONS {
        ensure!(!linux::asked_to_stop(), "stopped");
        let mut line = Connection::over(open().with_context(|| format!("connection {nth}"))?);
        // At once: some close a connection that has nothing to say for seconds.
        ask(&mut line).with_context(|| format!("connection {nth}"))?;
        lines.push(line);
    }
    let after = resident();
    let open = lines.into_iter().map(Connection::into_stream).filter(|line| is_open(socket(line))).count();
    ensure!(open == CONNECTIONS, "only {open} of {CONNECTIONS} connections are still open");
    #[expect(clippy::cast_precision_loss)]
    let each = after.saturating_sub(before) as f64 / CONNECTIONS as f64 / 1024.0;
    Ok(Idle { before_bytes: before, each })
}

/// Nothing comes, the end neither.
fn is_open(mut socket: &TcpStream) -> bool {
    let quiet = socket.set_nonblocking(true).is_ok();
    quiet && matches!(socket.read(&mut [0]), Err(why) if why.kind() == ErrorKind::WouldBlock)
}
