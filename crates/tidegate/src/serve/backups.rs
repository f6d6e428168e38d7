//! Scheduled backups: one node makes them, whoever leads the control group. What is there is asked of the place where they lie,
//! so that a new leader goes on where the former one ended and nothing is kept of it in the log.

mod folder;
mod s3;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_cluster::Cluster;
use tidegate_cluster::disaster::Recipient;
use tidegate_policy::{BackupPlace, Backups};
use tidegate_proxy::Gate;
use tidegate_telemetry::{Kind, Sample};

/// Between two looks whether one is due.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(15);
/// The making, and then the way to the place, each.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two nodes whose clocks are right enough.
const CLOCKS_DIFFER: u64 = 60;
const SUFFIX: &str = ".backup";

/// For metrics. Times are seconds since 1970; 0: never, or this node does not know.
#[derive(Debug, Default)]
struct Facts {
    made: AtomicU64,
    failed: AtomicU64,
    last: AtomicU64,
    overdue: AtomicU64,
}

pub(super) async fn make_forever(cluster: Cluster, gate: Arc<Gate>) {
    let facts = Arc::new(Facts::default());
    register(&gate, &facts);
    let mut before = None;
    loop {
        let wanted = gate.snapshot.load().backups.clone().filter(|_| cluster.leads_control());
        let Some(wanted) = wanted else {
            // What this node knew of it is another one's business now.
            before = None;
            facts.forget();
            tokio::time::sleep(LOOK).await;
            continue;
        };
        if before.as_ref() != Some(&wanted) {
            before = Some(Arc::clone(&wanted));
            facts.forget();
        }
        let pause = match turn(&cluster, &wanted, &facts).await {
            Ok(()) => LOOK,
            Err(why) => {
                facts.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%why, "a backup could not be made");
                PAUSE
            }
        };
        facts.overdue.store(u64::from(facts.is_overdue(&wanted)), Ordering::Relaxed);
        tokio::time::sleep(pause).await;
    }
}

/// Makes one, if one is due.
async fn turn(cluster: &Cluster, wanted: &Backups, facts: &Facts) -> Result<(), String> {
    let every = wanted.every.as_secs();
    if now() < facts.last.load(Ordering::Relaxed).saturating_add(every) {
        return Ok(());
    }
    let own = format!("tidegate-{:.8}-", cluster.id().to_string());
    let mut names = in_time(list(&wanted.to, &own)).await?;
    names.retain(|name| date(name, &own).is_some());
    names.sort_unstable();
    let newest = newest(&names, &own, now());
    facts.last.store(newest, Ordering::Relaxed);
    if now() < newest.saturating_add(every) {
        return Ok(());
    }
    let recipient = Recipient::parse(&wanted.key)?;
    let at = now();
    let file = cluster.backup(&recipient, PATIENCE).await?;
    let (name, bytes) = (format!("{own}{at:012}{SUFFIX}"), file.len());
    in_time(put(&wanted.to, &name, file)).await?;
    facts.last.store(at, Ordering::Relaxed);
    facts.made.fetch_add(1, Ordering::Relaxed);
    tracing::info!(%name, bytes, "a backup was made");
    let over = (names.len() + 1).saturating_sub(wanted.keep);
    for old in names.iter().take(over) {
        in_time(remove(&wanted.to, old)).await.map_err(|why| format!("deleting {old}: {why}"))?;
    }
    Ok(())
}

async fn list(place: &BackupPlace, own: &str) -> Result<Vec<String>, String> {
    match place {
        BackupPlace::Folder(folder) => folder::list(folder).await,
        BackupPlace::S3(store) => s3::list(store, own).await,
    }
}

async fn put(place: &BackupPlace, name: &str, file: Vec<u8>) -> Result<(), String> {
    match place {
        BackupPlace::Folder(folder) => folder::put(folder, name, file).await,
        BackupPlace::S3(store) => s3::put(store, name, file).await,
    }
}

