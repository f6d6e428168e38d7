//! What a rival admitted, in the format of Tidegate's decision log, written twenty times a second.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tidegate_clock as clock;
use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits};
use tidegate_quota::evidence::{Record, header, short_name};

use super::super::plan::Rule;

const EVERY: Duration = Duration::from_millis(50);

pub(super) struct Stamps {
    pending: Arc<Mutex<Vec<u8>>>,
    written: AtomicU64,
}

impl Stamps {
    /// Begins the file with what the limits are.
    pub(super) fn create(path: &Path, node: u64, rules: &[Rule]) -> Result<Self> {
        let mut file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        file.write_all(&header(NodeId(node), Incarnation(u128::from(node))))?;
        let at = clock::boot();
        for (id, rule) in (1..).zip(rules) {
            let (limit, window) = (LimitId(id), Nanos(u64::try_from(rule.window.as_nanos()).unwrap_or(u64::MAX)));
            file.write_all(&Record::Name { at, limit, name: short_name(&rule.name) }.encode())?;
            file.write_all(&Record::Policy { at, limit, max: Permits(rule.max), window }.encode())?;
        }
        let pending = Arc::<Mutex<Vec<u8>>>::default();
        tokio::spawn(write_out(Arc::clone(&pending), file));
        Ok(Self { pending, written: AtomicU64::new(0) })
    }

    pub(super) fn write(&self, record: Record) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&record.encode());
        self.written.fetch_add(1, Relaxed);
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }
}

async fn write_out(pending: Arc<Mutex<Vec<u8>>>, mut file: File) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let bytes = std::mem::take(&mut *pending.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(why) = file.write_all(&bytes) {
            eprintln!("stamps are lost: {why}");
            return;
        }
    }
}
