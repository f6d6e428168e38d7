//! What a token says: JSON in which no name is said twice, since whoever reads the other one would see another caller.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use tidegate_policy::ClaimPath;

#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    Null,
    Bool(bool),
    Whole(i128),
    Number(f64),
    Text(Box<str>),
    List(Vec<Claim>),
    Map(Vec<(Box<str>, Claim)>),
}

/// By name. Never printed whole.
#[derive(Clone, PartialEq)]
pub struct Claims(Vec<(Box<str>, Claim)>);

/// A claim by which nothing can be counted: one with claims inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotCounted;

/// Below this, every whole number is one that doubles can say.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Claims {
    /// `None`: no JSON object, or one that says a name twice, at any depth.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        match serde_json::from_slice(json) {
            Ok(Claim::Map(claims)) => Some(Self(claims)),
            Ok(_) | Err(_) => None,
        }
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> &[(Box<str>, Claim)] {
        &self.0
    }

    #[must_use]
    pub fn top(&self, name: &str) -> Option<&Claim> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, claim)| claim)
    }

    #[must_use]
    pub fn find(&self, path: &ClaimPath) -> Option<&Claim> {
        let path = path.as_str();
        let found = match self.top(path) {
            None if path.contains('.') => {
                let mut names = path.split('.');
                let first = self.top(names.next()?);
                names.fold(first, |claim, name| match claim? {
                    Claim::Map(inner) => inner.iter().find(|(known, _)| **known == *name).map(|(_, claim)| claim),
                    _ => None,
                })
            }
            found => found,
        };
        found.filter(|claim| **claim != Claim::Null)
    }

    /// As limits count by it: its values, sorted, each once, so that a list in another order is the same. `None`: it is not
    /// there, or says nothing.
    ///
    /// # Errors
    /// It holds more than values.
    pub fn counted(&self, path: &ClaimPath) -> Result<Option<Vec<Cow<'_, str>>>, NotCounted> {
        let mut values = match self.find(path) {
            None => return Ok(None),
            Some(Claim::List(list)) => {
                list.iter().map(|one| one.scalar().ok_or(NotCounted)).collect::<Result<_, _>>()?
            }
            Some(one) => vec![one.scalar().ok_or(NotCounted)?],
        };
        values.sort_unstable();
        values.dedup();
        Ok((!values.iter().all(|value| value.is_empty())).then_some(values))
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

impl Claim {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.is_empty(),
            Self::List(list) => list.is_empty(),
            Self::Map(map) => map.is_empty(),
            Self::Bool(_) | Self::Whole(_) | Self::Number(_) => false,
        }
    }

    /// A value in the one way to write it: 7, 7.0 and 70e-1 are `7`.
    #[must_use]
    pub fn scalar(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Bool(true) => Some("true".into()),
            Self::Bool(false) => Some("false".into()),
            Self::Whole(number) => Some(number.to_string().into()),
            Self::Number(number) => Some(number.to_string().into()),
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// `NumericDate` (RFC 7519 § 2), in whole seconds.
    pub(super) fn time(&self) -> Option<u64> {
        match self {
            // What began before 1970 began.
            Self::Whole(seconds) => Some(u64::try_from(*seconds).unwrap_or(if *seconds < 0 { 0 } else { u64::MAX })),
            Self::Number(seconds) if seconds.is_finite() => Some(*seconds as u64),
            _ => None,
        }
    }

    /// As a header says it: values with commas between them; what would be ambiguous so, as JSON.
    pub(super) fn told(&self) -> String {
        let plain = |claim: &Self| claim.scalar().filter(|text| !text.contains(',')).map(Cow::into_owned);
        match self {
            Self::List(list) => match list.iter().map(plain).collect::<Option<Vec<_>>>() {
                Some(values) => values.join(","),
                None => self.json(),
            },
            Self::Map(_) => self.json(),
            one => one.scalar().unwrap_or_default().into_owned(),
        }
    }

    fn json(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, to: &mut String) {
        let quoted = |text: &str, to: &mut String| {
            to.push('"');
            for c in text.chars() {
                match c {
                    '"' | '\\' => to.extend(['\\', c]),
                    // Headers are ASCII to most who read them.
                    c if c.is_ascii_graphic() || c == ' ' => to.push(c),
                    c => {
                        for unit in c.encode_utf16(&mut [0; 2]) {
                            let _infallible = write!(to, "\\u{unit:04x}");
                        }
                    }
                }
            }
            to.push('"');
        };
        match self {
            Self::Null => to.push_str("null"),
            Self::Text(text) => quoted(text, to),
            Self::List(list) => {
                for (i, one) in list.iter().enumerate() {
                    to.push(if i == 0 { '[' } else { ',' });
                    one.write(to);
                }
                to.push_str(if list.is_empty() { "[]" } else { "]" });
            }
            Self::Map(map) => {
                for (i, (name, one)) in map.iter().enumerate() {
                    to.push(if i == 0 { '{' } else { ',' });
                    quoted(name, to);
                    to.push(':');
                    one.write(to);
                }
                to.push_str(if map.is_empty() { "{}" } else { "}" });
            }
            value => to.push_str(&value.scalar().unwrap_or_default()),
        }
    }
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Claim;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Claim, E> {
        Ok(Claim::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Claim, E> {
        Ok(Claim::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Claim, E> {
        Ok(Claim::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Claim, E> {
        Ok(Claim::Whole(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Claim, E> {
        let whole = value.fract() == 0.0 && value.abs() < EXACT;
        Ok(if whole { Claim::Whole(value as i128) } else { Claim::Number(value) })
    }

    fn visit_str<E>(self, value: &str) -> Result<Claim, E> {
        Ok(Claim::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Claim, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Claim::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Claim, A::Error> {
        let (mut map, mut names) = (Vec::<(Box<str>, Claim)>::new(), std::collections::HashSet::new());
        while let Some((name, claim)) = entries.next_entry::<Box<str>, Claim>()? {
            if !names.insert(name.clone()) {
                return Err(de::Error::custom("a name is said twice"));
            }
            map.push((name, claim));
        }
        Ok(Claim::Map(map))
    }
}
