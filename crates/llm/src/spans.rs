//! Where the members of a JSON object stand in its bytes, without building a tree. serde_json does the reading, so what
//! passes here is what every strict parser accepts; members that are given twice are told twice.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::Malformed;

#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: &'a str,
}

pub(crate) fn members(body: &[u8]) -> Result<Vec<Member<'_>>, Malformed> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = reader.deserialize_map(Members).and_then(|members| reader.end().map(|()| members));
    read.map_err(|e| Malformed::new("", format!("not a valid JSON object: {e}")))
}

impl Member<'_> {
    /// In the bytes that the member was read from.
    pub(crate) fn span(&self, body: &[u8]) -> Range<usize> {
        let start = self.value.as_ptr() as usize - body.as_ptr() as usize;
        start..start + self.value.len()
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            members.push(Member { name, value: value.get() });
        }
        Ok(members)
    }
}

/// `Cow` alone would copy; names without escapes are borrowed.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
