//! One spelling of a call: two bodies that ask the same thing read the same here, however they were written.
//!
//! Members in the order of their names, no white space, escapes undone where they may be, `1.0` as `1`. What does not
//! change an answer is left out. Knows nothing of caches: whoever looks answers up makes a key of it.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};

use crate::Dialect;

/// Members of a call that change nothing of what a model says: how it is sent, and who asks.
const fn aside(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiResponses => &[
            "model",
            "stream",
            "stream_options",
            "user",
            "metadata",
            "safety_identifier",
            "prompt_cache_key",
            "prompt_cache_retention",
        ],
        Dialect::Anthropic => &["model", "stream", "metadata"],
        Dialect::Cohere => &["model", "stream"],
        Dialect::Gemini => &["model", "labels"],
        Dialect::Bedrock => &["modelId", "requestMetadata"],
    }
}

/// `None`: no JSON object, or one with a number that only its digits tell from others.
#[must_use]
pub fn canonical(dialect: Dialect, body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    let mut reader = serde_json::Deserializer::from_slice(body);
    reader.deserialize_map(Writer { out: &mut out, aside: aside(dialect) }).ok()?;
    reader.end().ok()?;
    Some(out)
}

/// Does it ask for the likeliest answer, or for one that can be drawn again: no temperature, or a seed?
#[must_use]
pub fn is_deterministic(body: &[u8]) -> bool {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Dials {
        temperature: Option<f64>,
        seed: Option<i64>,
    }
    #[derive(Deserialize)]
    struct Call {
        #[serde(flatten)]
        own: Dials,
        #[serde(default, alias = "generation_config", rename = "generationConfig")]
        gemini: Dials,
        #[serde(default, rename = "inferenceConfig")]
        bedrock: Dials,
    }
    let Ok(Call { own, gemini, bedrock }) = serde_json::from_slice(body) else { return false };
    [own, gemini, bedrock].iter().any(|dials| dials.temperature == Some(0.0) || dials.seed.is_some())
}

/// Writes the value it is given.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Members that are left out, of this object alone.
    aside: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for Writer<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Writer<'_> {
    fn text(self, text: &str) {
        serde_json::to_writer(self.out, text).expect("a text is written into memory");
    }

    fn plain(self, value: impl fmt::Display) {
        self.out.extend_from_slice(value.to_string().as_bytes());
    }
}

/// From here on a double does not know its neighbours.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl<'de> Visitor<'de> for Writer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.plain(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.plain(value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.plain(value);
        Ok(())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        if value.abs() >= EXACT {
            return Err(E::custom("only its digits tell this number from others"));
        }
        if value == 0.0 {
            self.plain(0); // Minus zero too.
        } else {
            self.plain(value); // `Display` writes 1.0 as 1, and never an exponent.
        }
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.text(value);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.out.push(b'[');
        loop {
            let before = self.out.len();
            if before > 0 && self.out[before - 1] != b'[' {
                self.out.push(b',');
            }
            if items.next_element_seed(Writer { out: self.out, aside: &[] })?.is_none() {
                self.out.truncate(before);
                break;
            }
        }
        self.out.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Names, and where their values stand.
        let mut members: Vec<(String, Vec<u8>)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let mut value = Vec::new();
            map.next_value_seed(Writer { out: &mut value, aside: &[] })?;
            if !self.aside.contains(&name.as_str()) {
                members.push((name, value));
            }
        }
        members.sort_by(|one, other| one.0.cmp(&other.0));
        if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(A::Error::custom("a member is given twice"));
        }
        self.out.push(b'{');
        for (at, (name, value)) in members.into_iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            serde_json::to_writer(&mut *self.out, &name).expect("a text is written into memory");
            self.out.push(b':');
            self.out.extend_from_slice(&value);
        }
        self.out.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<String> {
        canonical(Dialect::OpenAiChat, text.as_bytes()).map(|bytes| String::from_utf8(bytes).expect("JSON is UTF-8"))
    }

    #[test]
    fn however_it_is_spelled_a_call_reads_the_same() {
        let one =
            of(r#"{"model":"m","temperature":1.0,"messages":[{"role":"user","content":"h\u00e9 \n"},[],{}],"n":-0.0}"#);
        let other = of(
            "{ \"n\" : 0, \"messages\":[ {\"content\":\"hé \\n\",\"role\":\"user\"}, [ ], { } ],\n\"temperature\": 1e0 , \"model\":\"x\", \"stream\":true, \"stream_options\":{\"include_usage\":true}, \"user\":\"u\", \"metadata\":{\"a\":\"b\"}}",
        );
        assert_eq!(one, other);
        assert_eq!(
            one.expect("a call"),
            r#"{"messages":[{"content":"hé \n","role":"user"},[],{}],"n":0,"temperature":1}"#
        );
    }

    #[test]
    fn what_a_model_may_read_makes_another_call() {
        let texts = [
            r#"{"messages":[]}"#,
            r#"{"messages":[[]]}"#,
            r#"{"messages":[[],[]]}"#,
            r#"{"messages":["["]}"#,
            r#"{"messages":[{"user":"u"}]}"#,
            r#"{"messages":[{"stream":true}]}"#,
            r#"{"messages":"1"}"#,
            r#"{"messages":1}"#,
            r#"{"messages":1.5}"#,
            r#"{"messages":null}"#,
            r#"{"messages":[1,2]}"#,
            r#"{"messages":[12]}"#,
            r#"{"messages":[2,1]}"#,
            r#"{"messages":[],"seed":1}"#,
            r#"{"messages":[],"temperature":0.7}"#,
            r#"{"messages":18446744073709551615}"#,
            r#"{"messages":18446744073709551614}"#,
        ];
        let seen: std::collections::HashSet<_> = texts.iter().map(|text| of(text).expect(text)).collect();
        assert_eq!(seen.len(), texts.len());
    }

    #[test]
    fn what_cannot_be_told_apart_has_no_canonical_form() {
        for text in [
            "",
            "[]",
            "{",
            r#"{"a":1}x"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":184467440737095516160}"#,
            r#"{"a":1e300}"#,
            &format!(r#"{{"a":{}{}}}"#, "[".repeat(200), "]".repeat(200)),
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn each_dialect_says_where_it_says_it_that_an_answer_can_be_drawn_again() {
        for (text, is) in [
            (r#"{"temperature":0}"#, true),
            (r#"{"temperature":0.0,"seed":null}"#, true),
            (r#"{"temperature":0.2}"#, false),
            (r#"{"temperature":1,"seed":7}"#, true),
            (r#"{"generationConfig":{"temperature":0}}"#, true),
            (r#"{"generationConfig":{"seed":3}}"#, true),
            (r#"{"inferenceConfig":{"temperature":0}}"#, true),
            (r#"{"messages":[]}"#, false),
            ("[]", false),
        ] {
            assert_eq!(is_deterministic(text.as_bytes()), is, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_canonical_form_is_its_own(value in proptest::collection::vec(proptest::prelude::any::<(String, i32)>(), 0..8)) {
            let call: serde_json::Map<_, _> = value.into_iter().map(|(name, n)| (name, serde_json::json!([n, {"x": f64::from(n) / 8.0}]))).collect();
            let text = serde_json::to_vec(&call).expect("JSON");
            if let Some(once) = canonical(Dialect::Gemini, &text) {
                proptest::prop_assert_eq!(canonical(Dialect::Gemini, &once), Some(once.clone()));
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _any = canonical(Dialect::Bedrock, &bytes);
            let _any = is_deterministic(&bytes);
        }
    }
}
