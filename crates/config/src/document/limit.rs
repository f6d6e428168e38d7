//! Limits.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Unexpected;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{Money, RateText, Share, Span};

/// How much of something is admitted, for each distinct subject of `per`, over the whole cluster. One of:
///
/// - `window` and `max`: at most `max` in any window of this length;
/// - `rate` and `burst`: a token bucket, any stretch of time admits at most the burst and what the rate brings in it;
/// - `concurrency`: so many at a time;
/// - `calendar` and `max`: at most `max` in each minute, hour, day, week or month of a time zone;
/// - `budget`: a sum of calls, tokens or money, with what was left of the last period and alerts.
///
/// Changing amounts, `mode` or `on_unavailable` keeps the count. Changing the kind, its window or calendar, what a cost is
/// taken from, or `per` makes a new limit that starts empty, while the old one drains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitRule {
    /// Used by routes, plans, products, consumers, teams and tenants.
    pub name: String,
    /// The length of a sliding window, from 100ms to 31d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// A window of the calendar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CalendarPeriod")]
    pub calendar: Option<CalendarPeriod>,
    /// The time zone of `calendar`, as `Europe/Berlin`. Default: UTC. The zone database is part of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What a bucket is refilled with, as `10/s` or `600/1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateText>,
    /// What a bucket holds. Default: what the rate brings in a second, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub burst: Option<u64>,
    /// Requests at a time. One ends with the last byte of its answer, a WebSocket when it closes. A node that loses the
    /// quota group for longer than its lease ends what it runs: another node may use the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub concurrency: Option<u64>,
    /// A sum for a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetRule>,
    /// Admitted in a `window` or in a window of the `calendar`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max: Option<u64>,
    /// What a call costs. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostRule>,
    /// What is counted apart, each within its tenant: any of `tenant`, `team`, `consumer`, `key`, `end_user`, `route`,
    /// `product`, `method`, `host`, `model`, `ip`, `header:NAME`, `claim:NAME` (of a token). `model` is the language model, by
    /// its name in `models`. `ip` is an IPv4 address or an IPv6 /64; `ip/24` cuts IPv4 to 24
    /// bits, `ip/56` IPv6 to 56, `ip/24/56` both. `[cluster]` or nothing: one count for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per: Vec<ScopePart>,
    /// Refuse, or only report what would have been refused.
    #[serde(default)]
    pub mode: LimitMode,
    /// What a node does when its share is spent and no leader answers.
    #[serde(default)]
    pub on_unavailable: WhenUnavailable,
    /// What becomes of a call without a value for a part of `per`: without the header, the key, the team.
    #[serde(default)]
    pub on_missing: WhenMissing,
    /// Does an answer from the cache count? Default: yes, but not in budgets of tokens or money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_hits: Option<bool>,
}

/// A sum for a period of the calendar, or for ever. One of `count`, `tokens`, `money`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetRule {
    /// Calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub count: Option<u64>,
    /// Tokens, or whatever `cost` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub tokens: Option<u64>,
    /// An amount such as `25.50`. Costs are counted in billionths of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<Money>,
    pub per: BudgetPeriod,
    /// The time zone of the period. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What was left of the last period is there in this one as well, up to this share of the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carry_over: Option<Share>,
    /// Percent of the budget that raise an alert when they are spent, once in each period: a line in the log and a metric.
    #[serde(default = "usual_alerts")]
    pub alerts: Vec<u8>,
}

