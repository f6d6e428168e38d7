//! Putting what was written aside in place of what a data folder held. Power may fail at any moment: until the folder aside has
//! its final name nothing has happened, and from then on whoever opens the data folder next goes on where it ended.
//!
//! ```text
//! installing.tmp/   being written                                    nothing has happened
//! installing/       control/ quota/ tls/ [admin.token] node.json     has happened, and is being put in place:
//!   aside             the name of a folder in backups/ that takes what was there before
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::folder::make;
use crate::store::sync_folder;

pub(super) const BEING_WRITTEN: &str = "installing.tmp";
const WHOLE: &str = "installing";
const ASIDE: &str = "aside";
/// `node.json` is last: without it a folder is none.
const PARTS: [&str; 5] = ["control", "quota", "tls", "admin.token", "node.json"];

/// A new folder to write to, next to what is there.
pub(super) fn begin(data: &Path) -> Result<PathBuf, Error> {
    let folder = data.join(BEING_WRITTEN);
    let made = forget(&folder).and_then(|()| make(&folder));
    made.map_err(Error::io(format!("folder {}", folder.display())))?;
    Ok(folder)
}

/// What [`begin`] gave, or an attempt before it that was killed, will not be: the room, and the secrets in it, are given back.
pub(crate) fn abandon(data: &Path) -> Result<(), Error> {
    let folder = data.join(BEING_WRITTEN);
    forget(&folder).map_err(Error::io(format!("folder {}", folder.display())))
}

/// An attempt was killed before what it wrote was whole.
pub(crate) fn is_unfinished(data: &Path) -> bool {
    data.join(BEING_WRITTEN).exists()
}

/// What [`begin`] gave is whole: from here on it counts. What was there goes to `backups/<aside>`.
pub(super) fn commit(data: &Path, aside: &str) -> Result<(), Error> {
    let (from, to) = (data.join(BEING_WRITTEN), data.join(WHOLE));
    let committed = || -> io::Result<()> {
        fs::write(from.join(ASIDE), aside)?;
        fs::File::open(from.join(ASIDE))?.sync_all()?;
        sync_folder(&from)?;
        fs::rename(&from, &to)?;
        sync_folder(data)
    };
    committed().map_err(Error::io(format!("folder {}", to.display())))?;
    finish(data)
}

/// Goes on with what was committed; does nothing where nothing was.
pub(crate) fn finish(data: &Path) -> Result<(), Error> {
    let whole = data.join(WHOLE);
    if !whole.exists() {
        return Ok(());
    }
    put_in_place(data, &whole).map_err(Error::io(format!("putting {} in place", whole.display())))
}

fn put_in_place(data: &Path, whole: &Path) -> io::Result<()> {
    let aside = fs::read_to_string(whole.join(ASIDE))?;
    let aside = data.join("backups").join(aside.trim());
    for part in PARTS {
        let (new, place) = (whole.join(part), data.join(part));
        if !new.exists() {
            continue;
        }
        let was_empty = place.is_dir() && fs::remove_dir(&place).is_ok();
        if place.exists() && !was_empty {
            make(&aside)?;
            forget(&aside.join(part))?;
            fs::rename(&place, aside.join(part))?;
            sync_folder(&aside)?;
        }
        fs::rename(&new, &place)?;
        sync_folder(data)?;
    }
    fs::remove_dir_all(whole)?;
    sync_folder(data)
}

fn forget(path: &Path) -> io::Result<()> {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing step is a failing test
mod tests {
    use super::*;

    fn write(folder: &Path, part: &str, text: &str) {
        match part.contains('.') {
            true => fs::write(folder.join(part), text).unwrap(),
            false => {
                make(&folder.join(part)).unwrap();
                fs::write(folder.join(part).join("file"), text).unwrap();
            }
        }
    }

    fn read(folder: &Path, part: &str) -> String {
        let path = folder.join(part);
        fs::read_to_string(if path.is_dir() { path.join("file") } else { path }).unwrap_or_default()
    }

    /// A data folder with old parts, and new ones that are whole.
    fn folder() -> tempfile::TempDir {
        let data = tempfile::tempdir().unwrap();
        let aside = begin(data.path()).unwrap();
        for part in ["control", "quota", "tls", "node.json"] {
            write(data.path(), part, "old");
            write(&aside, part, "new");
        }
        make(&data.path().join("backups")).unwrap();
        data
    }

    fn check(data: &Path, place: &str, aside: &str) {
        for part in ["control", "quota", "tls", "node.json"] {
            assert_eq!(read(data, part), place, "{part}");
            assert_eq!(read(&data.join("backups/before"), part), aside, "{part}");
        }
    }

    #[test]
    fn until_it_is_whole_nothing_has_happened_and_then_all_of_it_has() {
        let data = folder();
        finish(data.path()).unwrap();
        check(data.path(), "old", "");
        commit(data.path(), "before").unwrap();
        check(data.path(), "new", "old");
        assert!(!data.path().join(WHOLE).exists() && !data.path().join(BEING_WRITTEN).exists());
        finish(data.path()).unwrap();
        check(data.path(), "new", "old");
    }

    #[test]
    fn wherever_it_ends_the_next_start_goes_on() {
        // Each rename there is, as if power had failed behind it.
        for renames in 0..8 {
            let data = folder();
            let whole = data.path().join(WHOLE);
            fs::write(data.path().join(BEING_WRITTEN).join(ASIDE), "before").unwrap();
            fs::rename(data.path().join(BEING_WRITTEN), &whole).unwrap();
            let aside = data.path().join("backups/before");
            make(&aside).unwrap();
            let steps = ["control", "quota", "tls", "node.json"].into_iter().flat_map(|part| {
                [(data.path().join(part), aside.join(part)), (whole.join(part), data.path().join(part))]
            });
            steps.take(renames).for_each(|(from, to)| fs::rename(from, to).unwrap());
            finish(data.path()).unwrap();
            check(data.path(), "new", "old");
        }
    }
}
