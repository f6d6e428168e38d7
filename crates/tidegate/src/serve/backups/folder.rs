//! Backups in a folder: written aside, fsynced, renamed; nobody else may read them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

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
        // Of one that was interrupted there may be a rest; whoever leads is alone here.
        let aside = folder.join("being-written.tmp");
        let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        to.write_all(&file)?;
        to.sync_all()?;
        fs::rename(&aside, folder.join(&name))?;
        File::open(folder)?.sync_all()
    })
    .await
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