fn usual_alerts() -> Vec<u8> {
    vec![50, 80, 100]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum CalendarPeriod {
    /// Of the clock.
    Minute,
    /// Of the clock.
    Hour,
    /// From midnight on, 23 to 25 hours.
    Day,
    /// From Monday on.
    Week,
    /// From the first on.
    Month,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum BudgetPeriod {
    /// Of the clock.
    Minute,
    /// Of the clock.
    Hour,
    /// From midnight on, 23 to 25 hours.
    Day,
    /// From Monday on.
    Week,
    /// From the first on.
    Month,
    /// From the first of January on.
    Year,
    /// Never filled up again.
    Total,
}

/// What a call costs: a `weight`, or a number that is known when it has ended. Until then `estimate` is reserved. A call that comes
/// to more reserves more, step by step, while it runs; what was not used comes back, what was used and was not there is taken
/// from what comes next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CostRule {
    /// Each call costs so much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub weight: Option<u64>,
    /// `request_bytes`, `response_bytes`, `tokens` or `money` of a language model (calls of other routes cost nothing), or
    /// `header:NAME`: a whole number in a header of the upstream's answer. Money is counted in billionths of a dollar, of which
    /// `max: 1000000000` is one; prices are the deployments' and the `catalogue`'s. Default of a `budget` of `money`: `money`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<CostSource>,
    /// Reserved until the cost is known. A header that does not come costs this much. Default: 1; of `request_bytes`, the
    /// length that the request announces; of `tokens`, the most that the call can come to: the bytes of its body and the
    /// tokens of its answer that it, its model's `max_output` or the catalogue allows, or else 4096. Of `money` it is always the
    /// most that the call can cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub estimate: Option<u64>,
    /// Of `money`: what becomes of a call whose model has no known price at one of its deployments. Default: `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UnpricedRule")]
    pub unpriced: Option<UnpricedRule>,
    /// One call counts for no more than this, whatever it comes to. What was above it is told in a warning and in
    /// `tidegate_limit_capped_costs_total`. Default: of a `header:NAME`, which somebody else tells us, the maximum, so that one
    /// wrong number is paid for after one window or period; of `tokens` and `money` the maximum, or a hundred times what was
    /// reserved, if that is more; bytes are counted here, and count as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub at_most: Option<u64>,
    /// What becomes of a call that comes to more than is there while it runs. Of bytes, `tokens` and `money`. Default: `finish`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BeyondRule")]
    pub beyond: Option<BeyondRule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum BeyondRule {
    /// It goes on; what it uses beyond is taken from what comes next.
    Finish,
    /// It is ended before it uses what is not there: HTTP/1.1 breaks its framing, HTTP/2 resets the stream, a language model's
    /// stream ends with an error in the caller's dialect. Before the answer has begun it is refused with 429.
    Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum UnpricedRule {
    /// It is refused with `model_unpriced`.
    Refuse,
    /// It costs what its provider says that it cost, or else nothing.
    Free,
}

/// Where a cost is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CostSource {
    RequestBytes,
    ResponseBytes,
    Tokens,
    Money,
    Header(String),
}

impl fmt::Display for CostSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestBytes => f.write_str("request_bytes"),
            Self::ResponseBytes => f.write_str("response_bytes"),
            Self::Tokens => f.write_str("tokens"),
            Self::Money => f.write_str("money"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

impl Serialize for CostSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CostSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match (&*text, text.strip_prefix("header:")) {
            ("request_bytes", _) => Self::RequestBytes,
            ("response_bytes", _) => Self::ResponseBytes,
            ("tokens", _) => Self::Tokens,
            ("money", _) => Self::Money,
            (_, Some(name)) => Self::Header(name.to_owned()),
            _ => {
                return Err(serde::de::Error::unknown_variant(
                    &text,
                    &["request_bytes", "response_bytes", "tokens", "money", "header:NAME"],
                ));
            }
        })
    }
}

impl JsonSchema for CostSource {
    fn schema_name() -> Cow<'static, str> {
        "CostSource".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^(request_bytes|response_bytes|tokens|money|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+)$"})
    }
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
    Model,
    /// Leading bits of an IPv4 and of an IPv6 address.
    Ip(u8, u8),
    Header(String),
    Claim(String),
}

const WORDS: [&str; 14] = [
    "tenant",
    "team",
    "consumer",
    "key",
    "end_user",
    "route",
    "product",
    "method",
    "host",
    "model",
    "ip",
    "cluster",
    "header:NAME",
    "claim:NAME",
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
            Self::Model => "model",
            Self::Ip(32, 64) => "ip",
            Self::Ip(v4, 64) => return write!(f, "ip/{v4}"),
            Self::Ip(32, v6 @ 33..) => return write!(f, "ip/{v6}"),
            Self::Ip(v4, v6) => return write!(f, "ip/{v4}/{v6}"),
            Self::Header(name) => return write!(f, "header:{name}"),
            Self::Claim(name) => return write!(f, "claim:{name}"),
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
            "model" => Self::Model,
            "ip" => Self::Ip(32, 64),
            _ if text.starts_with("claim:") => Self::Claim(text[6..].to_owned()),
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
        json_schema!({"type": "string", "pattern": "^(tenant|team|consumer|key|end_user|route|product|method|host|model|ip(/[0-9]{1,3}){0,2}|cluster|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+|claim:[^ ]+)$"})
    }
}
