//! What is done when more is asked than can be served.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{Share, Span};

/// How soon a request is served, and how late it is shed, while there is too little room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ClassKind {
    /// Before all others.
    Critical,
    /// Before what is normal.
    High,
    /// What nobody said anything about.
    Normal,
    /// Shed first: batches, prefetches.
    Low,
}

/// How many requests each node has running at an upstream, who waits for a place, and who is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverloadRule {
    /// `adaptive`: learnt from how long answers take to begin, and from failures; a number: that many, until their answers'
    /// last byte. Default: adaptive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyRule>,
    /// With `adaptive`: never fewer. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min: Option<u32>,
    /// With `adaptive`: never more. Default: 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max: Option<u32>,
    /// Requests that wait for a place: the better class first, within a class each consumer in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueRule>,
    /// A header of requests that names their class, for load balancers and gateways in front: believed from
    /// `listeners.trusted_proxies` alone. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_header: Option<String>,
}

/// Bounds on those who wait.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueRule {
    /// So many, per node; 0: nobody waits. Default: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub max: Option<u32>,
    /// So many of one consumer; of callers who proved nothing, of one address. Default: half of `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub per_consumer: Option<u32>,
    /// Who waits longer is refused: 503, `upstream_overloaded`. Default: 500ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
}

/// A second try beside one whose answer is late, at another endpoint where there is one: of GET, HEAD, OPTIONS, PUT and
/// DELETE without a body. The first good answer wins, the other try is cancelled. As a retry it counts for the route's limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BesideRule {
    /// When no answer has begun by then: a span, or `p95`, what 95 of 100 answers of this upstream take.
    pub after: AfterRule,
    /// Share of the upstream's recent requests that may be asked twice; they take from the budget of `retries` too.
    /// Default: 10%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Share>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConcurrencyRule {
    Adaptive,
    Fixed(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRule {
    P95,
    Span(Span),
}

impl Serialize for ConcurrencyRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Adaptive => serializer.serialize_str("adaptive"),
            Self::Fixed(limit) => serializer.serialize_u32(*limit),
        }
    }
}

impl<'de> Deserialize<'de> for ConcurrencyRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Many;
        impl Visitor<'_> for Many {
            type Value = ConcurrencyRule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`adaptive` or a number from 1 to 1000000")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ConcurrencyRule, E> {
                let limit = u32::try_from(number).ok().filter(|limit| (1..=1_000_000).contains(limit));
                limit
                    .map(ConcurrencyRule::Fixed)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ConcurrencyRule, E> {
                match text {
                    "adaptive" => Ok(ConcurrencyRule::Adaptive),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Many)
    }
}

impl JsonSchema for ConcurrencyRule {
    fn schema_name() -> Cow<'static, str> {
        "ConcurrencyRule".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string", "enum": ["adaptive"]},
            {"type": "integer", "minimum": 1, "maximum": 1_000_000}
        ]})
    }
}

impl Serialize for AfterRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::P95 => serializer.serialize_str("p95"),
            Self::Span(span) => span.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AfterRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use de::IntoDeserializer as _;
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "p95" => Ok(Self::P95),
            other => Span::deserialize(other.into_deserializer()).map(Self::Span),
        }
    }
}

impl JsonSchema for AfterRule {
    fn schema_name() -> Cow<'static, str> {
        "AfterRule".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let span = Span::json_schema(generator);
        json_schema!({"anyOf": [{"type": "string", "enum": ["p95"]}, span]})
    }
}
