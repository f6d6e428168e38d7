//! What is asked and answered, as it may be logged: without keys, without media, without what the document names, and no
//! longer than it says. Pure; called only on routes that log bodies.

use std::borrow::Cow;

use serde_json::Value;
use tidegate_policy::{Bodies, Step};
use tidegate_telemetry::is_secret;

pub(super) const OUT: &str = "REDACTED";
/// Longer texts without a space that spell bytes are media, not words.
const CODED: usize = 256;

/// A body as the log has it: JSON again, where it was JSON.
pub(super) fn loggable(rules: &Bodies, body: &[u8]) -> Box<str> {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            let paths: Vec<&[Step]> = rules.without.iter().map(Vec::as_slice).collect();
            clean(&mut value, &paths, rules);
            value.to_string()
        }
        // Whatever it is, a secret may stand in it.
        Err(_) => format!("{} bytes that are no JSON", body.len()),
    };
    cut(text, rules.max).into()
}

/// At the end of a character, with a word on how much is missing.
fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let missing = text.len();
        let end = (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(&format!("… ({missing} bytes)"));
    }
    text
}

/// `paths`: what is left of those that led here.
fn clean(value: &mut Value, paths: &[&[Step]], rules: &Bodies) {
    if paths.iter().any(|path| path.is_empty()) {
        *value = Value::from(OUT);
        return;
    }
    match value {
        Value::String(text) => {
            if let Cow::Owned(clean) = clean_text(text, rules) {
                *text = clean;
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                clean(item, &below(paths, &at.to_string()), rules);
            }
        }
        Value::Object(members) => {
            let names: Vec<String> = members.keys().cloned().collect();
            for name in names {
                let Some(member) = members.get_mut(&name) else { continue };
                if holds_secret(&name) && !member.is_number() {
                    blot(member);
                } else {
                    clean(member, &below(paths, &name), rules);
                }
                // A name is text as well.
                if let Cow::Owned(clean) = clean_text(&name, rules)
                    && let Some(member) = members.remove(&name)
                {
                    members.insert(clean, member);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn below<'p>(paths: &[&'p [Step]], name: &str) -> Vec<&'p [Step]> {
    let leads = |path: &&'p [Step]| match path.split_first() {
        Some((Step::Any, rest)) => Some(rest),
        Some((Step::Named(step), rest)) if **step == *name => Some(rest),
        _ => None,
    };
    paths.iter().filter_map(leads).collect()
}

/// `max_tokens` is a number, and `logprobs[].token` a piece of an answer; a `client_secret` is neither.
fn holds_secret(name: &str) -> bool {
    const HARMLESS: [&str; 4] = ["token", "prompt_cache_key", "code", "tokens"];
    is_secret(name) && !HARMLESS.contains(&name)
}

/// Every text in it is left out; counts are not.
fn blot(value: &mut Value) {
    match value {
        Value::String(_) => *value = Value::from(OUT),
        Value::Array(items) => items.iter_mut().for_each(blot),
        Value::Object(members) => members.values_mut().for_each(blot),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn clean_text<'t>(text: &'t str, rules: &Bodies) -> Cow<'t, str> {
    if let Some(medium) = medium(text) {
        return Cow::Owned(medium);
    }
    // JSON in JSON: arguments of a call.
    if (text.starts_with('{') || text.starts_with('['))
        && let Ok(mut inner) = serde_json::from_str::<Value>(text)
    {
        clean(&mut inner, &[], rules);
        return Cow::Owned(inner.to_string());
    }
    let mut clean = keys(text);
    for pattern in &rules.patterns {
        if let Cow::Owned(replaced) = pattern.replace_all(&clean, OUT) {
            clean = Cow::Owned(replaced);
        }
    }
    clean
}

/// `data:image/png;base64,…`, or bytes in base64 alone.
fn medium(text: &str) -> Option<String> {
    let (kind, coded) = match text.strip_prefix("data:").and_then(|rest| rest.split_once(',')) {
        Some((kind, coded)) => (kind.trim_end_matches(";base64"), coded),
        None => ("base64", text),
    };
    let is_url = kind != "base64" || text.starts_with("data:");
    let spelled = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'=' | b'\n' | b'\r');
    if !is_url && (coded.len() < CODED || !coded.bytes().all(spelled)) {
        return None;
    }
    let digest = digest(coded.as_bytes());
    Some(format!("[{}, {} bytes, {digest}]", kind.get(..64).unwrap_or(kind), coded.len() / 4 * 3))
}

/// Enough to see that two are the same.
fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// How keys begin, and how many characters more make it one.
const KEYS: [(&str, usize); 14] = [
    ("sk-", 16),
    ("sk_", 16),
    ("pk_", 16),
    ("rk_", 16),
    ("tg_", 16),
    ("AIza", 30),
    ("AKIA", 16),
    ("ASIA", 16),
    ("gsk_", 16),
    ("hf_", 16),
    ("ghp_", 16),
    ("xox", 16),
    ("xai-", 16),
    ("eyJ", 20),
];

/// Text without what looks like a key, and without what follows `Bearer`.
pub(super) fn keys(text: &str) -> Cow<'_, str> {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut clean = String::new();
    let mut copied = 0;
    let mut at = 0;
    let mut after_bearer = false;
    while at < text.len() {
        let rest = &text[at..];
        let length = rest.find(|c| !part(c)).unwrap_or(rest.len());
        if length == 0 {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        }
        let word = &rest[..length];
        let begins = |(start, more): &(&str, usize)| {
            word.find(start).is_some_and(|found| word.len() - found >= start.len() + more)
        };
        if KEYS.iter().any(begins) || (after_bearer && length >= 8) {
            clean.push_str(&text[copied..at]);
            clean.push_str(OUT);
            copied = at + length;
        }
        after_bearer = word.eq_ignore_ascii_case("bearer");
        at += length;
    }
    let clean = if copied == 0 {
        Cow::Borrowed(text)
    } else {
        clean.push_str(&text[copied..]);
        Cow::Owned(clean)
    };
    private_keys(clean)
}

