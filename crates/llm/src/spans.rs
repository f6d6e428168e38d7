//! Where the members of a JSON object stand in its bytes, without building a tree. What passes here is what every strict
//! parser accepts; members that are given twice are told twice.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::Malformed;
use crate::json::scan::{Bad, Scan, Strings};

#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: &'a str,
    /// If it is a list.
    pub(crate) items: usize,
    pub(crate) media: Media,
}

/// What stands in a value for an image, a sound, a film or a file: the names and types that dialects have for them. Inside of
/// texts nothing does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Media {
    pub(crate) all: usize,
    /// And of these, pictures or what may be some.
    pub(crate) images: usize,
}

impl Strings for Media {
    #[inline]
    fn string(&mut self, raw: &[u8]) {
        let (all, images) = match raw {
            b"image" | b"image_url" | b"input_image" | b"inlineData" | b"inline_data" => (1, 1),
            b"fileData" | b"file_data" | b"video_url" => (1, 1),
            b"video" | b"input_audio" | b"document" | b"input_file" | b"file" | b"file_id" => (1, 0),
            _ => (0, 0),
        };
        self.all += all;
        self.images += images;
    }
}

/// Where a member stands, for who has its object's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    name: Name,
    pub(crate) value: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    At(Range<usize>),
    /// It is written with escapes.
    Decoded(Box<str>),
}

impl Spot {
    pub(crate) fn name<'a>(&'a self, body: &'a [u8]) -> &'a [u8] {
        match &self.name {
            Name::At(range) => body.get(range.clone()).unwrap_or_default(),
            Name::Decoded(name) => name.as_bytes(),
        }
    }
}

pub(crate) fn members(body: &[u8]) -> Result<Vec<Member<'_>>, Malformed> {
    read(body).map_err(|Bad| match told(body) {
        Err(why) => Malformed::new("", format!("not a valid JSON object: {why}")),
        Ok(_) => Malformed::new("", "not a valid JSON object"),
    })
}

fn read(body: &[u8]) -> Result<Vec<Member<'_>>, Bad> {
    let mut scan = Scan::new(std::str::from_utf8(body).map_err(|_| Bad)?);
    let mut members = Vec::with_capacity(8);
    scan.take(b'{')?;
    while !scan.eat(b'}') {
        if !members.is_empty() {
            scan.take(b',')?;
        }
        let name = scan.string()?;
        let name = if name.escaped { Cow::Owned(decoded(name.text)?) } else { Cow::Borrowed(name.text) };
        scan.take(b':')?;
        scan.peek();
        let (from, mut media) = (scan.at, Media::default());
        let items = scan.skip(&mut media)?;
        members.push(Member { name, value: scan.slice(from), items, media });
    }
    scan.end().map(|()| members)
}

#[cold]
fn decoded(raw: &str) -> Result<String, Bad> {
    serde_json::from_str(&format!("\"{raw}\"")).map_err(|_| Bad)
}

impl Member<'_> {
    /// In the bytes that the member was read from.
    pub(crate) fn span(&self, body: &[u8]) -> Range<usize> {
        let start = self.value.as_ptr() as usize - body.as_ptr() as usize;
        start..start + self.value.len()
    }

    pub(crate) fn spot(&self, body: &[u8]) -> Spot {
        let name = match &self.name {
            Cow::Borrowed(name) => {
                let start = name.as_ptr() as usize - body.as_ptr() as usize;
                Name::At(start..start + name.len())
            }
            Cow::Owned(name) => Name::Decoded(name.as_str().into()),
        };
        Spot { name, value: self.span(body) }
    }
}

/// The same by serde_json, which knows what is wrong and where.
#[cold]
fn told(body: &[u8]) -> Result<Vec<(Cow<'_, str>, &str)>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    reader.deserialize_map(Members).and_then(|members| reader.end().map(|()| members))
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(Unescaped(name)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            members.push((name, value.get()));
        }
        Ok(members)
    }
}

/// `Cow` alone would copy; names without escapes are borrowed.
#[derive(serde::Deserialize)]
struct Unescaped<'a>(#[serde(borrow)] Cow<'a, str>);

/// The bytes with pieces replaced, or put in where a span is empty. They may come in any order and do not overlap. `None`: there
/// is nothing to change.
pub(crate) fn patched<T: AsRef<str>>(body: &[u8], mut changes: Vec<(Range<usize>, T)>) -> Option<Vec<u8>> {
    if changes.is_empty() {
        return None;
    }
    changes.sort_by_key(|(span, _)| span.start);
    let more: usize = changes.iter().map(|(_, text)| text.as_ref().len()).sum();
    let less: usize = changes.iter().map(|(span, _)| span.len()).sum();
    let mut out = Vec::with_capacity((body.len() + more).saturating_sub(less));
    let mut from = 0;
    for (span, text) in &changes {
        out.extend_from_slice(&body[from..span.start]);
        out.extend_from_slice(text.as_ref().as_bytes());
        from = span.end;
    }
    out.extend_from_slice(&body[from..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agrees(body: &[u8]) {
        let ours = read(body).ok();
        let ours: Option<Vec<_>> = ours.map(|all| all.into_iter().map(|member| (member.name, member.value)).collect());
        assert_eq!(ours, told(body).ok(), "{}", String::from_utf8_lossy(body));
    }

    #[test]
    fn corners_are_read_as_serde_json_reads_them() {
        for body in [
            "",
            "{",
            "}",
            "{}",
            " { } ",
            "{}}",
            "{} x",
            "[]",
            "null",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,\"a\":1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":01}",
            "{\"a\":-}",
            "{\"a\":-0}",
            "{\"a\":1.}",
            "{\"a\":1e}",
            "{\"a\":1e+5}",
            "{\"a\":1.5E-3,\"b\":\"\\u00e9\"}",
            "{\"a\":\"\\u00g9\"}",
            "{\"a\":\"\\ud800\"}",
            "{\"\\ud800\":1}",
            "{\"\\u0061\":1,\"a\":2}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\q\"}",
            "{\"a\":tru}",
            "{\"a\":true}",
            "{\"a\":[1,]}",
            "{\"a\":[,1]}",
            "{\"a\":[1 2]}",
            "{\"a\":{\"b\":}}",
            "{\"a\":[}",
            "{\"a\":{]}",
            "{\"a\":\"x}",
            "{1:2}",
            "{\"a\" : [ { \"b\" : [ ] } , 2 ] , \"c\":{}}",
            "\u{feff}{}",
            "{\"a\":1e999}",
            "{\"a\":--1}",
            "{\"a\":+1}",
            "{\"a\":.5}",
            "{\"a\":[[[[[[]]]]]]}",
            "{\"a\":\"\u{7f}é\"}",
            "{\"a\":nullx}",
            "{\"a\":1x}",
            "{\"a\"::1}",
        ] {
            agrees(body.as_bytes());
        }
        agrees(b"{\"a\":\"\xff\"}");
        agrees(b"{\"\xc3\":1}");
        agrees(("{\"a\":".to_owned() + &"[".repeat(100_000) + &"]".repeat(100_000) + "}").as_bytes());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_as_serde_json_reads_it(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"a\"", "\"", "\\", "\\u0061", "1", "-", "0", ".", "e", "true", "null", " ",
                "\n", "é", "\"messages\":", "{\"a\":1}", "\u{1}", "x",
            ]), 0..12),
            cut in 0usize..40,
        ) {
            let body = format!("{{{}}}", pieces.concat());
            agrees(body.as_bytes());
            agrees(&body.as_bytes()[..cut.min(body.len())]);
        }
    }
}
