//! What the upstream sees of a request's target, and edits of headers. Pure.

use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};
use tidegate_policy::{Captured, HeaderEdit, HeaderEdits, Rewrite};

use crate::refusal::Refusal;

/// The target to send. `path`: as matched when that is not as sent. `query`: the new query when it is not as sent.
/// `None`: as it came.
pub(crate) fn target(
    rewrite: &Rewrite,
    sent: &PathAndQuery,
    matched: Option<&str>,
    captures: &Captured<'_>,
    query: Option<&str>,
) -> Result<Option<Uri>, Refusal> {
    let plain = rewrite.path.is_none() && rewrite.strip_prefix.is_none() && rewrite.add_prefix.is_none();
    if plain && matched.is_none() && query.is_none() {
        return Ok(None);
    }
    let mut target = path(rewrite, matched.unwrap_or_else(|| sent.path()), captures);
    if let Some(query) = query.or_else(|| sent.query()).filter(|q| !q.is_empty()) {
        target.push('?');
        target.push_str(query);
    }
    let target = PathAndQuery::try_from(target).map_err(|_| Refusal::InvalidPath)?;
    Ok(Some(Uri::from(target)))
}

fn path(rewrite: &Rewrite, path: &str, captures: &Captured<'_>) -> String {
    if let Some(template) = &rewrite.path {
        return fill(template, captures, path);
    }
    let rest = rewrite.strip_prefix.as_deref().map_or(path, |prefix| without(path, prefix));
    let prefix = rewrite.add_prefix.as_deref().unwrap_or("").trim_end_matches('/');
    let slash = if rest.starts_with('/') { "" } else { "/" };
    format!("{prefix}{slash}{rest}")
}

/// A prefix ends where a segment ends: `/v1` is none of `/v10/x`.
fn without<'a>(path: &'a str, prefix: &str) -> &'a str {
    let prefix = prefix.trim_end_matches('/');
    match path.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => path,
    }
}

/// `/users/{id}` with what the route's template captured of `path`, still percent-encoded. A name without a capture stays
/// empty.
pub(crate) fn fill(template: &str, captures: &Captured<'_>, path: &str) -> String {
    let mut filled = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let Some(close) = rest[open..].find('}') else { break };
        filled.push_str(&rest[..open]);
        let name = rest[open + 1..open + close].trim_start_matches('*');
        filled.push_str(captures.value(name, path).unwrap_or_default());
        rest = &rest[open + close + 1..];
    }
    filled.push_str(rest);
    filled
}

pub(crate) fn edit(headers: &mut HeaderMap, edits: &HeaderEdits) {
    for edit in &edits.0 {
        match edit {
            HeaderEdit::Set(name, value) => drop(headers.insert(name.clone(), value.clone())),
            HeaderEdit::Add(name, value) => drop(headers.append(name.clone(), value.clone())),
            HeaderEdit::Remove(name) => drop(headers.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(rewrite: &Rewrite, target_sent: &'static str) -> String {
        let sent = PathAndQuery::from_static(target_sent);
        let names = ["id".into()];
        let captures = Captured::new(&names, [(4, 9.min(target_sent.len()))]); // `/v1/{id}`
        match target(rewrite, &sent, None, &captures, None).expect("a target") {
            Some(uri) => uri.to_string(),
            None => target_sent.to_owned(),
        }
    }

    #[test]
    fn prefixes_end_where_segments_end() {
        let strip = Rewrite { strip_prefix: Some("/v1".into()), ..Rewrite::default() };
        assert_eq!(sent(&strip, "/v1/users?a=1"), "/users?a=1");
        assert_eq!(sent(&strip, "/v1"), "/");
        assert_eq!(sent(&strip, "/v10/x"), "/v10/x");
        let both = Rewrite { add_prefix: Some("/api/".into()), ..strip };
        assert_eq!(sent(&both, "/v1/users"), "/api/users");
        assert_eq!(sent(&both, "/v1"), "/api/");
    }

    #[test]
    fn a_path_is_filled_from_its_captures_and_keeps_the_query() {
        let whole = Rewrite { path: Some("/u/{id}/x".into()), ..Rewrite::default() };
        assert_eq!(sent(&whole, "/v1/a%2Fb?q=1"), "/u/a%2Fb/x?q=1");
        assert_eq!(sent(&Rewrite::default(), "/as/is?x"), "/as/is?x");
    }
}
