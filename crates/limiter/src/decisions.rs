//! The decision log's files: mapped, so that what was written is there after a SIGKILL; bounded, so that it can stay on.
//! The format and the judge are `quota::evidence`.
#![allow(unsafe_code)] // writing to a shared mapping, in `Segment`

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use memmap2::MmapRaw;
use tidegate_model::{Incarnation, NodeId};
use tidegate_quota::evidence::{RECORD_BYTES, Record, SEGMENT_RECORDS, header};

/// Older segments are deleted: 4 GiB are kept.
const MOST_SEGMENTS: u64 = 256;

#[derive(Debug)]
pub struct DecisionLog {
    folder: PathBuf,
    node: NodeId,
    incarnation: Incarnation,
    current: ArcSwap<Segment>,
    /// The number of the current segment; whoever fills it opens the next.
    number: Mutex<u64>,
    lost: AtomicU64,
}

impl DecisionLog {
    /// Opens a new log in `folder`, beside those of earlier lives.
    ///
    /// # Errors
    /// What the file system says, with the path.
    pub fn open(folder: &Path, node: NodeId, incarnation: Incarnation) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| named(folder, &error))?;
        let first = Segment::create(&path(folder, incarnation, 0), node, incarnation)?;
        Ok(Self {
            folder: folder.to_owned(),
            node,
            incarnation,
            current: ArcSwap::from_pointee(first),
            number: Mutex::new(0),
            lost: AtomicU64::new(0),
        })
    }

    /// Appends a record. If the disk is full it is counted as lost, and the judge misses it.
    pub(crate) fn write(&self, record: Record) {
        let bytes = record.encode();
        loop {
            let segment = self.current.load();
            if segment.append(&bytes) {
                return;
            }
            if let Err(error) = self.next(&segment) {
                if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::error!(%error, "the decision log cannot grow; permits are no longer recorded");
                }
                return;
            }
        }
    }

    /// Records that found no room on the disk.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn next(&self, full: &Segment) -> io::Result<()> {
        let mut number = self.number.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !std::ptr::eq(&raw const **self.current.load(), full) {
            return Ok(()); // Somebody else has opened it.
        }
        let next = Segment::create(&path(&self.folder, self.incarnation, *number + 1), self.node, self.incarnation)?;
        *number += 1;
        self.current.store(next.into());
        if let Some(oldest) = number.checked_sub(MOST_SEGMENTS) {
            let _already_gone = std::fs::remove_file(path(&self.folder, self.incarnation, oldest));
        }
        Ok(())
    }
}

fn path(folder: &Path, incarnation: Incarnation, number: u64) -> PathBuf {
    folder.join(format!("{incarnation}-{number:06}.log"))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("decision log {}: {error}", path.display()))
}

#[derive(Debug)]
struct Segment {
    map: MmapRaw,
    next: AtomicUsize,
}

impl Segment {
    fn create(path: &Path, node: NodeId, incarnation: Incarnation) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| named(path, &error))?;
        let bytes = (SEGMENT_RECORDS + 1) * RECORD_BYTES;
        // Blocks are reserved now: a mapped write to a full disk would be a SIGBUS later.
        reserve(&file, bytes as u64).map_err(|error| named(path, &error))?;
        let map = MmapRaw::map_raw(&file).map_err(|error| named(path, &error))?;
        let segment = Self { map, next: AtomicUsize::new(0) };
        segment.put(0, &header(node, incarnation));
        Ok(segment)
    }

    /// `false`: full.
    fn append(&self, bytes: &[u8; RECORD_BYTES]) -> bool {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        if at >= SEGMENT_RECORDS {
            return false;
        }
        self.put(at + 1, bytes);
        true
    }

    fn put(&self, record: usize, bytes: &[u8; RECORD_BYTES]) {
        let offset = record * RECORD_BYTES;
        debug_assert!(offset + RECORD_BYTES <= self.map.len(), "a record lies within its segment");
        // SAFETY: the range lies within the mapping (`append` bounds `record`, the header is record 0) and `fetch_add`
        // gives each index to one caller only, so nobody else writes it; nobody in this process reads it.
        unsafe {
            let target = self.map.as_mut_ptr().add(offset);
            std::ptr::copy_nonoverlapping(bytes[8..].as_ptr(), target.add(8), RECORD_BYTES - 8);
            std::sync::atomic::fence(Ordering::Release); // The check comes last: it says the rest is there.
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, 8);
        }
    }
}

fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let bytes = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the whole call.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}
