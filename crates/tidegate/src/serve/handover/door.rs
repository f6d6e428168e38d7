//! Where a process that is to take over finds this one: a socket in the data folder, for the same user alone.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::link::{Answers, Frames, Message};
use super::{Hello, Offer, PATIENCE, PROTOCOL, Sockets, path, read_word, write_word};

/// To end, once it is told that it took too long.
const TO_END: Duration = Duration::from_secs(5);
const ONCE_MORE: Duration = Duration::from_millis(200);
/// Between the offer and the wish to have the folder.
const TO_DECIDE: Duration = Duration::from_secs(30);

/// What the node offers, and why it cannot hand over now, if so.
pub(in super::super) struct Terms {
    pub(in super::super) feature_level: u32,
    pub(in super::super) not_now: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

pub(in super::super) struct Door {
    path: PathBuf,
    accepting: JoinHandle<()>,
    claims: mpsc::Receiver<Successor>,
}

/// Wants the data folder.
pub(in super::super) struct Successor {
    frames: Frames,
    pub(in super::super) pid: u32,
    pub(in super::super) release: String,
}

impl Door {
    /// The folder is locked by us: a socket that is there is nobody's.
    pub(in super::super) fn open(data: &Path, sockets: &Arc<Sockets>, terms: Terms) -> io::Result<Self> {
        let path = path(data);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let (send, claims) = mpsc::channel(1);
        let accepting = tokio::spawn(accept(listener, Arc::downgrade(sockets), Arc::new(terms), send));
        Ok(Self { path, accepting, claims })
    }

    /// Returns when somebody wants the folder, once.
    pub(in super::super) async fn claimed(&mut self) -> Successor {
        match self.claims.recv().await {
            Some(successor) => successor,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accepting.abort();
        let _gone = fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, sockets: Weak<Sockets>, terms: Arc<Terms>, claims: mpsc::Sender<Successor>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a process that is to take over cannot be let in");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        match greet(stream, &sockets, &terms).await {
            Ok(successor) => {
                let _stopping = claims.send(successor).await;
                return;
            }
            Err(why) => tracing::warn!(%why, "a process wanted to take over, and does not"),
        }
    }
}

async fn greet(stream: UnixStream, sockets: &Weak<Sockets>, terms: &Arc<Terms>) -> anyhow::Result<Successor> {
    let peer = stream.peer_cred()?;
    let own = rustix::process::geteuid().as_raw();
    if peer.uid() != own {
        anyhow::bail!("it is user {}'s, and this node is user {own}'s", peer.uid());
    }
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    let sockets = sockets.upgrade().ok_or_else(|| anyhow::anyhow!("this node is ending"))?;
    let (stream, terms) = (stream.into_std()?, Arc::clone(terms));
    let (stream, release) = tokio::task::spawn_blocking(move || offer(stream, &sockets, &terms)).await??;
    stream.set_nonblocking(true)?;
    let mut frames = Frames::new(UnixStream::from_std(stream)?);
    match tokio::time::timeout(TO_DECIDE, frames.next()).await {
        Ok(Some(Message::Take)) => Ok(Successor { frames, pid, release }),
        Ok(Some(other)) => anyhow::bail!("process {pid} said {other:?}"),
        Ok(None) => anyhow::bail!("process {pid} (release {release}) ended before it took anything"),
        Err(_) => {
            anyhow::bail!("process {pid} (release {release}) did not take what it was offered within {TO_DECIDE:?}")
        }
    }
}

fn offer(mut stream: StdStream, sockets: &Sockets, terms: &Terms) -> anyhow::Result<(StdStream, String)> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Hello { tidegate_handover, release } = read_word(&mut stream)?;
    let own = env!("CARGO_PKG_VERSION");
    let not_now = if tidegate_handover == PROTOCOL {
        (terms.not_now)()
    } else {
        Some(format!(
            "release {own} of the running process hands over by version {PROTOCOL}, release {release} takes over by version \
             {tidegate_handover}: stop the node and start it anew"
        ))
    };
    if let Some(why) = not_now {
        write_word(&mut stream, &Offer::Refused { why: why.clone() })?;
        anyhow::bail!(why);
    }
    let (pid, names, feature_level) = (std::process::id(), sockets.names(), terms.feature_level);
    write_word(&mut stream, &Offer::Sockets { release: own.into(), pid, feature_level, names })?;
    sockets.send(&stream)?;
    Ok((stream, release))
}

impl Successor {
    /// The folder is closed: waits until the other process serves, for so long. One that takes longer is told to end, and ended
    /// if it does not: as long as it is there, nobody else can open the folder.
    ///
    /// # Errors
    /// Why it does not.
    pub(in super::super) async fn succeed(mut self, within: Duration) -> Result<Answers, String> {
        let who = format!("process {} (release {})", self.pid, self.release);
        if self.frames.send(&Message::Yours).await.is_err() {
            return Err(format!("{who} ended before it was given the data folder"));
        }
        if let Ok(said) = tokio::time::timeout(within, self.frames.next()).await {
            return self.has_begun(said).map_err(|what| format!("{who} {what}"));
        }
        tracing::warn!(pid = self.pid, ?within, "the process that takes over does not serve yet: it is told to end");
        let _it_may_be_gone = self.frames.send(&Message::Back).await;
        match tokio::time::timeout(TO_END, self.frames.next()).await {
            // Its word crossed ours.
            Ok(Some(Message::Serving)) => Ok(Answers::over(self.frames)),
            Ok(_) => Err(format!("{who} did not serve within {within:?}, and ended")),
            Err(_) => {
                // Who stood still itself meanwhile looks once more before it ends somebody who serves.
                if let Ok(Some(Message::Serving)) = tokio::time::timeout(ONCE_MORE, self.frames.next()).await {
                    return Ok(Answers::over(self.frames));
                }
                self.kill();
                let _until_it_is_gone = tokio::time::timeout(TO_END, self.frames.next()).await;
                Err(format!("{who} did not serve within {within:?}, and was killed"))
            }
        }
    }

    fn has_begun(self, said: Option<Message>) -> Result<Answers, String> {
        match said {
            Some(Message::Serving) => Ok(Answers::over(self.frames)),
            Some(other) => Err(format!("said {other:?}")),
            None => Err("ended before it served: its log says why".into()),
        }
    }

    /// The kernel said whose number this is, and the connection is open still: it is nobody else's.
    fn kill(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::KILL)) {
            tracing::warn!(%error, pid = self.pid, "it cannot be ended");
        }
    }
}
