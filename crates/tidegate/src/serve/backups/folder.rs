//! Backups in a folder: written aside, fsynced, renamed; nobody else may read them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// What a backup's name ends with while it is written.
const ASIDE: &str = ".tmp";
const ABANDONED: Duration = Duration::from_secs(3_600);

pub(super) async fn list(folder: &Path) -> Result<Vec<String>, String> {
    off_the_runtime(folder, |folder| {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    })
    .await
}

pub(super) async fn put(folder: &Path, name: &str, file: Vec<u8>) -> Result<(), String> {
    let name = name.to_owned();
    off_the_runtime(folder, move |folder| {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // Of one that was interrupted there may be a rest. Another cluster may write here at the same time, and whoever led before.
        forget_rests(folder);
        let aside = folder.join(format!("{name}-{}{ASIDE}", std::process::id()));
        let written = write(&aside, &file).and_then(|()| fs::rename(&aside, folder.join(&name)));
        if written.is_err() {
            _ = fs::remove_file(&aside); // On a full disk it would take what room there is.
        }
        written?;
        File::open(folder)?.sync_all()
    })
    .await
}

fn write(aside: &Path, file: &[u8]) -> io::Result<()> {
    let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(aside)?;
    to.write_all(file)?;
    to.sync_all()
}

/// Files of this kind that nobody has written to for so long that nobody does any more.
fn forget_rests(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = name.starts_with("tidegate-") && name.ends_with(ASIDE);
        let written = entry.metadata().and_then(|file| file.modified()).ok();
        let is_old = written.and_then(|at| at.elapsed().ok()).is_some_and(|age| ABANDONED <= age);
        if is_ours && is_old {
            _ = fs::remove_file(entry.path()); // What cannot be removed is removed the next time.
        }
    }
}

pub(super) async fn remove(folder: &Path, name: &str) -> Result<(), String> {
    let name = name.to_owned();
    off_the_runtime(folder, move |folder| match fs::remove_file(folder.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
    .await
}

async fn off_the_runtime<T: Send + 'static>(
    folder: &Path,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let folder = folder.to_owned();
    let done = tokio::task::spawn_blocking(move || {
        work(&folder).map_err(|error| format!("folder {}: {error}", folder.display()))
    });
    done.await.map_err(|error| error.to_string())?
}
