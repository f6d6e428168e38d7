//! For how long this node has not heard of revocations. A node without its node lease is cut off, and one that has it again may not
//! have in effect yet what it missed: keys may be revoked without it knowing, so after `max_staleness` it refuses them all (503
//! `keys_stale`) until it knows again.
//!
//! A restart must not begin the span anew, or a node that is cut off and restarted again and again would accept a
//! revoked key for ever: while it is live the node touches a file, and a new process counts from that file's time.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tidegate_cluster::Cluster;
use tidegate_model::Nanos;
use tidegate_proxy::Gate;

const LOOK: Duration = Duration::from_millis(500);
/// How often the file is touched; a restart counts at most this much too long, never too short.
const TOUCH: Nanos = Nanos(5_000_000_000);

pub(super) struct Staleness {
    cluster: Cluster,
    gate: Arc<Gate>,
    most: Duration,
    mark: PathBuf,
    seen: Mutex<Seen>,
}

struct Seen {
    /// Boot clock: last seen live, or the start of this process.
    live: Nanos,
    /// What the process before this one leaves behind; nothing, once this one was live.
    inherited: Duration,
    touched: Option<Nanos>,
}

impl Staleness {
    pub(super) fn new(cluster: Cluster, gate: Arc<Gate>, most: Duration, data: &Path) -> Arc<Self> {
        let mark = data.join("live");
        let inherited = before(&mark, SystemTime::now());
        let seen = Mutex::new(Seen { live: tidegate_clock::boot(), inherited, touched: None });
        let it = Arc::new(Self { cluster, gate, most, mark, seen });
        it.look();
        it
    }

    /// How long ago this node knew of all revocations; nothing while it does.
    pub(super) fn now(&self) -> Duration {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = tidegate_clock::boot().saturating_sub(seen.live);
        if self.cluster.is_current() {
            Duration::ZERO
        } else {
            seen.inherited.saturating_add(Duration::from_nanos(silent.0))
        }
    }

    /// Judges now; a node that has just become ready does not wait for the next look.
    pub(super) fn look(&self) {
        if self.cluster.is_current() {
            let now = tidegate_clock::boot();
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            (seen.live, seen.inherited) = (now, Duration::ZERO);
            if seen.touched.is_none_or(|at| now.saturating_sub(at) >= TOUCH) {
                seen.touched = Some(now);
                self.touch();
            }
        }
        self.gate.keys_stale.store(self.now() > self.most, Ordering::Relaxed);
    }

    /// No fsync: a time that is lost with the machine makes the next process stricter, not laxer.
    fn touch(&self) {
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&self.mark);
        if let Err(why) = file.and_then(|file| file.set_modified(SystemTime::now())) {
            tracing::warn!(file = %self.mark.display(), %why, "a restart without peers will refuse keys at once");
        }
    }
}

/// For as long as somebody is served.
pub(super) async fn watch(of: Weak<Staleness>) {
    while let Some(it) = of.upgrade() {
        it.look();
        drop(it);
        tokio::time::sleep(LOOK).await;
    }
}

/// How stale a process is that starts now. A node that was never live has what it was given when it joined; a file from
/// the future says that the clock went back: the worst is assumed.
fn before(mark: &Path, now: SystemTime) -> Duration {
    let Ok(touched) = mark.metadata().and_then(|file| file.modified()) else { return Duration::ZERO };
    now.duration_since(touched).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_counts_on_from_the_last_live_moment() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("live");
        let now = SystemTime::now();
        assert_eq!(before(&mark, now), Duration::ZERO, "it was never live");
        let file = File::create(&mark).unwrap();
        file.set_modified(now - Duration::from_secs(30)).unwrap();
        assert_eq!(before(&mark, now).as_secs(), 30);
        file.set_modified(now + Duration::from_secs(30)).unwrap();
        assert_eq!(before(&mark, now), Duration::MAX, "the clock went back: nobody knows");
    }
}
