//! What this process may have spent of budgets, on its disk: so that its death costs a budget nothing, and a power failure
//! next to nothing (docs/quota.md, "Budgets").
//!
//! One file for each process, mapped: what is written is there after a SIGKILL. Of each lease it holds
//! - a *mark*: no more than this was ever at hand. On the disk before it is (`Holding::next_mark`);
//! - what was taken and not put back, to the permit: not forced to the disk, so good as long as the machine runs on.
//!
//! Asked by the tick (marks) and by requests (what they take). [`dead`] reads the files of former processes. Knows nothing of
//! the log: `tidegate` tells it.
#![allow(unsafe_code)] // the mapping is seen as atomic words, in `Segment::words`

pub mod dead;
mod layout;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use memmap2::{MmapOptions, MmapRaw};
use tidegate_model::{Incarnation, NodeId, Permits};
use tidegate_quota::protocol::Key;
use tokio::sync::watch;

use self::layout::{ENTRY_WORDS, Header, MOST_SEGMENTS, SEGMENT_BYTES, SEGMENT_ENTRIES, word};

/// Where an entry is; 0: nowhere.
pub(crate) type Place = u32;

#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    node: NodeId,
    incarnation: Incarnation,
    segments: [OnceLock<Segment>; MOST_SEGMENTS],
    rooms: Mutex<Rooms>,
    /// The file is there.
    begun: watch::Sender<bool>,
    /// Not all leases are in it: also if that was so before there was a file to say it.
    partial: AtomicBool,
    /// The file cannot be relied on, and is gone.
    broken: AtomicBool,
}

#[derive(Debug, Default)]
struct Rooms {
    file: Option<File>,
    vacated: Vec<Place>,
    /// Places from here on were never used.
    fresh: Place,
}

impl Journal {
    /// A journal that will be in `folder`. Nothing is written before there is something to say.
    #[must_use]
    pub fn new(folder: &Path, node: NodeId, incarnation: Incarnation) -> Self {
        let segments = [const { OnceLock::new() }; MOST_SEGMENTS];
        let (rooms, begun) = (Mutex::default(), watch::Sender::new(false));
        let (partial, broken) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { folder: folder.to_owned(), node, incarnation, segments, rooms, begun, partial, broken }
    }

    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Returns when something was written for the first time: from then on the log had better know that this process
    /// journals.
    pub async fn begun(&self) {
        let mut begun = self.begun.subscribe();
        let _it_has = begun.wait_for(|begun| *begun).await.is_ok();
    }

    /// A place for a lease that nothing was at hand of yet. `Err`: there is none, and the journal says so itself.
    pub(crate) fn open(&self, key: Key, epoch: u64) -> io::Result<Place> {
        let mut rooms = self.rooms();
        if self.is_broken() {
            return Err(io::Error::other("it was given up"));
        }
        let place = match rooms.vacated.last() {
            Some(place) => *place,
            None => rooms.fresh.max(1),
        };
        if let Err(error) = self.make_room(&mut rooms, place) {
            self.give_up_the_rest();
            return Err(error);
        }
        if rooms.vacated.pop().is_none() {
            rooms.fresh = place + 1;
        }
        let Some(words) = self.words(place) else { return Err(io::Error::other("no such segment")) };
        layout::begin(words, place, key, epoch);
        drop(rooms);
        self.begun.send_if_modified(|begun| !std::mem::replace(begun, true));
        Ok(place)
    }

    /// Nothing is owed of this lease any more, and the ledger knows.
    pub(crate) fn close(&self, place: Place) {
        if let Some(words) = self.lease(place) {
            words[word::CHECK].store(0, Ordering::Release);
            self.rooms().vacated.push(place);
        }
    }

    /// At most so much is ever at hand of the lease, once [`Journal::sync`] has returned.
    pub(crate) fn mark(&self, place: Place, mark: Permits) {
        if let Some(words) = self.lease(place) {
            layout::mark(words, place, mark);
        }
    }

    /// Before it is used.
    #[inline]
    pub(crate) fn take(&self, place: Place, permits: Permits) {
        if let Some(words) = self.lease(place) {
            words[word::TAKEN].fetch_add(permits.0, Ordering::Relaxed);
            words[word::UNTAKEN].fetch_sub(permits.0, Ordering::Release);
        }
    }

