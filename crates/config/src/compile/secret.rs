//! Secrets, and texts that use them: `Bearer ${secrets.partner}`.

use std::collections::HashMap;

use super::{Names, Report};
use crate::decode::short;
use crate::document::Secret;
use crate::inputs::{Inputs, Need, need};
use crate::path::Path;

/// Longer secrets are mistakes; header values are short.
const LONGEST: usize = 8 * 1024;

/// Values by position; `None` when a value is assumed or missing (which is a problem already).
pub(super) struct Secrets<'d> {
    names: Names<'d>,
    values: HashMap<usize, String>,
}

impl<'d> Secrets<'d> {
    pub(super) fn compile(list: &'d [Secret], inputs: &Inputs, report: &Report<'_>) -> Self {
        let names = Names::collect("secrets", "secret", list.iter().map(|secret| secret.name.as_str()), report);
        let at = Path::Root.field("secrets");
        let values = list.iter().enumerate().filter_map(|(i, secret)| {
            let Secret { name: _, from: _ } = secret;
            Some((i, value(secret, inputs, &at.item(i), report)?))
        });
        let values = values.collect();
        Self { names, values }
    }

    /// `text` with its secrets in place, and whether there were any.
    pub(super) fn fill(&self, text: &str, path: &Path<'_>, report: &Report<'_>) -> (String, bool) {
        let Filled { text, secret, known: _ } = self.fill_with(text, path, report, str::to_owned);
        (text, secret)
    }

    /// Each secret in the form that is needed there.
    pub(super) fn fill_with(
        &self,
        text: &str,
        path: &Path<'_>,
        report: &Report<'_>,
        form: impl Fn(&str) -> String,
    ) -> Filled {
        let mut filled = String::new();
        let (mut secret, mut known) = (false, true);
        for part in parts(text) {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Secret(name) => {
                    secret = true;
                    let value = self.names.find(name, path, report).and_then(|at| self.values.get(&at));
                    known &= value.is_some();
                    filled.push_str(&value.map(|value| form(value)).unwrap_or_default());
                }
                Part::Unknown(inner) => {
                    let reason = format!("`${{{}}}` means nothing", short(inner));
                    report.hinted(path, reason, "write `${secrets.NAME}` for a secret, `$${` for `${` itself");
                }
            }
        }
        Filled { text: filled, secret, known }
    }
}

/// A text with its secrets in place.
pub(super) struct Filled {
    pub(super) text: String,
    /// There were some.
    pub(super) secret: bool,
    /// Their values are all there: none is assumed or missing.
    pub(super) known: bool,
}

fn value(secret: &Secret, inputs: &Inputs, path: &Path<'_>, report: &Report<'_>) -> Option<String> {
    let from = path.field("from");
    let Some(need) = need(secret) else {
        report.hinted(
            &from,
            format!("`{}` is no source", short(&secret.from)),
            "write `sealed`, `env:NAME` or `file:PATH`",
        );
        return None;
    };
    let bytes = match inputs.value(&need) {
        Ok(bytes) => bytes?,
        Err(why) => {
            let hint = match &need {
                Need::Sealed(name) => {
                    format!("`tidegate secret ls` shows what there is; `tidegate secret put {name}` puts it there")
                }
                Need::Env(_) | Need::File(_) => "every node needs it".to_owned(),
            };
            report.hinted(&from, why, hint);
            return None;
        }
    };
    let text = std::str::from_utf8(bytes).ok().map(|text| match need {
        Need::File(_) => text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text)),
        Need::Env(_) | Need::Sealed(_) => text,
    });
    match text {
        Some("") => report.error(&from, format!("{need} is empty")),
        Some(text) if text.len() <= LONGEST => return Some(text.to_owned()),
        Some(_) => report.error(&from, format!("{need} is longer than {LONGEST} bytes")),
        None => report.error(&from, format!("{need} is not UTF-8")),
    }
    None
}

enum Part<'t> {
    Text(&'t str),
    Secret(&'t str),
    Unknown(&'t str),
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            parts.push(Part::Text(&rest[..at - 1]));
            parts.push(Part::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        parts.push(Part::Text(&rest[..at]));
        let inner = &rest[at + 2..];
        let end = inner.find('}').unwrap_or(inner.len());
        let name = &inner[..end];
        parts.push(name.strip_prefix("secrets.").map_or(Part::Unknown(name), Part::Secret));
        rest = inner.get(end + 1..).unwrap_or_default();
    }
    parts.push(Part::Text(rest));
    parts
}

/// The names of the secrets that `text` uses.
pub(crate) fn references(text: &str) -> Vec<&str> {
    let names = parts(text).into_iter().filter_map(|part| match part {
        Part::Secret(name) => Some(name),
        Part::Text(_) | Part::Unknown(_) => None,
    });
    names.collect()
}
