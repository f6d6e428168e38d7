//! The side of the new process.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::UnixStream;

use super::link::{Frames, Message};
use super::sockets::MOST;
use super::{Hello, Offer, PATIENCE, PROTOCOL, Sockets, path, read_word, write_word};

/// It gives its leaderships away, and closes its store.
const TO_LET_GO: Duration = Duration::from_secs(60);

/// The process that serves now.
pub(in super::super) struct Predecessor {
    frames: Frames,
    /// What its node says, and what is said until it will not be that node again.
    pub(in super::super) feature_level: u32,
}

/// Who serves from this folder, and its listening sockets. `None`: nobody.
///
/// # Errors
/// It does not hand over, and says why.
pub(in super::super) async fn find(data: &Path) -> anyhow::Result<Option<(Predecessor, Sockets)>> {
    let path = path(data);
    let greeted = tokio::task::spawn_blocking(move || greet(&path)).await?;
    let Some((stream, feature_level, sockets)) =
        greeted.with_context(|| format!("taking over in {}", data.display()))?
    else {
        tracing::info!(folder = %data.display(), "no process to take over from: starting as usual");
        return Ok(None);
    };
    let frames = Frames::new(UnixStream::from_std(stream)?);
    Ok(Some((Predecessor { frames, feature_level }, sockets)))
}

fn greet(path: &Path) -> anyhow::Result<Option<(StdStream, u32, Sockets)>> {
    let mut stream = match StdStream::connect(path) {
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) => {
            return Ok(None);
        }
        stream => stream?,
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write_word(&mut stream, &Hello { tidegate_handover: PROTOCOL, release: env!("CARGO_PKG_VERSION").into() })?;
    let offer = read_word(&mut stream).context("the process that serves now does not answer")?;
    let (feature_level, names) = match offer {
        Offer::Refused { why } => bail!(why),
        Offer::Sockets { names, .. } if names.len() > MOST => bail!("{} sockets are more than {MOST}", names.len()),
        Offer::Sockets { release, pid, feature_level, names } => {
            tracing::info!(pid, %release, sockets = names.len(), "taking over");
            (feature_level, names)
        }
    };
    let sockets = Sockets::receive(&stream, names).context("the listening sockets did not come")?;
    stream.set_nonblocking(true)?;
    Ok(Some((stream, feature_level, sockets)))
}

impl Predecessor {
    /// Returns when the data folder is closed, and this process's.
    ///
    /// # Errors
    /// The other one keeps it.
    pub(in super::super) async fn let_go(&mut self) -> anyhow::Result<()> {
        self.frames.send(&Message::Take).await.context("asking for the data folder")?;
        match tokio::time::timeout(TO_LET_GO, self.frames.next()).await {
            Ok(Some(Message::Yours)) => Ok(()),
            Ok(Some(other)) => bail!("the process that serves now said {other:?}"),
            // Killed: the folder is free, or its lock says whose it is.
            Ok(None) => {
                tracing::warn!("the process that served has ended without a word");
                Ok(())
            }
            Err(_) => bail!("the process that serves now did not close the data folder within {TO_LET_GO:?}"),
        }
    }

    /// Returns when the other process wants the folder back. Its death is no such wish: then there is nobody but us.
    pub(in super::super) async fn wants_it_back(&mut self) -> anyhow::Error {
        loop {
            match self.frames.next().await {
                Some(Message::Back) => break,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
        anyhow::anyhow!("this took too long: the process that served before takes the node back")
    }

    /// This process accepts now.
    pub(in super::super) async fn serving(mut self) -> Frames {
        if self.frames.send(&Message::Serving).await.is_err() {
            tracing::warn!("the process that served before has ended: what was open there is cut");
        }
        self.frames
    }
}
