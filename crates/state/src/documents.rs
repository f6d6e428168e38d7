//! Documents: one current, a bounded history, compare-and-set on the revision.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_model::{Millis, Revision};

use crate::MAX_NAME;
use crate::command::Publish;
use crate::outcome::{Change, Outcome};

/// Largest document, in bytes.
pub const MAX_DOCUMENT: usize = 16 << 20;
/// Revisions kept at most, the current one included.
const MAX_REVISIONS: usize = 100;
/// Text kept at most over all revisions; the current one always stays.
const MAX_HISTORY: usize = 64 << 20;
/// Longest note and author.
const MAX_NOTE: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Format {
    Yaml,
    Json,
}

/// One published revision.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Published {
    pub revision: Revision,
    /// Exactly as people wrote it.
    pub document: Arc<str>,
    pub format: Format,
    pub author: String,
    pub note: String,
    pub at: Millis,
    /// The revision of the limit policies in the quota log that belongs to it.
    pub policies: Revision,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Documents {
    current: Revision,
    history: BTreeMap<Revision, Published>,
}

impl Documents {
    /// 0: nothing was published yet.
    #[must_use]
    pub fn current(&self) -> Revision {
        self.current
    }

    #[must_use]
    pub fn latest(&self) -> Option<&Published> {
        self.history.get(&self.current)
    }

    #[must_use]
    pub fn revision(&self, revision: Revision) -> Option<&Published> {
        self.history.get(&revision)
    }

    /// Kept revisions, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Published> {
        self.history.values()
    }

    pub(crate) fn publish(&mut self, publish: &Publish, at: Millis) -> (Outcome, Vec<Change>) {
        if MAX_DOCUMENT < publish.document.len() {
            return (Outcome::TooLarge { limit: MAX_DOCUMENT as u64 }, Vec::new());
        }
        if MAX_NAME < publish.author.len() || MAX_NOTE < publish.note.len() {
            return (Outcome::TooLarge { limit: MAX_NOTE as u64 }, Vec::new());
        }
        if publish.replaces.is_some_and(|expected| expected != self.current) {
            return (Outcome::Conflict { current: self.current }, Vec::new());
        }
        let revision = Revision(self.current.0.saturating_add(1));
        self.current = revision;
        self.history.insert(
            revision,
            Published {
                revision,
                document: publish.document.clone(),
                format: publish.format,
                author: publish.author.clone(),
                note: publish.note.clone(),
                at,
                policies: publish.policies,
            },
        );
        self.forget_oldest();
        (Outcome::Published { revision }, vec![Change::Document(revision)])
    }

    fn forget_oldest(&mut self) {
        let mut bytes: usize = self.history.values().map(|published| published.document.len()).sum();
        while 1 < self.history.len() && (MAX_REVISIONS < self.history.len() || MAX_HISTORY < bytes) {
            if let Some((_, oldest)) = self.history.pop_first() {
                bytes -= oldest.document.len();
            }
        }
    }
}

/// A document may hold secrets people wrote into it by mistake.
impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Published({}, {} bytes)", self.revision, self.document.len())
    }
}