async fn remove(place: &BackupPlace, name: &str) -> Result<(), String> {
    match place {
        BackupPlace::Folder(folder) => folder::remove(folder, name).await,
        BackupPlace::S3(store) => s3::remove(store, name).await,
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| Err(format!("not done in {PATIENCE:?}")))
}

/// When this backup of ours was made; `None`: it is none.
fn date(name: &str, own: &str) -> Option<u64> {
    name.strip_prefix(own)?.strip_suffix(SUFFIX)?.parse().ok()
}

/// When the newest was made, 0: there is none. Names are in order. One that is of a time to come was made while a clock was wrong: who
/// waited for that time would make none until then.
fn newest(names: &[String], own: &str, now: u64) -> u64 {
    names.iter().rev().filter_map(|name| date(name, own)).find(|made| *made <= now + CLOCKS_DIFFER).unwrap_or(0)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Facts {
    fn forget(&self) {
        self.last.store(0, Ordering::Relaxed);
        self.overdue.store(0, Ordering::Relaxed);
    }

    /// Twice the time between two has passed: somebody should look.
    fn is_overdue(&self, wanted: &Backups) -> bool {
        self.last.load(Ordering::Relaxed).saturating_add(2 * wanted.every.as_secs()) < now()
    }
}

fn register(gate: &Gate, facts: &Arc<Facts>) {
    type Pick = fn(&Facts) -> &AtomicU64;
    let told: [(&'static str, &'static str, Kind, Pick); 4] = [
        ("backups", "Scheduled backups that this node made", Kind::Counter, |facts| &facts.made),
        ("backup_failures", "Scheduled backups that this node could not make", Kind::Counter, |facts| &facts.failed),
        (
            "backup_last_success_seconds",
            "When the newest scheduled backup was made, in seconds since 1970; 0: this node does not make them, or there is none",
            Kind::Gauge,
            |facts| &facts.last,
        ),
        (
            "backup_overdue",
            "1 on the node that makes backups while the newest is older than twice the time between two",
            Kind::Gauge,
            |facts| &facts.overdue,
        ),
    ];
    for (name, help, kind, pick) in told {
        let facts = Arc::clone(facts);
        let read = move || vec![Sample { labels: Vec::new(), value: pick(&facts).load(Ordering::Relaxed) as f64 }];
        gate.telemetry.register(name, help, kind, read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_backups_of_this_cluster_have_a_date() {
        let own = "tidegate-0a1b2c3d-";
        assert_eq!(date("tidegate-0a1b2c3d-001767225600.backup", own), Some(1_767_225_600));
        for other in
            ["tidegate-ffffffff-001767225600.backup", "tidegate-0a1b2c3d-x.backup", "notes", "tidegate-0a1b2c3d-"]
        {
            assert_eq!(date(other, own), None, "{other}");
        }
    }

    #[test]
    fn a_backup_of_a_time_to_come_is_not_waited_for() {
        let names =
            ["tidegate-0a1b2c3d-000000001000.backup", "tidegate-0a1b2c3d-999999999999.backup"].map(String::from);
        assert_eq!(newest(&names, "tidegate-0a1b2c3d-", 2_000), 1_000);
        assert_eq!(newest(&names, "tidegate-0a1b2c3d-", 970), 1_000, "another node's clock");
        assert_eq!(newest(&names[1..], "tidegate-0a1b2c3d-", 2_000), 0);
    }

    #[test]
    fn a_backup_is_overdue_after_twice_its_time() {
        let wanted =
            Backups { every: Duration::from_secs(60), keep: 1, key: "".into(), to: BackupPlace::Folder("x".into()) };
        let facts = Facts::default();
        facts.last.store(now() - 100, Ordering::Relaxed);
        assert!(!facts.is_overdue(&wanted));
        facts.last.store(now() - 200, Ordering::Relaxed);
        assert!(facts.is_overdue(&wanted));
    }
}
