//! The files that the served document names, and those of the admin port, watched: a certificate that was renewed on disk is shown without a word from
//! anybody. Looks at when they were changed, not into them.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tidegate_config::{Document, Need};

#[derive(Debug, Default)]
pub(super) struct Files(Mutex<Looks>);

#[derive(Debug, Default)]
struct Looks {
    /// Before they were read.
    read: Stamps,
    /// At the last look since.
    last: Stamps,
}

/// By path. `None`: it is not there.
type Stamps = BTreeMap<String, Option<Stamp>>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    bytes: u64,
    changed: Option<SystemTime>,
}

impl Files {
    /// These are about to be read.
    pub(super) fn reading(&self, document: &Document) {
        let files = tidegate_config::needs(document).into_iter().filter_map(|need| match need {
            Need::File(path) => Some(path),
            Need::Env(_) | Need::Sealed(_) => None,
        });
        self.reading_these(files);
    }

    /// The same of any files.
    pub(super) fn reading_these(&self, paths: impl Iterator<Item = String>) {
        let read: Stamps = paths.map(|path| (path.clone(), stamp(&path))).collect();
        let last = read.clone();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Looks { read, last };
    }

    /// Have some changed since they were read, and are they whole? Certificate and key are written one after the other: only
    /// what looks the same twice has settled. Touches the disk.
    pub(super) fn have_changed(&self) -> bool {
        let paths: Vec<String> = self.0.lock().unwrap_or_else(PoisonError::into_inner).read.keys().cloned().collect();
        let now: Stamps = paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect();
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = looks.last == now;
        let changed = looks.read != now;
        looks.last = now;
        settled && changed
    }
}

fn stamp(path: &str) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some(Stamp { place: (found.dev(), found.ino()), bytes: found.len(), changed: found.modified().ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_has_settled_until_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        std::fs::write(&path, "one").unwrap();
        let text = format!("version: 1\nsecrets: [{{name: a, from: 'file:{}'}}]\n", path.display());
        let (document, _) = tidegate_config::parse(text.as_bytes(), tidegate_config::Format::Yaml).unwrap();
        let files = Files::default();
        assert!(!files.have_changed(), "nothing is watched yet");
        files.reading(&document);
        assert!(!files.have_changed());
        std::fs::write(&path, "other").unwrap();
        assert!(!files.have_changed(), "maybe somebody is still writing");
        assert!(files.have_changed() && files.have_changed());
        files.reading(&document);
        assert!(!files.have_changed());
        std::fs::remove_file(&path).unwrap();
        assert!(!files.have_changed() && files.have_changed());
    }
}
