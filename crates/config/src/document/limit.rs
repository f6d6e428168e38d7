//! Limits.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Unexpected;
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
    /// Used by routes, plans, products, consumers, teams and tenants.
    pub name: String,
    /// The length of the sliding window, from 100ms to 31d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub window: Option<Span>,
    /// Requests admitted in any window.
    #[schemars(range(min = 1))]
    pub max: u64,
    /// What is counted apart, each within its tenant: any of `tenant`, `team`, `consumer`, `key`, `end_user`, `route`,
    /// `product`, `method`, `host`, `ip`, `header:NAME`. `ip` is an IPv4 address or an IPv6 /64; `ip/24` cuts IPv4 to 24
    /// bits, `ip/56` IPv6 to 56, `ip/24/56` both. `[cluster]` or nothing: one count for all.
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
    /// What becomes of a call without a value for a part of `per`: without the header, the key, the team.
    #[serde(default)]
    pub on_missing: WhenMissing,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum WhenMissing {
    /// All such calls share one count.
    #[default]
    Share,
    /// The limit does not hold for it.
    Skip,
    /// It is refused with 400.
    Refuse,
}

/// One part of a limit's scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopePart {
    Cluster,
    Tenant,
    Team,
    Consumer,
    Key,
    EndUser,
    Route,
    Product,
    Method,
    Host,
    /// Leading bits of an IPv4 and of an IPv6 address.
    Ip(u8, u8),
    Header(String),
}

const WORDS: [&str; 12] = [
    "tenant",
    "team",
    "consumer",
    "key",
    "end_user",
    "route",
    "product",
    "method",
    "host",
    "ip",
    "cluster",
    "header:NAME",
];

impl fmt::Display for ScopePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Tenant => "tenant",
            Self::Team => "team",
            Self::Consumer => "consumer",
            Self::Key => "key",
            Self::EndUser => "end_user",
            Self::Route => "route",
            Self::Product => "product",
            Self::Method => "method",
            Self::Host => "host",
            Self::Ip(32, 64) => "ip",
            Self::Ip(v4, 64) => return write!(f, "ip/{v4}"),
            Self::Ip(32, v6 @ 33..) => return write!(f, "ip/{v6}"),
            Self::Ip(v4, v6) => return write!(f, "ip/{v4}/{v6}"),
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
            "team" => Self::Team,
            "consumer" => Self::Consumer,
            "key" => Self::Key,
            "end_user" => Self::EndUser,
            "route" => Self::Route,
            "product" => Self::Product,
            "method" => Self::Method,
            "host" => Self::Host,
            "ip" => Self::Ip(32, 64),
            _ => match (text.strip_prefix("header:"), text.strip_prefix("ip/")) {
                (Some(name), _) => Self::Header(name.to_owned()),
                (None, Some(lengths)) => prefix(lengths).ok_or_else(|| {
                    serde::de::Error::invalid_value(
                        Unexpected::Str(&text),
                        &"`ip/24` (1 to 32: of IPv4), `ip/56` (33 to 128: of IPv6), or both: `ip/24/56`",
                    )
                })?,
                (None, None) => return Err(serde::de::Error::unknown_variant(&text, &WORDS)),
            },
        })
    }
}

/// `24`: of IPv4. `56`: of IPv6, since no IPv4 prefix is so long. `24/56`: of both.
fn prefix(lengths: &str) -> Option<ScopePart> {
    let length = |text: &str, most: u8| {
        let plain = !text.starts_with(['+', '0']);
        text.parse().ok().filter(|length: &u8| plain && (1..=most).contains(length))
    };
    Some(match lengths.split_once('/') {
        Some((v4, v6)) => ScopePart::Ip(length(v4, 32)?, length(v6, 128)?),
        None => match length(lengths, 128)? {
            v4 @ ..=32 => ScopePart::Ip(v4, 64),
            v6 => ScopePart::Ip(32, v6),
        },
    })
}

impl JsonSchema for ScopePart {
    fn schema_name() -> Cow<'static, str> {
        "ScopePart".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^(tenant|team|consumer|key|end_user|route|product|method|host|ip(/[0-9]{1,3}){0,2}|cluster|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+)$"})
    }
}
