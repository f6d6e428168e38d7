//! What an open stream costs in memory: many slow ones at once, each with one event a second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::usage::Usage;

/// Bytes that each of `count` streams adds to what is resident.
pub(super) fn measure(to: SocketAddr, request: &[u8], count: usize, groups: &[u32]) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request: Arc<[u8]> = request.into();
    runtime.block_on(async {
        let speaking = Arc::new(AtomicUsize::new(0));
        let before = Usage::of(groups).resident_bytes;
        let mut callers = tokio::task::JoinSet::new();
        for nth in 0..count {
            callers.spawn(caller(to, Arc::clone(&request), Arc::clone(&speaking)));
            if nth % 20 == 19 {
                tokio::time::sleep(Duration::from_millis(10)).await; // no burst that only queues are long of
            }
        }
        let until = Instant::now() + Duration::from_secs(60);
        while speaking.load(Ordering::Relaxed) < count {
            ensure!(Instant::now() < until, "only {} of {count} streams began", speaking.load(Ordering::Relaxed));
            if let Some(ended) = callers.try_join_next() {
                ended??;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = Usage::of(groups).resident_bytes;
        ensure!(callers.len() == count, "{} of {count} streams ended early", count - callers.len());
        #[expect(clippy::cast_precision_loss)]
        Ok(after.saturating_sub(before) as f64 / count as f64)
    })
}

/// Reads until it is dropped.
async fn caller(to: SocketAddr, request: Arc<[u8]>, speaking: Arc<AtomicUsize>) -> Result<()> {
    let mut socket = TcpStream::connect(to).await?;
    socket.write_all(&request).await?;
    let (mut some, mut head, mut spoke) = ([0; 4 << 10], Vec::new(), false);
    loop {
        let n = socket.read(&mut some).await?;
        ensure!(n > 0, "a slow stream ended: {}", String::from_utf8_lossy(&head));
        if !spoke {
            head.extend_from_slice(&some[..n]);
            if head.windows(6).any(|part| part == b"data: ") {
                (spoke, head) = (true, Vec::new());
                speaking.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
