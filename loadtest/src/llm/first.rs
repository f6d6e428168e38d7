//! How long a caller waits for the first bytes of a stream: asked for at a constant rate, counted from when it was due.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::script::END;
use crate::histogram::Histogram;
use crate::linux;
use crate::matrix::measure::last_cpu;

const CONNECTIONS: u64 = 24;
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Waited {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

/// `rate`: streams a second.
pub(super) fn measure(to: SocketAddr, request: &[u8], rate: u32, time: Duration) -> Result<Waited> {
    let (waited, next, began) = (Arc::new(Histogram::default()), Arc::new(AtomicU64::new(0)), Instant::now());
    let count = u64::from(rate) * time.as_secs();
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (waited, next, request) = (Arc::clone(&waited), Arc::clone(&next), request.to_vec());
            thread::spawn(move || -> Result<()> {
                linux::pin_this_thread(&[last_cpu()])?;
                linux::sleep_exactly_in_this_thread();
                let mut socket = open(to)?;
                stream(&mut socket, &request)?; // the connection behind it is there
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= count || linux::asked_to_stop() {
                        return Ok(());
                    }
                    let due = began + Duration::from_millis(300) + Duration::from_secs(1) * nth.try_into()? / rate;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    waited.record(stream(&mut socket, &request)?.saturating_duration_since(due));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??;
    }
    Ok(Waited { p50: waited.quantile(0.5), p99: waited.quantile(0.99) })
}

fn open(to: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(to)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// When its first event had come; the rest is read too.
fn stream(socket: &mut TcpStream, request: &[u8]) -> Result<Instant> {
    socket.write_all(request)?;
    let (mut all, mut some, mut first) = (Vec::new(), [0; 16 << 10], None);
    while !all.ends_with(END) {
        let n = socket.read(&mut some)?;
        ensure!(n > 0, "the stream broke off: {}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&some[..n]);
        if first.is_none() && all.windows(6).any(|part| part == b"data: ") {
            first = Some(Instant::now());
            ensure!(all.starts_with(b"HTTP/1.1 200"), "it was refused: {}", String::from_utf8_lossy(&all));
        }
        ensure!(first.is_some() || !all.starts_with(b"HTTP/1.1 4"), "refused: {}", String::from_utf8_lossy(&all));
    }
    first.context("a stream without an event")
}