    /// After it was put back, under the key's lock: so it is the same lease.
    pub(crate) fn give(&self, place: Place, permits: Permits) {
        if let Some(words) = self.lease(place) {
            words[word::UNTAKEN].fetch_add(permits.0, Ordering::Relaxed);
            words[word::TAKEN].fetch_sub(permits.0, Ordering::Release);
        }
    }

    /// Returns when all that was marked before is on the disk.
    ///
    /// # Errors
    /// It is not. The file was given up then: whoever looks for it finds none, and the log hears of no closing.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.is_broken() {
            return Ok(()); // Nobody will read it, so all that is lost counts as spent.
        }
        let file = match &self.rooms().file {
            Some(file) => file.try_clone()?,
            None => return Ok(()),
        };
        file.sync_data().inspect_err(|error| {
            self.broken.store(true, Ordering::Release);
            let path = self.path();
            tracing::error!(%error, path = %path.display(), "the journal of budgets cannot be written; it is given up");
            self.give_up_the_rest();
            let _gone = std::fs::remove_file(path);
        })
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Not all leases are in it: whoever reads it takes those that are not for spent.
    fn give_up_the_rest(&self) {
        self.partial.store(true, Ordering::Release);
        if let Some(words) = self.words(0) {
            words[word::PARTIAL].store(1, Ordering::Release);
        }
    }

    fn make_room(&self, rooms: &mut Rooms, place: Place) -> io::Result<()> {
        let number = place as usize / SEGMENT_ENTRIES;
        let segment = self.segments.get(number).ok_or_else(|| io::Error::other("it is full"))?;
        if segment.get().is_some() {
            return Ok(());
        }
        if rooms.file.is_none() {
            rooms.file = Some(self.create()?);
        }
        let file = rooms.file.as_ref().expect("just made");
        let made = Segment::map(file, number)?;
        if number == 0 {
            Header { node: self.node, incarnation: self.incarnation, boot: layout::boot() }.write(made.words(0));
        }
        let _first = segment.set(made);
        let header = self.words(0).ok_or_else(|| io::Error::other("no header"))?;
        if self.partial.load(Ordering::Acquire) {
            header[word::PARTIAL].store(1, Ordering::Release);
        }
        header[word::SEGMENTS].store(layout::count_of_segments(number + 1), Ordering::Release);
        file.sync_data()
    }

    fn create(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path())?;
        // As long as this process lives: whoever takes the node over while it still serves streams is not to settle it.
        file.try_lock()?;
        File::open(&self.folder)?.sync_all()?; // A file whose name is lost in a power failure closes nothing: no harm, but a pity.
        Ok(file)
    }

    /// Nothing is taken by it any more, though this process lives: whoever looks for those of dead ones may settle it.
    pub fn forsake(&self) {
        if let Some(file) = &self.rooms().file {
            let _nobody_held_it = file.unlock();
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.{}", self.incarnation, layout::EXTENSION))
    }

    #[inline]
    fn words(&self, place: Place) -> Option<&[AtomicU64; ENTRY_WORDS]> {
        let segment = self.segments.get(place as usize / SEGMENT_ENTRIES)?.get()?;
        Some(segment.words(place as usize % SEGMENT_ENTRIES))
    }

    #[inline]
    fn lease(&self, place: Place) -> Option<&[AtomicU64; ENTRY_WORDS]> {
        if place == 0 { None } else { self.words(place) }
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Segment(MmapRaw);

impl Segment {
    /// Blocks are written now: a mapped write to a full disk would be a SIGBUS later.
    fn map(file: &File, number: usize) -> io::Result<Self> {
        let offset = (number * SEGMENT_BYTES) as u64;
        file.write_all_at(&vec![0; SEGMENT_BYTES], offset)?;
        Ok(Self(MmapOptions::new().offset(offset).len(SEGMENT_BYTES).map_raw(file)?))
    }

    #[inline]
    fn words(&self, at: usize) -> &[AtomicU64; ENTRY_WORDS] {
        debug_assert!(at < SEGMENT_ENTRIES && self.0.len() == SEGMENT_BYTES, "an entry lies within its segment");
        // SAFETY: the mapping is SEGMENT_BYTES long, begins at a page and lives as long as `self`; `at` is below
        // SEGMENT_ENTRIES (a remainder, or 0). It is shared and written by nobody but this process, in atomic words.
        unsafe { &*self.0.as_mut_ptr().cast::<[AtomicU64; ENTRY_WORDS]>().add(at) }
    }
}
