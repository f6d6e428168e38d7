//! Names of one family: well formed, unique, found again.

use std::collections::{HashMap, HashSet};

use super::Report;
use crate::decode::short;
use crate::path::Path;
use crate::problem::did_you_mean;

const LONGEST: usize = 128;

pub(super) struct Names<'d> {
    /// "limit", for texts.
    what: &'static str,
    index: HashMap<&'d str, usize>,
    /// In the text, but not readable: using one is no second problem.
    torn: HashSet<String>,
}

/// Says what is wrong with a name.
type Check = fn(&str, &Path<'_>, &Report<'_>);

impl<'d> Names<'d> {
    pub(super) fn collect(
        family: &'static str,
        what: &'static str,
        names: impl Iterator<Item = &'d str>,
        report: &Report<'_>,
    ) -> Self {
        Self::collect_as(family, what, names, check, report)
    }

    /// With names of a form of their own.
    pub(super) fn collect_as(
        family: &'static str,
        what: &'static str,
        names: impl Iterator<Item = &'d str>,
        check: Check,
        report: &Report<'_>,
    ) -> Self {
        let list = Path::Root.field(family);
        let mut index = HashMap::new();
        for (at, name) in names.enumerate() {
            let item = list.item(at);
            check(name, &item.field("name"), report);
            if let Some(first) = index.insert(name, at) {
                let place = report.locations().place(&list.item(first));
                let reason = format!("another {what} is named `{}` already: {place}", short(name));
                report.hinted(&item.field("name"), reason, "names are unique; rename one");
                index.insert(name, first);
            }
        }
        Self { what, index, torn: report.locations().torn_names(family) }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// The position of `name`, of which something else tells if there is none.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// The position of `name` in its family.
    pub(super) fn find(&self, name: &str, path: &Path<'_>, report: &Report<'_>) -> Option<usize> {
        let found = self.index.get(name).copied();
        if found.is_none() && !self.torn.contains(name) {
            let known = self.index.keys().copied();
            let hint = if report.is_long() { None } else { did_you_mean(name, known) };
            report.hinted(path, format!("no {} is named `{}`", self.what, short(name)), hint);
        }
        found
    }

    /// The positions of all of `names`.
    pub(super) fn find_all(&self, names: &[String], path: &Path<'_>, report: &Report<'_>) -> Vec<usize> {
        let mut found = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let Some(at) = self.find(name, &path.item(i), report) else { continue };
            if found.contains(&at) {
                report.error(&path.item(i), format!("`{}` is named twice here", short(name)));
            } else {
                found.push(at);
            }
        }
        found
    }
}

/// Names appear in metrics, logs, URLs and commands.
pub(super) fn check(name: &str, path: &Path<'_>, report: &Report<'_>) {
    let sane = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ':' | '+' | '/');
    if name.is_empty() || name.len() > LONGEST || !name.chars().all(sane) {
        let reason = format!("`{}` cannot be a name", short(name));
        report.hinted(path, reason, "1 to 128 letters, digits and `-_.@:+/`");
    }
}
