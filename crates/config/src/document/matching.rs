//! Which requests a route takes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// All of it has to hold. The best route wins: exact host before `*.suffix` before any; path templates before prefixes,
/// literal segments before captures, longer before shorter; then `priority`, then more conditions, then document order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Any of them: `api.example.com`, or `*.example.com` for one or more labels before it. Default: every host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// `/v1/users/{id}` takes one segment as `id`, `/files/{*rest}` the rest; `/v1/*` is `/v1` and all below it. Default:
    /// `/*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Any of them; GET includes HEAD. Default: every method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// By header name: a text, or `{exact|prefix|regex: …}` or `{present: true}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, ValueTest>,
    /// By name of a query field, as for headers; values are compared decoded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, ValueTest>,
}

/// A text to be equal to, or a rule.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueTest {
    Text(String),
    Rule(ValueRule),
}

/// Exactly one of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueRule {
    /// Equal to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// Begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Somewhere in it this regular expression matches; use `^…$` for all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// `true`: sent at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
}

impl Serialize for ValueTest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Rule(rule) => rule.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ValueTest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Test;
        impl<'de> Visitor<'de> for Test {
            type Value = ValueTest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a map with one of exact, prefix, regex, present")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ValueTest, E> {
                Ok(ValueTest::Text(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<ValueTest, E> {
                Ok(ValueTest::Text(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<ValueTest, E> {
                Ok(ValueTest::Text(value.to_string()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ValueTest, A::Error> {
                ValueRule::deserialize(MapAccessDeserializer::new(map)).map(ValueTest::Rule)
            }
        }
        deserializer.deserialize_any(Test)
    }
}

impl JsonSchema for ValueTest {
    fn schema_name() -> Cow<'static, str> {
        "ValueTest".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rule = generator.subschema_for::<ValueRule>();
        json_schema!({"anyOf": [{"type": ["string", "integer", "boolean"]}, rule]})
    }
}
