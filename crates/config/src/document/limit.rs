//! Limits.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Later;
use crate::units::Span;

/// At most `max` requests in any window, for each distinct subject of `per`, over the whole cluster.
///
/// Changing `max`, `mode` or `on_unavailable` keeps the count. Changing `window` or `per` makes a new limit that
/// starts empty, while the old one drains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitRule {
    /// Used by routes and plans.
    pub name: String,
    /// The length of the sliding window, from 100ms to 31d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub window: Option<Span>,
    /// Requests admitted in any window.
    #[schemars(range(min = 1))]
    pub max: u64,
    /// What is counted apart: any of `tenant`, `consumer`, `key`, `route`, `ip`, `header:NAME`. `[cluster]` or nothing:
    /// one count for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per: Vec<ScopePart>,
    /// Refuse, or only report what would have been refused.
    #[serde(default)]
    pub mode: LimitMode,
    /// What a node does when its share is spent and no leader answers.
    #[serde(default)]
    pub on_unavailable: WhenUnavailable,
    /// Does an answer from the cache count?
    #[serde(default = "yes")]
    pub count_hits: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub calendar: Option<Later>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub zone: Option<Later>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LimitMode {
    /// Refuses with 429.
    #[default]
    Enforce,
    /// Refuses nothing.
    Observe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum WhenUnavailable {
    /// Refuses: exact.
    #[default]
    Deny,
    /// Serves from a part of `max` that this node already holds: exact. Up to a quarter of `max` is set aside for this
    /// on the nodes that use the limit, each part good for its node alone.
    Share,
    /// Serves: not exact, metered and labelled unsafe.
    Allow,
}

/// One part of a limit's scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopePart {
    Cluster,
    Tenant,
    Consumer,
    Key,
    Route,
    Ip,
    Header(String),
}

const WORDS: [&str; 7] = ["tenant", "consumer", "key", "route", "ip", "cluster", "header:NAME"];

impl fmt::Display for ScopePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Tenant => "tenant",
            Self::Consumer => "consumer",
            Self::Key => "key",
            Self::Route => "route",
            Self::Ip => "ip",
            Self::Header(name) => return write!(f, "header:{name}"),
        })
    }
}

impl Serialize for ScopePart {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ScopePart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match &*text {
            "cluster" => Self::Cluster,
            "tenant" => Self::Tenant,
            "consumer" => Self::Consumer,
            "key" => Self::Key,
            "route" => Self::Route,
            "ip" => Self::Ip,
            _ => match text.strip_prefix("header:") {
                Some(name) => Self::Header(name.to_owned()),
                None => return Err(serde::de::Error::unknown_variant(&text, &WORDS)),
            },
        })
    }
}

impl JsonSchema for ScopePart {
    fn schema_name() -> Cow<'static, str> {
        "ScopePart".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^(tenant|consumer|key|route|ip|cluster|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+)$"})
    }
}
