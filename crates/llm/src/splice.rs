//! The edits a body may suffer when caller and provider speak the same dialect. Everything else stays byte for byte as
//! the caller wrote it: unknown fields, order, blanks, and with them the provider's prompt cache (llm-wire line 22).

use std::borrow::Cow;
use std::ops::Range;

use crate::dialect::Dialect;
use crate::json::{Malformed, write_text};
use crate::peek::Peek;
use crate::spans::{self, Spot};

/// What to put where; a field that is there is replaced wherever it stands, one that is not is added at the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// One or two names.
    path: &'static [&'static str],
    /// Another name of the same thing: where it is given, it is replaced as well.
    alias: Option<&'static str>,
    /// JSON.
    value: Cow<'static, str>,
}

impl Edit {
    /// `None`: the model stands in the path.
    pub fn model(dialect: Dialect, model: &str) -> Option<Self> {
        let path: &[&str] = match dialect {
            Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::Anthropic | Dialect::Cohere => &["model"],
            Dialect::Gemini | Dialect::Bedrock => return None,
        };
        let mut value = Vec::with_capacity(model.len() + 2);
        write_text(model, &mut value);
        Some(Self { path, alias: None, value: String::from_utf8(value).expect("JSON is UTF-8").into() })
    }

    /// `reasoning_only`: the chat dialect has two names for it.
    pub fn max_tokens(dialect: Dialect, reasoning_only: bool, tokens: u64) -> Self {
        let path: &[&str] = match dialect {
            Dialect::OpenAiChat if reasoning_only => {
                return Self {
                    path: &["max_completion_tokens"],
                    alias: Some("max_tokens"),
                    value: tokens.to_string().into(),
                };
            }
            Dialect::OpenAiChat => {
                return Self {
                    path: &["max_tokens"],
                    alias: Some("max_completion_tokens"),
                    value: tokens.to_string().into(),
                };
            }
            Dialect::Anthropic | Dialect::Cohere => &["max_tokens"],
            Dialect::OpenAiResponses => &["max_output_tokens"],
            Dialect::Gemini => &["generationConfig", "maxOutputTokens"],
            Dialect::Bedrock => &["inferenceConfig", "maxTokens"],
        };
        Self { path, alias: None, value: tokens.to_string().into() }
    }

    /// Only the chat dialect has to be asked.
    pub fn include_usage() -> Self {
        Self { path: &["stream_options", "include_usage"], alias: None, value: "true".into() }
    }

    /// Where Anthropic's API is spoken at somebody else's place, the version stands in the body.
    pub fn anthropic_version() -> Self {
        Self { path: &["anthropic_version"], alias: None, value: "\"vertex-2023-10-16\"".into() }
    }
}

/// The body without a member; `None` if it has none of that name.
pub fn without(body: &[u8], name: &str) -> Result<Option<Vec<u8>>, Malformed> {
    let members = spans::members(body)?;
    let spans: Vec<Range<usize>> = members.iter().map(|member| member.span(body)).collect();
    let mut out = Vec::with_capacity(body.len());
    let (mut from, mut kept) = (0, 0);
    for (i, member) in members.iter().enumerate() {
        if member.name != name {
            kept += 1;
            continue;
        }
        // Up to where the member before it ends, or else from the brace to where the next one's name begins.
        let next = members
            .get(i + 1)
            .map(|_| spans[i].end + body[spans[i].end..].iter().position(|b| *b == b',').unwrap_or(0));
        let before =
            if i == 0 { body.iter().position(|b| *b == b'{').map_or(0, |at| at + 1) } else { spans[i - 1].end };
        match next {
            Some(comma) if kept == 0 => {
                out.extend_from_slice(&body[from..before.max(from)]);
                from = comma + 1;
            }
            _ => {
                out.extend_from_slice(&body[from..before.max(from)]);
                from = spans[i].end;
            }
        }
    }
    if kept == members.len() {
        return Ok(None);
    }
    out.extend_from_slice(&body[from..]);
    Ok(Some(out))
}

/// A call of the chat dialect whose longest answer is named as everybody does, `max_tokens`: OpenAI's newer name is refused by
/// some, and bounds nothing at others. `None`: it is named so already, or not at all.
pub fn with_common_bound(body: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    const NEWER: &str = "max_completion_tokens";
    const COMMON: &str = "max_tokens";
    let members = spans::members(body)?;
    let Some(newer) = members.iter().find(|member| member.name == NEWER) else { return Ok(None) };
    if let (Cow::Borrowed(name), false) = (&newer.name, members.iter().any(|member| member.name == COMMON)) {
        let start = name.as_ptr() as usize - body.as_ptr() as usize;
        return Ok(spans::patched(body, vec![(start..start + name.len(), COMMON)]));
    }
    let Some(rest) = without(body, NEWER)? else { return Ok(None) };
    if newer.value == "null" {
        return Ok(Some(rest));
    }
    let edit = Edit { path: &[COMMON], alias: None, value: newer.value.to_owned().into() };
    Ok(splice(&rest, &[edit])?.or(Some(rest)))
}

