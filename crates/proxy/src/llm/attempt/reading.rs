//! A provider's answer as it comes: all of it, or up to the first bytes that say something.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use tidegate_llm::meaning::Error;
use tidegate_llm::replay;
use tokio::time::{Instant, timeout_at};

use super::failed::Failed;
use crate::llm::coded::Source;
use crate::llm::stream::broken;

/// Before a stream says anything: who keeps a connection open with blank lines sends a few.
const MOST_BLANK: usize = 4 << 10;

/// `begun`: what was read of it.
pub(in crate::llm) async fn read(begun: Bytes, mut body: Source, longest: usize) -> Result<Bytes, Error> {
    if !begun.is_empty() && body.is_end_stream() {
        return Ok(begun);
    }
    let mut whole = BytesMut::from(begun);
    while let Some(data) = poll_fn(|cx| body.poll_data(cx)).await {
        let data = data.map_err(|why| broken(&why))?;
        if whole.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        if whole.len() + data.len() > longest {
            return Err(Error::bad_stream("the provider's answer is too long"));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// The first bytes of a body, up to some that say something.
pub(super) async fn opening(body: &mut Source) -> Result<Bytes, Error> {
    let mut blank = BytesMut::new();
    while let Some(data) = poll_fn(|cx| body.poll_data(cx)).await {
        let data = data.map_err(|why| broken(&why))?;
        let says = !replay::is_blank(&data);
        if says && blank.is_empty() {
            return Ok(data);
        }
        blank.extend_from_slice(&data);
        if says || blank.len() > MOST_BLANK {
            return Ok(blank.freeze());
        }
    }
    Err(Error::bad_stream("the provider's stream ended before it began"))
}

/// For somebody who is asked again elsewhere if it takes longer.
pub(super) async fn in_time<T>(
    until: Option<Instant>,
    waits: impl Future<Output = Result<T, Error>>,
) -> Result<T, Box<Failed>> {
    let came = match until {
        None => waits.await,
        Some(until) => timeout_at(until, waits).await.map_err(|_| Box::new(Failed::late()))?,
    };
    came.map_err(|error| Box::new(Failed::lost(error)))
}