/// `-----BEGIN … PRIVATE KEY-----` to its end, or to the text's.
fn private_keys(text: Cow<'_, str>) -> Cow<'_, str> {
    let Some(begin) = text.find("PRIVATE KEY-----") else { return text };
    let begin = text[..begin].rfind("-----BEGIN").unwrap_or(begin);
    let end = text[begin..].find("-----END").map_or(text.len(), |end| begin + end);
    let rest = private_keys(Cow::Owned(text[end..].replacen("PRIVATE KEY", "KEY", 1))).into_owned();
    Cow::Owned(format!("{}{OUT}{rest}", &text[..begin]))
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn rules(without: &[&str], patterns: &[&str]) -> Bodies {
        let step = |step: &str| if step == "*" { Step::Any } else { Step::Named(step.into()) };
        Bodies {
            max: 4_096,
            calls: true,
            answers: true,
            without: without.iter().map(|path| path.split('.').map(step).collect()).collect(),
            patterns: patterns.iter().map(|text| Regex::new(text).expect("a pattern")).collect(),
        }
    }

    fn logged(rules: &Bodies, body: &str) -> String {
        loggable(rules, body.as_bytes()).into()
    }

    #[test]
    fn keys_are_left_out_wherever_they_stand() {
        let secrets = [
            "sk-proj-abcdefghijklmnop1234",
            "sk-ant-REDACTED-abcdefghijkl",
            "AIzaSyA1234567890abcdefghijklmnopqrstu",
            "AKIAIOSFODNN7EXAMPLE",
            "tg_abcdefghijklmnopqrstuvwxyz",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        ];
        for secret in secrets {
            for body in [
                format!(r#"{{"messages":[{{"content":"my key is {secret}, use it"}}]}}"#),
                format!(r#"{{"tool_calls":[{{"arguments":"{{\"k\":\"{secret}\"}}"}}]}}"#),
                format!(r#"{{"{secret}":1}}"#),
                format!(r#"{{"a":"Authorization: Bearer {secret}\nnext"}}"#),
            ] {
                let said = logged(&rules(&[], &[]), &body);
                assert!(!said.contains(secret) && said.contains(OUT), "{said}");
            }
        }
        let said = logged(
            &rules(&[], &[]),
            r#"{"client_secret":"x1","password":"x2","api_key":"x3","max_tokens":5,"token":" the","authorization":"x4","credentials":{"user":"x2","list":["x3"]},"usage":{"prompt_tokens_details":{"cached_tokens":7}}}"#,
        );
        assert!(["x1", "x2", "x3", "x4"].iter().all(|secret| !said.contains(secret)), "{said}");
        assert!(
            said.contains(r#""max_tokens":5"#) && said.contains(" the") && said.contains(r#""cached_tokens":7"#),
            "{said}"
        );
        let pem = "-----BEGIN RSA PRIVATE KEY-----\\nMIIabc\\n-----END RSA PRIVATE KEY-----";
        let said = logged(&rules(&[], &[]), &format!(r#"{{"a":"x {pem} y {pem} z"}}"#));
        assert!(!said.contains("MIIabc") && said.contains(" z"), "{said}");
    }

    #[test]
    fn media_are_told_by_type_size_and_digest() {
        let image = "iVBORw0KGgo".repeat(40);
        for body in [
            format!(r#"{{"url":"data:image/png;base64,{image}"}}"#),
            format!(r#"{{"source":{{"type":"base64","data":"{image}"}}}}"#),
            format!(r#"{{"inlineData":{{"data":"{image}"}}}}"#),
        ] {
            let said = logged(&rules(&[], &[]), &body);
            assert!(!said.contains("iVBORw0KGgo") && said.contains("330 bytes"), "{said}");
        }
        let words = "plain words, ".repeat(60);
        assert!(logged(&rules(&[], &[]), &format!(r#"{{"a":"{words}"}}"#)).contains("plain words"));
    }

    #[test]
    fn paths_and_patterns_of_the_document_are_left_out() {
        let body = r#"{"messages":[{"role":"user","content":"hush"},{"role":"user","content":[{"text":"hush"}]}],"input":"call 555-12-3456 now"}"#;
        let said = logged(&rules(&["messages.*.content"], &["[0-9]{3}-[0-9]{2}-[0-9]{4}"]), body);
        assert!(!said.contains("hush") && said.contains("user") && said.contains("call REDACTED now"), "{said}");
        let said = logged(&rules(&["messages.1"], &[]), body);
        assert_eq!(said.matches("hush").count(), 1, "{said}");
    }

    #[test]
    fn what_is_logged_is_bounded_and_a_text() {
        let body = format!(r#"{{"a":"{}"}}"#, "ö ".repeat(5_000));
        let said = logged(&Bodies { max: 100, ..rules(&[], &[]) }, &body);
        assert!(said.len() < 140 && said.ends_with("bytes)"), "{said}");
        assert_eq!(logged(&rules(&[], &[]), "key=sk-abcdefghijklmnopqrst"), "27 bytes that are no JSON");
    }
}
