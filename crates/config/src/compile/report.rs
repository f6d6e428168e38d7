//! The problems found so far.

use std::cell::RefCell;

use crate::path::Path;
use crate::problem::{Problem, Severity};
use crate::source::Locations;

/// More are not kept.
const MAX_PROBLEMS: usize = 1000;
/// From here on nobody looks for similar names: that costs names × names.
const LONG: usize = 100;

pub(crate) struct Report<'a> {
    locations: &'a Locations,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(locations: &'a Locations) -> Self {
        Self { locations, problems: RefCell::default() }
    }

    pub(crate) fn locations(&self) -> &Locations {
        self.locations
    }

    pub(crate) fn error(&self, path: &Path<'_>, reason: impl Into<String>) {
        self.add(path, Severity::Error, reason.into(), None);
    }

    pub(crate) fn hinted<'h>(&self, path: &Path<'_>, reason: impl Into<String>, hint: impl Into<Hint<'h>>) {
        self.add(path, Severity::Error, reason.into(), hint.into().0);
    }

    pub(crate) fn warning(&self, path: &Path<'_>, reason: impl Into<String>, hint: &str) {
        self.add(path, Severity::Warning, reason.into(), Some(hint.to_owned()));
    }

    fn add(&self, path: &Path<'_>, severity: Severity, reason: String, hint: Option<String>) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MAX_PROBLEMS {
            problems.push(self.locations.problem(path, severity, reason, hint));
        }
    }

    pub(crate) fn is_long(&self) -> bool {
        self.problems.borrow().len() >= LONG
    }

    pub(crate) fn finish(self) -> Result<(), Vec<Problem>> {
        let mut problems = self.problems.into_inner();
        problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// Some hint or none.
pub(crate) struct Hint<'h>(Option<String>, std::marker::PhantomData<&'h str>);

impl<'h> From<&'h str> for Hint<'h> {
    fn from(text: &'h str) -> Self {
        Self(Some(text.to_owned()), std::marker::PhantomData)
    }
}

impl From<String> for Hint<'_> {
    fn from(text: String) -> Self {
        Self(Some(text), std::marker::PhantomData)
    }
}

impl From<Option<String>> for Hint<'_> {
    fn from(text: Option<String>) -> Self {
        Self(text, std::marker::PhantomData)
    }
}
