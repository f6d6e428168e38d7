//! When endpoints of an upstream count as sick, and what is done meanwhile.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::RespondRule;
use crate::units::{Share, Span};

/// An endpoint that fails is not asked for a while; the whole cluster decides, each node first for itself. Without this,
/// a node sets an endpoint aside for seconds when it cannot connect to it three times in a row.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakerRule {
    /// Share of failed calls in the window that opens it. Calls fail when there is no connection, no answer in time, a
    /// reset, or one of `statuses`. Default: 50%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_ratio: Option<Share>,
    /// The sliding window. Default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// Fewer calls in the window say nothing. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_requests: Option<u32>,
    /// Failures in a row that open it whatever the window says. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub consecutive: Option<u32>,
    /// Opens it when too many answers are slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<SlowRule>,
    /// How long it stays open; doubled each time the one request that may try it fails. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_for: Option<Span>,
    /// The doubling ends here. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_open: Option<Span>,
    /// From the first good request to its whole share: 10, 25, 50, 100 %. Default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Span>,
    /// Share of the upstream's endpoints that may be set aside while others work. Default: 50%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ejected: Option<Share>,
    /// Statuses that are failures: `500`, `5xx` or `500-504`, from 500 on. Default: [502, 503, 504].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statuses: Option<Vec<StatusRange>>,
    /// While all endpoints are open, or the backend fails, what the route's `cache` has stands in, so long after it became
    /// stale; what must be revalidated never does. A `fallback` is asked before, `respond` comes after. Default: not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Span>,
    /// While all endpoints are open, requests go to this upstream. Default: they are refused with 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// While all endpoints are open, requests get this answer. Default: they are refused with 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<RespondRule>,
}

/// What is slow, and how much of it is too much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlowRule {
    /// An answer whose head takes longer is slow.
    pub over: Span,
    /// Share of slow answers in the window that opens it. Default: 80%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Share>,
}

/// Endpoints are asked whether they are well: each by two or three nodes, which tell the others. Exactly one of `path`,
/// `grpc`, `tcp`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthRule {
    /// Asked with `GET` over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// With `path`: the `Host` that is sent. Default: the endpoint's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// With `path`: the statuses of a well endpoint: `200`, `2xx` or `200-399`. Default: [2xx].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statuses: Option<Vec<StatusRange>>,
    /// The service that is asked for with `grpc.health.v1.Health/Check`; `""` asks for the whole server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
    /// A connection that stands is enough.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tcp: bool,
    /// Between two checks of one node, jittered by a tenth. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// A check that takes longer is a bad one. Default: 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Good checks in a row until a sick endpoint is well. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub healthy: Option<u32>,
    /// Bad checks in a row until it is sick. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy: Option<u32>,
    /// An endpoint that is new or came back gets its share bit by bit over this span. Default: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Span>,
    /// With fewer endpoints well than this share, all are used. Default: 0%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic_below: Option<Share>,
}

/// One status or some in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange(pub u16, pub u16);

impl StatusRange {
    fn parse(text: &str) -> Option<Self> {
        let status = |text: &str| text.parse::<u16>().ok().filter(|_| text.len() == 3 && !text.starts_with('+'));
        if let Some(class) = text.strip_suffix("xx") {
            let class = class.parse::<u16>().ok().filter(|class| (1..=5).contains(class))?;
            return Some(Self(class * 100, class * 100 + 99));
        }
        match text.split_once('-') {
            Some((first, last)) => Some(Self(status(first)?, status(last)?)),
            None => status(text).map(|status| Self(status, status)),
        }
        .filter(|Self(first, last)| first <= last && (100..600).contains(first) && *last < 600)
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(first, last) = *self;
        if first == last {
            serializer.serialize_u16(first)
        } else if first % 100 == 0 && last == first + 99 {
            serializer.collect_str(&format_args!("{}xx", first / 100))
        } else {
            serializer.collect_str(&format_args!("{first}-{last}"))
        }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Range;
        impl Visitor<'_> for Range {
            type Value = StatusRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status (`503`), a class (`5xx`) or a range (`500-504`)")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<StatusRange, E> {
                let status = u16::try_from(number).ok().filter(|status| (100..600).contains(status));
                let wrong = || E::invalid_value(de::Unexpected::Unsigned(number), &self);
                status.map(|status| StatusRange(status, status)).ok_or_else(wrong)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusRange, E> {
                StatusRange::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Range)
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string", "pattern": "^([1-5]xx|[1-5][0-9]{2}(-[1-5][0-9]{2})?)$"},
            {"type": "integer", "minimum": 100, "maximum": 599}
        ]})
    }
}
