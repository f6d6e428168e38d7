//! From bytes to a [`Document`] and the lines of its parts.

use std::collections::HashSet;

use tidegate_policy::defaults::MAX_DOCUMENT_BYTES;

use crate::decode::{Misfit, Notes, address};
use crate::document::Document;
use crate::path::{Path, Step, render};
use crate::problem::{Problem, Severity};
use crate::tree::{self, Format, Mark, Node, Value};

/// One file of a folder.
#[derive(Debug, Clone, Copy)]
pub struct SourceFile<'a> {
    /// As it is shown to people.
    pub name: &'a str,
    pub bytes: &'a [u8],
}

/// Where the parts of a document stand in its text. The default knows no text, and gives paths only.
#[derive(Default)]
pub struct Locations {
    files: Vec<String>,
    root: Option<Box<Node>>,
    /// Parts of the text that did not fit and are not in the document: paths count past them.
    left_out: HashSet<usize>,
}

/// Reads one text.
///
/// # Errors
/// Everything in it that does not fit the document's types.
pub fn parse(bytes: &[u8], format: Format) -> Result<(Document, Locations), Vec<Problem>> {
    whole(partial(&[SourceFile { name: "", bytes }], format))
}

/// Reads the files of a folder as one document: lists are joined, everything else may stand in one file only.
///
/// # Errors
/// As [`parse`], with the file's name.
pub fn parse_files(files: &[SourceFile<'_>]) -> Result<(Document, Locations), Vec<Problem>> {
    whole(partial(files, Format::Auto))
}

/// What could be read, and what is wrong.
pub(crate) struct Partial {
    pub(crate) document: Document,
    pub(crate) locations: Locations,
    pub(crate) problems: Vec<Problem>,
}

fn whole(read: Result<Partial, Vec<Problem>>) -> Result<(Document, Locations), Vec<Problem>> {
    match read? {
        Partial { document, locations, problems } if problems.is_empty() => Ok((document, locations)),
        Partial { problems, .. } => Err(problems),
    }
}

pub(crate) fn partial(files: &[SourceFile<'_>], format: Format) -> Result<Partial, Vec<Problem>> {
    let names: Vec<String> = files.iter().map(|file| file.name.to_owned()).collect();
    let size: usize = files.iter().map(|file| file.bytes.len()).sum();
    if size > MAX_DOCUMENT_BYTES {
        return Err(vec![Problem {
            severity: Severity::Error,
            path: String::new(),
            file: None,
            line: None,
            column: None,
            reason: format!("the document has {size} bytes, the most is {MAX_DOCUMENT_BYTES}"),
            hint: None,
        }]);
    }
    let unreadable = |one: tree::Unreadable| {
        let file = name(&names, one.mark);
        one.problem(file)
    };
    let root = read_all(files, format).map_err(|all| all.into_iter().map(unreadable).collect::<Vec<_>>())?;
    let root = Box::new(root); // Before its address is taken.
    let notes = Notes::default();
    let document = Document::read(&root, &notes);
    let (misfits, left_out) = notes.into_parts();
    let locations = Locations { files: names, root: Some(root), left_out };
    let problems = misfits.into_iter().map(|misfit| locations.misfit(misfit)).collect();
    Ok(Partial { document, locations, problems })
}

fn read_all(files: &[SourceFile<'_>], format: Format) -> Result<Node, Vec<tree::Unreadable>> {
    let mut roots = Vec::new();
    let mut problems = Vec::new();
    for (number, file) in (0u32..).zip(files) {
        match tree::read(file.bytes, format, number) {
            Ok(root) => roots.push(root),
            Err(unreadable) => problems.push(unreadable),
        }
    }
    if problems.is_empty() { tree::merge(roots) } else { Err(problems) }
}

fn name(names: &[String], mark: Mark) -> Option<String> {
    names.get(mark.file as usize).filter(|name| !name.is_empty()).cloned()
}

impl Locations {
    /// A problem at `path` of the document (paths of the text may count differently, see `left_out`).
    pub(crate) fn problem(&self, path: &Path<'_>, severity: Severity, reason: String, hint: Option<String>) -> Problem {
        let (path, mark) = self.locate(path);
        self.at(severity, path, mark, reason, hint)
    }

    fn at(
        &self,
        severity: Severity,
        path: String,
        mark: Option<Mark>,
        reason: String,
        hint: Option<String>,
    ) -> Problem {
        Problem {
            severity,
            path,
            file: mark.and_then(|mark| name(&self.files, mark)),
            line: mark.map(|mark| mark.line),
            column: mark.map(|mark| mark.column),
            reason,
            hint,
        }
    }

    /// "line 12" or "a.yaml:12", for texts that point to a second place.
    pub(crate) fn place(&self, path: &Path<'_>) -> String {
        let (path, mark) = self.locate(path);
        match mark.map(|mark| (mark, name(&self.files, mark))) {
            Some((mark, Some(file))) => format!("{path} ({file}:{})", mark.line),
            Some((mark, None)) => format!("{path} (line {})", mark.line),
            None => path,
        }
    }

    /// The path in the text, and the mark of the deepest part of it that the text has.
    fn locate(&self, path: &Path<'_>) -> (String, Option<Mark>) {
        let mut steps = path.steps();
        let Some(root) = &self.root else { return (render(&steps), None) };
        let mut node: Option<&Node> = Some(root);
        let mut mark = root.mark;
        for step in &mut steps {
            let Some(here) = node else { break };
            node = match step {
                Step::Field(name) => match &here.value {
                    Value::Map(entries) => entries.iter().find(|(key, _)| key.text == *name).map(|(key, node)| {
                        mark = key.mark; // Of `routes:` and a list below it, the line of the key is the better one.
                        node
                    }),
                    _ => None,
                },
                Step::Item(index) => {
                    let mut kept = here.items().iter().enumerate().filter(|(_, item)| !self.is_left_out(item));
                    kept.nth(*index).map(|(at, item)| {
                        *index = at;
                        mark = item.mark;
                        item
                    })
                }
            };
        }
        (render(&steps), Some(mark))
    }

    fn is_left_out(&self, node: &Node) -> bool {
        self.left_out.contains(&address(node))
    }

    fn misfit(&self, misfit: Misfit) -> Problem {
        let Misfit { node, field, mark, reason, hint } = misfit;
        let mut steps = Vec::new();
        if let Some(root) = &self.root {
            find(root, node, &mut steps);
        }
        if let Some(field) = &field {
            steps.push(Step::Field(field));
        }
        self.at(Severity::Error, render(&steps), Some(mark), reason, hint)
    }

    /// Was some part of the object that `problem` is about left out? Then the problem may only follow from that, unless it
    /// is about a value that stands in the text, whole.
    pub(crate) fn is_torn(&self, problem: &Problem) -> bool {
        if self.stands_whole(&problem.path) {
            return false;
        }
        let (family, rest) = problem.path.split_at(problem.path.find(['[', '.']).unwrap_or(problem.path.len()));
        let Some(family) = self.root.as_ref().and_then(|root| root.field(family)) else { return false };
        let index = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')?.0.parse::<usize>().ok());
        match index.and_then(|at| family.items().get(at)) {
            Some(item) => self.has_left_out(item),
            None => self.has_left_out(family),
        }
    }

    /// Does the path lead to a value inside an object of a list, and was nothing of that value left out?
    fn stands_whole(&self, path: &str) -> bool {
        let mut node = self.root.as_deref();
        let mut depth = 0;
        for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
            let index = step.strip_suffix(']').and_then(|index| index.parse::<usize>().ok());
            node = node.and_then(|node| match index {
                Some(index) => node.items().get(index),
                None => node.field(step),
            });
            depth += 1;
        }
        // `routes[0]` is the object itself; what is wrong with it as a whole may follow from what is gone.
        depth > 2 && node.is_some_and(|node| !self.has_left_out(node))
    }

    fn has_left_out(&self, node: &Node) -> bool {
        self.is_left_out(node)
            || match &node.value {
                Value::Null | Value::Scalar { .. } => false,
                Value::List(items) => items.iter().any(|item| self.has_left_out(item)),
                Value::Map(entries) => entries.iter().any(|(_, node)| self.has_left_out(node)),
            }
    }

    /// The names of objects of `family` that are in the text but not in the document.
    pub(crate) fn torn_names(&self, family: &str) -> HashSet<String> {
        let items = self.root.as_ref().and_then(|root| root.field(family)).map(Node::items).unwrap_or_default();
        let torn = items.iter().filter(|item| self.is_left_out(item));
        torn.filter_map(|item| item.field("name").and_then(Node::text).map(str::to_owned)).collect()
    }
}

fn find<'a>(node: &'a Node, wanted: usize, steps: &mut Vec<Step<'a>>) -> bool {
    if address(node) == wanted {
        return true;
    }
    let found = |step, node, steps: &mut Vec<Step<'a>>| {
        steps.push(step);
        find(node, wanted, steps) || {
            steps.pop();
            false
        }
    };
    match &node.value {
        Value::Null | Value::Scalar { .. } => false,
        Value::List(items) => items.iter().enumerate().any(|(at, item)| found(Step::Item(at), item, steps)),
        Value::Map(entries) => entries.iter().any(|(key, node)| found(Step::Field(&key.text), node, steps)),
    }
}

/// Of the text nothing: it may be long.
impl std::fmt::Debug for Locations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locations").field("files", &self.files).finish_non_exhaustive()
    }
}
