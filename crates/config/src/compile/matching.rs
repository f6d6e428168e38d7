//! Which requests a route takes.

use std::cell::RefCell;
use std::collections::HashMap;

use http::Method;
use regex::{Regex, RegexBuilder};
use tidegate_policy::path::{Template, TemplateError};
use tidegate_policy::{HeaderMatch, HostPattern, PathPattern, QueryMatch, ValueMatch};

use super::{Report, header, host};
use crate::decode::short;
use crate::document::{Match, ValueRule, ValueTest};
use crate::path::Path;

/// Of one compiled regular expression.
const REGEX_BYTES: usize = 256 * 1024;
const REGEX_TEXT: usize = 1024;
/// Different ones in one document: together they may take 512 MiB, in practice a few.
const MAX_REGEXES: usize = 2_000;

/// Each regular expression is built once.
#[derive(Default)]
pub(super) struct Regexes(RefCell<HashMap<String, Option<Regex>>>);

pub(super) struct Matching {
    pub(super) hosts: Vec<HostPattern>,
    pub(super) path: PathPattern,
    /// Names the path captures.
    pub(super) captures: Vec<String>,
    pub(super) methods: Vec<Method>,
    pub(super) headers: Vec<HeaderMatch>,
    pub(super) query: Vec<QueryMatch>,
}

pub(super) fn compile(rule: &Match, regexes: &Regexes, path: &Path<'_>, report: &Report<'_>) -> Option<Matching> {
    let Match { hosts, path: pattern, methods, headers, query } = rule;
    let mut patterns = Vec::new();
    for (i, text) in hosts.iter().enumerate() {
        let item = path.field("hosts");
        let item = item.item(i);
        let Some(pattern) = host::pattern(text, &item, report) else { continue };
        if patterns.contains(&pattern) {
            report.error(&item, format!("`{}` is named twice here", short(text)));
        }
        patterns.push(pattern);
    }
    let methods = self::methods(methods, &path.field("methods"), report);
    let at = path.field("headers");
    let headers = headers.iter().filter_map(|(name, test)| {
        let at = at.field(name);
        Some(HeaderMatch { name: header::name(name, &at, report)?, value: value(test, regexes, &at, report)? })
    });
    let headers: Vec<HeaderMatch> = headers.collect();
    if let Some(twice) = headers.iter().enumerate().find(|(i, h)| headers[..*i].iter().any(|k| k.name == h.name)) {
        report.error(&at, format!("`{}` is here twice, in different spellings", twice.1.name));
    }
    let at = path.field("query");
    let query = query.iter().filter_map(|(name, test)| {
        Some(QueryMatch { name: name.clone(), value: value(test, regexes, &at.field(name), report)? })
    });
    let query = query.collect();
    let (pattern, captures) = self::pattern(pattern.as_deref().unwrap_or("/*"), &path.field("path"), report)?;
    Some(Matching { hosts: patterns, path: pattern, captures, methods, headers, query })
}

fn pattern(text: &str, path: &Path<'_>, report: &Report<'_>) -> Option<(PathPattern, Vec<String>)> {
    let prefix = text.strip_suffix("/*");
    let literal = prefix.unwrap_or(text);
    let stars = literal.match_indices('*').any(|(at, _)| !literal[..at].ends_with('{'));
    if stars {
        let hint = "`/v1/*` is everything below `/v1`, `{name}` one segment, `%2A` the character itself";
        report.hinted(path, "`*` stands at the end only, as a whole segment", hint);
        return None;
    }
    let template = match prefix {
        Some(prefix) => Template::parse_prefix(prefix),
        None => Template::parse(text),
    };
    match template {
        Ok(template) => {
            let captures = template.names().map(str::to_owned).collect();
            let pattern = prefix.map_or_else(|| PathPattern::Template(text.into()), |p| PathPattern::Prefix(p.into()));
            Some((pattern, captures))
        }
        Err(error) => {
            let hint = match error {
                TemplateError::NoSlash => Some(format!("write `/{}`", short(text))),
                TemplateError::Braces | TemplateError::Name => Some("write `/users/{id}`".to_owned()),
                _ => None,
            };
            report.hinted(path, error.to_string(), hint);
            None
        }
    }
}

pub(super) fn methods(texts: &[String], path: &Path<'_>, report: &Report<'_>) -> Vec<Method> {
    let mut methods = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let upper = text.to_ascii_uppercase();
        let Some(method) = Method::from_bytes(text.as_bytes()).ok().filter(|_| upper == *text) else {
            let known = Method::from_bytes(upper.as_bytes()).ok().map(|method| format!("write `{method}`"));
            report.hinted(&path.item(i), format!("`{}` is not a method", short(text)), known);
            continue;
        };
        if methods.contains(&method) {
            report.error(&path.item(i), format!("`{method}` is named twice here"));
        } else {
            methods.push(method);
        }
    }
    methods
}

fn value(test: &ValueTest, regexes: &Regexes, path: &Path<'_>, report: &Report<'_>) -> Option<ValueMatch> {
    let rule = match test {
        ValueTest::Text(text) => return Some(ValueMatch::Exact(text.clone())),
        ValueTest::Rule(rule) => rule,
    };
    match rule {
        ValueRule { exact: Some(text), prefix: None, regex: None, present: None } => {
            Some(ValueMatch::Exact(text.clone()))
        }
        ValueRule { exact: None, prefix: Some(text), regex: None, present: None } => {
            Some(ValueMatch::Prefix(text.clone()))
        }
        ValueRule { exact: None, prefix: None, regex: Some(text), present: None } => {
            regexes.find(text, &path.field("regex"), report).map(ValueMatch::Regex)
        }
        ValueRule { exact: None, prefix: None, regex: None, present: Some(true) } => Some(ValueMatch::Present),
        ValueRule { exact: None, prefix: None, regex: None, present: Some(false) } => {
            report.hinted(&path.field("present"), "absence cannot be asked for", "give the other route the condition");
            None
        }
        ValueRule { exact: _, prefix: _, regex: _, present: _ } => {
            report.error(path, "exactly one of `exact`, `prefix`, `regex`, `present`");
            None
        }
    }
}

impl Regexes {
    fn find(&self, text: &str, path: &Path<'_>, report: &Report<'_>) -> Option<Regex> {
        let mut known = self.0.borrow_mut();
        if let Some(Some(regex)) = known.get(text) {
            return Some(regex.clone());
        }
        if known.len() >= MAX_REGEXES {
            report.hinted(path, format!("more than {MAX_REGEXES} regular expressions"), "use `exact` or `prefix`");
            return None;
        }
        let built = regex(text, path, report);
        known.insert(text.to_owned(), built.clone());
        built
    }
}

fn regex(text: &str, path: &Path<'_>, report: &Report<'_>) -> Option<Regex> {
    if text.len() > REGEX_TEXT {
        report.error(path, format!("longer than {REGEX_TEXT} bytes"));
        return None;
    }
    let built = RegexBuilder::new(text).size_limit(REGEX_BYTES).dfa_size_limit(REGEX_BYTES).nest_limit(50).build();
    match built {
        Ok(regex) => Some(regex),
        Err(regex::Error::CompiledTooBig(limit)) => {
            let hint = "large counts such as `{1000}` are costly";
            report.hinted(path, format!("the regular expression needs more than {limit} bytes"), hint);
            None
        }
        Err(error) => {
            // The last line says what is wrong; those before draw arrows.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            report.error(path, format!("not a regular expression: {reason}"));
            None
        }
    }
}