/// The body with the edits, or `None` if it says all of that already.
pub fn splice(body: &[u8], edits: &[Edit]) -> Result<Option<Vec<u8>>, Malformed> {
    edited(body, &spots(body)?, edits)
}

/// The same of a body that was peeked at: it need not be read again.
pub fn splice_peeked(body: &[u8], peek: &Peek, edits: &[Edit]) -> Result<Option<Vec<u8>>, Malformed> {
    edited(body, &peek.spots, edits)
}

fn spots(body: &[u8]) -> Result<Vec<Spot>, Malformed> {
    Ok(spans::members(body)?.iter().map(|member| member.spot(body)).collect())
}

fn edited(body: &[u8], spots: &[Spot], edits: &[Edit]) -> Result<Option<Vec<u8>>, Malformed> {
    let mut changes = Changes { body, list: Vec::new() };
    for edit in edits {
        match edit.path {
            [name] => {
                let given = |name: &str| spots.iter().any(|spot| is(spot.name(body), name));
                let alias = edit.alias.filter(|alias| given(alias));
                if let Some(alias) = alias {
                    changes.set(spots, body, 0, alias, &edit.value);
                }
                if alias.is_none() || given(name) {
                    changes.set(spots, body, 0, name, &edit.value);
                }
            }
            [outer, name] => nested(&mut changes, spots, outer, name, &edit.value)?,
            _ => {}
        }
    }
    Ok(changes.apply())
}

fn nested<'e>(
    changes: &mut Changes<'e>,
    spots: &[Spot],
    outer: &'static str,
    name: &str,
    value: &'e str,
) -> Result<(), Malformed> {
    let whole = || format!("{{\"{name}\":{value}}}");
    let (mut found, body) = (false, changes.body);
    for spot in spots.iter().filter(|spot| is(spot.name(body), outer)) {
        found = true;
        let object = &body[spot.value.clone()];
        if object == b"null" {
            changes.list.push((spot.value.clone(), whole().into()));
            continue;
        }
        let inner = self::spots(object).map_err(|e| Malformed::new(outer, e.reason))?;
        changes.set(&inner, object, spot.value.start, name, value);
    }
    if !found {
        changes.insert(spots.is_empty(), body, 0, outer, &whole());
    }
    Ok(())
}

/// Google reads snake_case as well.
fn is(member: &[u8], name: &str) -> bool {
    member == name.as_bytes()
        || member.contains(&b'_')
            && member.iter().filter(|byte| **byte != b'_').map(u8::to_ascii_lowercase).eq(name.bytes().map(lower))
}

fn lower(byte: u8) -> u8 {
    byte.to_ascii_lowercase()
}

struct Changes<'e> {
    body: &'e [u8],
    /// Replacements and insertions, in the order they were made.
    list: Vec<(Range<usize>, Cow<'e, str>)>,
}

impl<'e> Changes<'e> {
    /// `spots` are of `object`, which begins at `start` of the body.
    fn set(&mut self, spots: &[Spot], object: &[u8], start: usize, name: &str, value: &'e str) {
        let mut found = false;
        for spot in spots.iter().filter(|spot| is(spot.name(object), name)) {
            found = true;
            if object[spot.value.clone()] != *value.as_bytes() {
                let span = start + spot.value.start..start + spot.value.end;
                self.list.push((span, value.into()));
            }
        }
        if !found {
            self.insert(spots.is_empty(), object, start, name, value);
        }
    }

    /// Before the closing brace; blanks after the object are not part of it.
    fn insert(&mut self, empty: bool, object: &[u8], start: usize, name: &str, value: &str) {
        let Some(brace) = object.iter().rposition(|byte| *byte == b'}') else { return };
        let at = start + brace;
        let first = empty && !self.list.iter().any(|(span, _)| span.start == at);
        let comma = if first { "" } else { "," };
        self.list.push((at..at, format!("{comma}\"{name}\":{value}").into()));
    }

