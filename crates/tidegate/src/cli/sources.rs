//! Documents as files on this machine.

use std::io::Read;
use std::path::{Path, PathBuf};

use tidegate_admin::wire::Problem;
use tidegate_config::SourceFile;

use super::exit::Error;

/// As the contract says; the admin API refuses more.
const MAX_DOCUMENT: u64 = 16 * 1024 * 1024;

/// One file and its name as it is shown.
pub(super) struct Source {
    name: String,
    bytes: Vec<u8>,
}

/// What is sent to a node.
pub(super) struct Document {
    pub(super) text: String,
    sources: Vec<Source>,
}

impl Document {
    /// One file goes as it is, with its comments; several become one document.
    pub(super) fn load(paths: &[PathBuf]) -> Result<Self, Error> {
        let sources = read(paths)?;
        let text = match sources.as_slice() {
            [one] => String::from_utf8(one.bytes.clone())
                .map_err(|_| Error::Local(anyhow::anyhow!("{} is not UTF-8 text", one.name)))?,
            many => merged(many)?,
        };
        Ok(Self { text, sources })
    }

    /// A node's problems, with the file and line here where they are.
    pub(super) fn placed(&self, error: Error) -> Error {
        let mut problems = match &error {
            Error::Refused(body) if !body.problems.is_empty() => body.problems.clone(),
            _ => return error,
        };
        if let [one] = self.sources.as_slice() {
            problems.iter_mut().for_each(|problem| problem.file = Some(one.name.clone()));
            return Error::Problems(problems);
        }
        // The node saw one merged text: its lines mean nothing here.
        let here = check(&self.sources);
        for problem in &mut problems {
            let same = here.iter().find(|mine| mine.path == problem.path && mine.reason == problem.reason);
            problem.file = same.and_then(|mine| mine.file.clone());
            problem.line = same.and_then(|mine| mine.line);
            problem.column = same.and_then(|mine| mine.column);
        }
        Error::Problems(problems)
    }
}

pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Source>, Error> {
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            sources.push(Source { name: "stdin".to_owned(), bytes: bytes(std::io::stdin().lock(), path)? });
        } else if path.is_dir() {
            let before = sources.len();
            for file in files(path)? {
                sources.push(open(&file)?);
            }
            if sources.len() == before {
                return Err(Error::Usage(format!("{}: no .yaml, .yml or .json file in it", path.display())));
            }
        } else {
            sources.push(open(path)?);
        }
    }
    Ok(sources)
}

/// By name, not by the order the disk has them in. Hidden files are editors' and not ours.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let cannot = |error| Error::Local(anyhow::anyhow!("{}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let ours = path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if ours && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn open(path: &Path) -> Result<Source, Error> {
    let file =
        std::fs::File::open(path).map_err(|error| Error::Local(anyhow::anyhow!("{}: {error}", path.display())))?;
    Ok(Source { name: path.display().to_string(), bytes: bytes(file, path)? })
}

fn bytes(from: impl Read, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::Local(anyhow::anyhow!("{}: {error}", path.display())))?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(Error::Local(anyhow::anyhow!("{}: larger than 16 MiB", path.display())));
    }
    Ok(bytes)
}

/// Everything that is wrong with them as one document; warnings as well.
pub(super) fn check(sources: &[Source]) -> Vec<Problem> {
    tidegate_admin::check_files(&borrowed(sources))
}

fn merged(sources: &[Source]) -> Result<String, Error> {
    let document = tidegate_admin::merge_files(&borrowed(sources)).map_err(Error::Problems)?;
    tidegate_config::write(&document).map_err(|why| Error::Local(anyhow::anyhow!(why)))
}

fn borrowed(sources: &[Source]) -> Vec<SourceFile<'_>> {
    sources.iter().map(|source| SourceFile { name: &source.name, bytes: &source.bytes }).collect()
}

/// A document's text as JSON.
pub(super) fn as_json(text: &str) -> Result<String, Error> {
    let file = SourceFile { name: "", bytes: text.as_bytes() };
    let document = tidegate_admin::merge_files(&[file]).map_err(Error::Problems)?;
    serde_json::to_string_pretty(&document).map_err(|error| Error::Local(error.into()))
}
