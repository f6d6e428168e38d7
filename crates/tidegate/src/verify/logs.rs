//! Finding all decision logs below some folders, and noticing what is gone: evidence that is not there proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tidegate_quota::evidence::{Evidence, FileFacts, SEGMENT_BYTES, SEGMENT_RECORDS};

/// Everything that was read.
pub(super) struct Collected {
    pub(super) evidence: Evidence,
    pub(super) files: usize,
    /// Why the verdict cannot be trusted, one reason a file; empty: it can.
    pub(super) gaps: Vec<String>,
}

/// A file of one process: `INCARNATION-000000.log`, then `…-000001.log`, and so on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    incarnation: String,
    number: u64,
    path: PathBuf,
}

/// # Errors
/// A folder or file cannot be read, holds no log, or a log stands twice.
pub(super) fn collect(dirs: &[PathBuf]) -> anyhow::Result<Collected> {
    let mut segments: BTreeSet<Segment> = BTreeSet::new();
    for dir in dirs {
        let found = segments_of(dir)?;
        if found.is_empty() {
            bail!("no decision logs in {}; nodes write them with --decision-log", dir.display());
        }
        segments.extend(found);
    }
    let mut collected = Collected { evidence: Evidence::default(), files: segments.len(), gaps: Vec::new() };
    let mut lives: BTreeMap<String, Vec<Segment>> = BTreeMap::new();
    for segment in segments {
        lives.entry(segment.incarnation.clone()).or_default().push(segment);
    }
    for (_, files) in lives {
        collected.life(&files)?;
    }
    Ok(collected)
}

impl Collected {
    /// All files of one process, in order. The oldest are deleted in a long life, so the first may have any number.
    fn life(&mut self, files: &[Segment]) -> anyhow::Result<()> {
        let first = files.first().map_or(0, |segment| segment.number);
        if first > 0 {
            self.gap(&files[0].path, "the files before it are gone: what they held was not judged");
        }
        for pair in files.windows(2) {
            if pair[1].number == pair[0].number {
                bail!("{} and {} are the same log", pair[0].path.display(), pair[1].path.display());
            }
            if pair[1].number != pair[0].number + 1 {
                self.gap(&pair[1].path, "the file before it is gone");
            }
        }
        let last = files.last().map_or(0, |segment| segment.number);
        for segment in files {
            let path = &segment.path;
            let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            let facts = self
                .evidence
                .read(&bytes)
                .map_err(|why| anyhow::anyhow!("{} is no decision log: it is {}", path.display(), why.0))?;
            self.judge(segment, facts, bytes.len(), segment.number == last);
        }
        Ok(())
    }

    fn judge(&mut self, segment: &Segment, facts: FileFacts, bytes: usize, last: bool) {
        let FileFacts { incarnation, used, damaged, .. } = facts;
        if incarnation.to_string() != segment.incarnation {
            self.gap(&segment.path, "its name and its first bytes name different processes");
        }
        if bytes != SEGMENT_BYTES {
            self.gap(&segment.path, &format!("it was cut: {bytes} bytes instead of {SEGMENT_BYTES}"));
        } else if !last && used < SEGMENT_RECORDS / 2 {
            self.gap(
                &segment.path,
                &format!("only {used} of {SEGMENT_RECORDS} records are left of a file that was full"),
            );
        }
        if damaged > 0 {
            self.gap(
                &segment.path,
                &format!("{damaged} records are blank or unreadable where no crash leaves them so"),
            );
        }
    }

    fn gap(&mut self, path: &Path, why: &str) {
        self.gaps.push(format!("{}: {why}", path.display()));
    }
}

/// Those in the folder itself, in its `decisions/`, and in the data folders right below it.
fn segments_of(dir: &Path) -> anyhow::Result<Vec<Segment>> {
    let mut folders = vec![dir.to_owned(), dir.join("decisions")];
    for entry in fs::read_dir(dir).with_context(|| format!("reading the folder {}", dir.display()))? {
        folders.push(entry?.path().join("decisions"));
    }
    let mut found = BTreeSet::new();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let entries = fs::read_dir(folder).with_context(|| format!("reading the folder {}", folder.display()))?;
        for entry in entries {
            // One log reached by two ways is one log; a copy of it is not.
            let path = fs::canonicalize(entry?.path())?;
            found.extend(segment(path));
        }
    }
    Ok(found.into_iter().collect())
}

/// `None`: a file of another kind.
fn segment(path: PathBuf) -> Option<Segment> {
    let name = path.file_name()?.to_str()?.strip_suffix(".log")?;
    let (incarnation, number) = name.rsplit_once('-')?;
    let number = (number.len() >= 6).then(|| number.parse().ok())??;
    Some(Segment { incarnation: incarnation.to_owned(), number, path })
}

#[cfg(test)]
mod tests {
    use tidegate_model::{Incarnation, NodeId};
    use tidegate_quota::evidence::header;

    use super::*;

    fn file(bytes: usize) -> Vec<u8> {
        let mut file = vec![0; bytes];
        file[..64].copy_from_slice(&header(NodeId(1), Incarnation(7)));
        file
    }

    #[test]
    fn evidence_that_is_gone_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let name = |number: u64| folder.path().join(format!("{}-{number:06}.log", Incarnation(7)));
        let gaps = || collect(&[folder.path().to_owned()]).unwrap().gaps;
        assert!(collect(&[folder.path().to_owned()]).is_err(), "no logs at all");
        fs::write(name(0), file(SEGMENT_BYTES)).unwrap();
        assert!(gaps().is_empty());
        fs::write(name(0), file(1_000)).unwrap();
        assert!(gaps()[0].contains("cut"), "{:?}", gaps());
        fs::rename(name(0), name(2)).unwrap();
        assert!(gaps()[0].contains("before it are gone"), "{:?}", gaps());
        fs::write(name(0), file(SEGMENT_BYTES)).unwrap();
        assert!(gaps().iter().any(|gap| gap.contains("the file before it is gone")), "{:?}", gaps());
        let copies = folder.path().join("decisions");
        fs::create_dir(&copies).unwrap();
        fs::copy(name(0), copies.join(name(0).file_name().unwrap())).unwrap();
        let twice = collect(&[folder.path().to_owned()]).err().expect("refused").to_string();
        assert!(twice.contains("the same log"), "{twice}");
    }
}
