//! What a scalar without quotes is: YAML 1.2's core schema, which includes JSON's numbers and words.

use serde::de::{Unexpected, Visitor};

use super::fault::Fault;
use crate::tree::{Node, Value};

pub(super) fn visit<'de, V: Visitor<'de>>(text: &str, visitor: V) -> Result<V::Value, Fault> {
    match resolve(text) {
        Plain::Bool(value) => visitor.visit_bool(value),
        Plain::Unsigned(value) => visitor.visit_u64(value),
        Plain::Signed(value) => visitor.visit_i64(value),
        Plain::Float(value) => visitor.visit_f64(value),
        Plain::Text => visitor.visit_str(text),
    }
}

pub(super) fn describe(node: &Node) -> Unexpected<'_> {
    match &node.value {
        Value::Null => Unexpected::Unit,
        Value::Scalar { text, .. } => Unexpected::Str(text),
        Value::List(_) => Unexpected::Seq,
        Value::Map(_) => Unexpected::Map,
    }
}

enum Plain {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

fn resolve(text: &str) -> Plain {
    match text {
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Plain::Text;
    }
    let radix = |prefix, radix| text.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, radix).ok());
    let unsigned = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| text.parse().ok());
    if let Some(value) = unsigned {
        return Plain::Unsigned(value);
    }
    if let Ok(value) = text.parse() {
        return Plain::Signed(value);
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Plain::Float(value),
        _ => Plain::Text,
    }
}