    fn apply(self) -> Option<Vec<u8>> {
        spans::patched(self.body, self.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: Dialect = Dialect::OpenAiChat;

    fn spliced(body: &str, edits: &[Edit]) -> String {
        let out = splice(body.as_bytes(), edits).unwrap();
        out.map_or_else(|| body.to_owned(), |out| String::from_utf8(out).unwrap())
    }

    fn model(name: &str) -> Edit {
        Edit::model(CHAT, name).unwrap()
    }

    #[test]
    fn line_15_a_bound_by_its_newer_name_is_told_by_its_common_one() {
        for (body, want) in [
            (r#"{"a":1, "max_completion_tokens" : 5 ,"b":2}"#, Some(r#"{"a":1, "max_tokens" : 5 ,"b":2}"#)),
            (r#"{"max\u005fcompletion_tokens":5,"b":2}"#, Some(r#"{"b":2,"max_tokens":5}"#)),
            (r#"{"max_tokens":9,"max_completion_tokens":5}"#, Some(r#"{"max_tokens":5}"#)),
            (r#"{"max_tokens":9,"max_completion_tokens":null}"#, Some(r#"{"max_tokens":9}"#)),
            (r#"{"x":"max_completion_tokens","max_tokens":9}"#, None),
        ] {
            let told = with_common_bound(body.as_bytes()).unwrap().map(|told| String::from_utf8(told).unwrap());
            assert_eq!(told.as_deref(), want, "{body}");
        }
    }

    #[test]
    fn line_22_only_the_named_bytes_change() {
        let body = "{ \"x\" : [1, {\"model\":\"no\"}],\n\"model\" :  \"old\" , \"y\":1.50, \"z\":\"\\u00e9\" }\n";
        let want = body.replace("\"old\"", "\"new\"");
        assert_eq!(spliced(body, &[model("new")]), want);
        assert_eq!(splice(body.as_bytes(), &[model("old")]).unwrap(), None);
    }

    #[test]
    fn line_22_a_field_given_twice_is_replaced_twice_and_an_escaped_name_is_found() {
        let body = r#"{"model":"a","m":0,"mod\u0065l":"b"}"#;
        assert_eq!(spliced(body, &[model("c")]), r#"{"model":"c","m":0,"mod\u0065l":"c"}"#);
    }

    #[test]
    fn line_1_include_usage_is_asked_for_wherever_it_was_not() {
        let usage = [Edit::include_usage()];
        assert_eq!(spliced("{}", &usage), r#"{"stream_options":{"include_usage":true}}"#);
        assert_eq!(spliced(r#"{"a":1 }"#, &usage), r#"{"a":1 ,"stream_options":{"include_usage":true}}"#);
        let cases = [
            (r#"{"stream_options":null}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (r#"{"stream_options":{}}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (r#"{"stream_options":{"include_usage":false}}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (r#"{"stream_options":{"o":1}}"#, r#"{"stream_options":{"o":1,"include_usage":true}}"#),
        ];
        for (body, want) in cases {
            assert_eq!(spliced(body, &usage), want);
        }
        assert!(splice(br#"{"stream_options":7}"#, &usage).is_err());
    }

    #[test]
    fn several_edits_at_one_place_stay_valid() {
        let edits = [model("m"), Edit::max_tokens(CHAT, false, 5), Edit::include_usage()];
        let want = r#"{"model":"m","max_tokens":5,"stream_options":{"include_usage":true}}"#;
        assert_eq!(spliced("{}", &edits), want);
        let gemini = [Edit::max_tokens(Dialect::Gemini, false, 5)];
        let body = r#"{"generation_config":{"max_output_tokens":9}}"#;
        assert_eq!(spliced(body, &gemini), r#"{"generation_config":{"max_output_tokens":5}}"#);
    }

    #[test]
    fn the_bound_of_an_answer_is_set_by_whichever_name_it_was_given() {
        for reasoning_only in [false, true] {
            let bound = [Edit::max_tokens(CHAT, reasoning_only, 5)];
            for (body, want) in [
                (r#"{"max_completion_tokens":900}"#, r#"{"max_completion_tokens":5}"#),
                (r#"{"max_tokens":900}"#, r#"{"max_tokens":5}"#),
                (r#"{"max_completion_tokens":1,"max_tokens":900}"#, r#"{"max_completion_tokens":5,"max_tokens":5}"#),
            ] {
                assert_eq!(spliced(body, &bound), want);
            }
        }
        assert_eq!(spliced("{}", &[Edit::max_tokens(CHAT, true, 5)]), r#"{"max_completion_tokens":5}"#);
    }

    #[test]
    fn a_member_is_taken_out_wherever_it_stands() {
        for (body, want) in [
            (r#"{"model":"m"}"#, "{}"),
            (r#"{ "model" : "m" , "b":1}"#, r#"{ "b":1}"#),
            (r#"{"a":{"model":2}, "mod\u0065l":"m","b":[1,2]}"#, r#"{"a":{"model":2},"b":[1,2]}"#),
            (r#"{"a":1,"model":"m" }"#, r#"{"a":1 }"#),
            (r#"{"model":1,"model":2,"a":3}"#, r#"{"a":3}"#),
            (r#"{"a":0,"model":1,"model":2}"#, r#"{"a":0}"#),
        ] {
            let out = String::from_utf8(without(body.as_bytes(), "model").unwrap().unwrap()).unwrap();
            assert_eq!(out, want, "{body}");
            serde_json::from_str::<serde_json::Value>(&out).unwrap();
        }
        assert_eq!(without(b"{\"a\":1}", "model").unwrap(), None);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["", "[]", "{", "{\"a\":}", "{}x", "{\"a\":1,}", "null"] {
            assert!(splice(body.as_bytes(), &[model("m")]).is_err(), "{body}");
        }
    }
}
