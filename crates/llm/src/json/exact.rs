//! Numbers as they were written. [`serde_json`] holds whole ones of 64 bits and floats; a longer one would come out as another
//! number, and `1.50` as `1.5`. What is not ours to read (arguments of tools, schemas) has to come out as it came in, so a
//! number that would not is held as an object of one member, under a name that nothing from outside can have: names like it
//! are renamed when they are read.

use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use super::doc::At;
use super::scan::{Scan, Strings};

/// U+10FFFF stands for no character, and never will.
const MARK: &str = "\u{10FFFF}";
const RENAMED: &str = "\u{FFFD}";

/// A number as it is written.
pub(super) fn number(text: &str) -> Option<Value> {
    let number: Number = text.parse().ok()?;
    if !is_odd(text) {
        return Some(Value::Number(number));
    }
    let mut held = Map::new();
    held.insert(MARK.to_owned(), Value::String(text.to_owned()));
    Some(Value::Object(held))
}

/// The text of a number that is held so.
pub(super) fn held(value: &Value) -> Option<&str> {
    let Value::Object(map) = value else { return None };
    let text = map.get(MARK)?.as_str().filter(|_| map.len() == 1)?;
    let mut scan = Scan::new(text);
    (scan.number().is_ok() && scan.at == text.len()).then_some(text)
}

/// A name from outside.
pub(super) fn name(name: &str) -> &str {
    if name == MARK { RENAMED } else { name }
}

/// What serde_json read, made safe. True: there are floats in it, which may have been written otherwise.
pub(super) fn vet(value: &mut Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(list) => list.iter_mut().fold(false, |floats, item| vet(item) | floats),
        Value::Object(members) => {
            if let Some(member) = members.remove(MARK) {
                members.insert(RENAMED.to_owned(), member);
            }
            members.values_mut().fold(false, |floats, member| vet(member) | floats)
        }
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// Has it numbers that serde_json would write otherwise?
pub(super) fn has_odd(text: &str) -> bool {
    struct Odd(bool);
    impl Strings for Odd {
        fn string(&mut self, _: &[u8]) {}

        fn number(&mut self, text: &str) {
            self.0 |= is_odd(text);
        }
    }
    let mut odd = Odd(false);
    Scan::new(text).skip(&mut odd).is_ok() && odd.0
}

fn is_odd(text: &str) -> bool {
    // Whole numbers of 18 digits are what they are.
    let plain = text.len() < 19 && text != "-0" && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    !plain && text.parse::<Number>().is_ok_and(|number| number.to_string() != text)
}

/// As it was read, numbers as they were written.
pub(super) fn value(at: At<'_>) -> Option<Value> {
    at.tree(&number)
}

/// A value as it goes out: numbers as they came in.
pub(super) struct Exact<'v>(pub(super) &'v Value);

impl Serialize for Exact<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(list) => {
                let mut out = serializer.serialize_seq(Some(list.len()))?;
                list.iter().try_for_each(|item| out.serialize_element(&Self(item)))?;
                out.end()
            }
            value @ Value::Object(members) => {
                if let Some(text) = held(value) {
                    let raw = RawValue::from_string(text.to_owned()).map_err(S::Error::custom)?;
                    return raw.serialize(serializer);
                }
                let mut out = serializer.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(name, member)| out.serialize_entry(name, &Self(member)))?;
                out.end()
            }
            value => value.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{read_json, text, write_value};

    /// Read and written again.
    fn again(text: &str) -> String {
        let mut out = Vec::new();
        write_value(&read_json(text.as_bytes()).unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_come_out_as_they_came_in() {
        for text in [
            r#"{"a":123456789012345678901234567890,"b":[-99999999999999999999,{"c":0.1234567890123456789012345}]}"#,
            r#"{"price":1.50,"big":1e300,"small":-0,"e":2E+5,"plain":[1,-1,1.5,18446744073709551615,-9223372036854775808]}"#,
            r#"[18446744073709551616,0.30000000000000004,1.0,"1.50"]"#,
        ] {
            assert_eq!(again(text), text);
        }
    }

    #[test]
    fn nobody_else_can_hold_a_number_so() {
        let forged = "{\"a\":{\"\u{10FFFF}\":\"1\"}}";
        assert_eq!(again(forged), "{\"a\":{\"\u{FFFD}\":\"1\"}}");
        let escaped = r#"{"a":{"\udbff\udfff":"}"},"b":1.50}"#;
        assert_eq!(again(escaped), "{\"a\":{\"\u{FFFD}\":\"}\"},\"b\":1.50}");
        // Even if one could: what is no number is none.
        let held = serde_json::json!({"a": {"\u{10FFFF}": "1,2"}, "b": {"\u{10FFFF}": "1.50"}});
        assert_eq!(text(&held), "{\"a\":{\"\u{10FFFF}\":\"1,2\"},\"b\":1.50}");
    }

    #[test]
    fn what_is_read_of_them_is_their_value() {
        use super::super::{Fields, Look};
        let mut fields = Fields::parse(br#"{"heat":0.70,"most":1e3,"object":2.50}"#).unwrap();
        assert_eq!(fields.number("heat").unwrap().and_then(|heat| heat.as_f64()), Some(0.7));
        assert_eq!(fields.count("most"), Ok(Some(1_000)));
        assert!(fields.object("object").is_err());
        let value = read_json(br#"{"tokens":12.00}"#).unwrap();
        assert_eq!(Look::whole(&value["tokens"]), Some(12));
    }
}
