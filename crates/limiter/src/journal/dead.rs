//! Journals of former processes of this node. Those whose lock is free are dead. Others have handed the data folder over
//! and still serve what was open.

use std::fs::{File, TryLockError};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use tidegate_model::{Incarnation, NodeId};
use tidegate_quota::protocol::{Closed, Closing, Key, Rest};

use super::layout::{self, ENTRY_WORDS, EXTENSION, Entry, Header, SEGMENT_BYTES, word};

/// Leases in one entry of the log.
const MOST_LEASES: usize = 2_000;

/// What a dead process has left.
#[derive(Debug)]
pub struct Dead {
    pub path: PathBuf,
    pub incarnation: Incarnation,
    leases: Vec<Closed>,
    /// What is wrong with it, for people. Whatever that may hide counts as spent.
    pub damage: Vec<String>,
    /// There may be leases that it does not name.
    hides: bool,
    /// The machine has run on since: what was taken is known to the permit.
    pub is_exact: bool,
}

impl Dead {
    /// All journals of a folder but `own`, and how many are of processes that live. What is no journal is left alone.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn read_all(folder: &Path, own: Option<Incarnation>) -> io::Result<(Vec<Self>, usize)> {
        let files = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
            files => files?,
        };
        let (mut dead, mut alive) = (Vec::new(), 0);
        for file in files {
            let path = file?.path();
            let is_journal = path.extension().is_some_and(|extension| extension == EXTENSION);
            let name = path.file_stem().and_then(|name| u128::from_str_radix(name.to_str()?, 16).ok());
            if let (true, Some(name)) = (is_journal, name.filter(|name| own != Some(Incarnation(*name)))) {
                match Self::read(path, Incarnation(name))? {
                    Some(one) => dead.push(one),
                    None => alive += 1,
                }
            }
        }
        Ok((dead, alive))
    }

    /// `None`: its process lives.
    fn read(path: PathBuf, incarnation: Incarnation) -> io::Result<Option<Self>> {
        let mut file = File::open(&path)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            locked => locked?,
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let mut dead =
            Self { path, incarnation, leases: Vec::new(), damage: Vec::new(), hides: false, is_exact: false };
        let entries = words.as_chunks::<ENTRY_WORDS>().0;
        let header = entries.first().and_then(Header::read);
        let Some(header) = header.filter(|header| header.incarnation == incarnation) else {
            dead.hide("its header is damaged".into());
            return Ok(Some(dead));
        };
        dead.is_exact = header.boot == layout::boot() && header.boot != 0;
        if entries[0][word::PARTIAL] != 0 {
            dead.hide("it had no room for all leases".into());
        }
        match layout::segments_of(entries[0][word::SEGMENTS]) {
            Some(segments) if segments * SEGMENT_BYTES <= bytes.len() => {}
            _ => dead.hide(format!("{} bytes are not all that there were", bytes.len())),
        }
        for (place, words) in entries.iter().enumerate().skip(1) {
            dead.read_entry(place, words);
        }
        Ok(Some(dead))
    }

    fn read_entry(&mut self, place: usize, words: &[u64; ENTRY_WORDS]) {
        let number = u32::try_from(place).unwrap_or(u32::MAX);
        match Entry::read(words, number) {
            Ok(None) => {}
            Ok(Some(Entry { key, epoch, mark, taken })) => {
                let spent = if self.is_exact { taken.or(mark) } else { mark };
                if self.is_exact && taken.is_none() || spent.is_none() {
                    let counts = if spent.is_some() { "all that was at hand" } else { "all of it" };
                    let Key { limit, subject } = key;
                    self.damage.push(format!(
                        "entry {place} does not say what was spent of subject {:032x} of limit {limit}: {counts} counts as spent",
                        subject.0
                    ));
                }
                self.leases.push(Closed { key, epoch, spent });
            }
            Err(()) => self.hide(format!("entry {place} is damaged")),
        }
    }

    fn hide(&mut self, damage: String) {
        self.hides = true;
        self.damage.push(damage);
    }

    /// What the log is to be told, in this order.
    #[must_use]
    pub fn closings(&self, node: NodeId) -> Vec<Closing> {
        let incarnation = self.incarnation;
        let part = |leases: &[Closed], rest| Closing { node, incarnation, leases: leases.to_vec(), rest };
        let mut closings: Vec<_> = self.leases.chunks(MOST_LEASES).map(|leases| part(leases, None)).collect();
        closings.push(part(&[], Some(if self.hides { Rest::Spent } else { Rest::Unspent })));
        closings
    }

    /// Leases that it names.
    #[must_use]
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    /// The log has it.
    ///
    /// # Errors
    /// The file stays, and will be told again, which changes nothing.
    pub fn bury(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// The bytes of a journal as another run of the machine would find them: for tests, which cannot cut the power.
#[doc(hidden)]
#[must_use]
pub fn as_of_another_boot(bytes: &[u8]) -> Vec<u8> {
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let Some(header) = words.as_chunks::<ENTRY_WORDS>().0.first().and_then(Header::read) else { return bytes.to_vec() };
    let written = layout::written(&Header { boot: header.boot ^ 1, ..header });
    let mut other = bytes.to_vec();
    other[..written.len()].copy_from_slice(&written);
    other
}
