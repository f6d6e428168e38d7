//! Where the access log goes: standard output, or a file that is rotated by size. The writer thread alone calls this.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tidegate_policy::AccessLog;

#[derive(Debug)]
pub(crate) enum Sink {
    Nowhere,
    Stdout,
    File(Rotating),
}

/// `access.log`, `access.log.1`, `access.log.2`, … the oldest last.
#[derive(Debug)]
pub(crate) struct Rotating {
    path: PathBuf,
    file: File,
    size: u64,
    rotate: Option<u64>,
    keep: u32,
}

impl Sink {
    pub(crate) fn open(settings: Option<&AccessLog>) -> io::Result<Self> {
        let Some(settings) = settings else { return Ok(Self::Nowhere) };
        let Some(path) = &settings.file else { return Ok(Self::Stdout) };
        let (file, size) = open(path)?;
        Ok(Self::File(Rotating { path: path.clone(), file, size, rotate: settings.rotate_bytes, keep: settings.keep }))
    }

    /// Whole lines.
    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Stdout => io::stdout().lock().write_all(lines),
            Self::File(file) => file.write(lines),
        }
    }

    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.reopen(),
            Self::Nowhere | Self::Stdout => Ok(()),
        }
    }
}

impl Rotating {
    fn write(&mut self, mut lines: &[u8]) -> io::Result<()> {
        while !lines.is_empty() {
            let now = self.fitting(lines);
            if now == 0 {
                self.turn()?;
                continue;
            }
            self.file.write_all(&lines[..now])?;
            self.size += now as u64;
            lines = &lines[now..];
        }
        Ok(())
    }

    /// How many bytes, in whole lines, go into the current file. 0: none, it must be rotated first.
    fn fitting(&self, lines: &[u8]) -> usize {
        let Some(limit) = self.rotate else { return lines.len() };
        let room = usize::try_from(limit.saturating_sub(self.size)).unwrap_or(usize::MAX);
        if lines.len() <= room {
            return lines.len();
        }
        match lines[..room].iter().rposition(|b| *b == b'\n') {
            Some(end) => end + 1,
            // A line longer than a whole file still goes somewhere.
            None if self.size == 0 => lines.iter().position(|b| *b == b'\n').map_or(lines.len(), |end| end + 1),
            None => 0,
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        let numbered = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..self.keep).rev() {
            ignore_missing(fs::rename(numbered(n), numbered(n + 1)))?;
        }
        if self.keep == 0 {
            ignore_missing(fs::remove_file(&self.path))?;
        } else {
            ignore_missing(fs::rename(&self.path, numbered(1)))?;
        }
        self.reopen()?;
        if self.size > 0 {
            // Somebody put another file there meanwhile: write on, rather than turn for ever.
            self.size = 0;
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.size) = open(&self.path)?;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
