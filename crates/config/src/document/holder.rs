//! Who brings limits to a call beside routes and consumers: tenants, teams, plans, products. And how they name one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ClassKind;
use super::consumer::default_tenant;

/// The isolation boundary: keys, consumers and routes of one tenant never meet those of another. One that needs no more
/// than its name is not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantRule {
    /// As consumers and routes name it.
    pub name: String,
    /// Limits of all its calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitRef>,
    /// The plan of its consumers that have none. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The plan of callers who send no key, on its routes that ask for none. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous_plan: Option<String>,
}

/// A group of consumers inside a tenant. Where a tenant lists teams, its consumers name one of them or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamRule {
    /// Unique in its tenant; consumers name it.
    pub name: String,
    /// The tenant it is part of.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Limits of all calls of its consumers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitRef>,
}

/// A named set of limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Used by consumers, tenants, products and keys (`tidegate key create --plan`).
    pub name: String,
    /// Limits; all of them hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitRef>,
    /// The language models that callers on it may use: names of `models`. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// Calls of language models go only to deployments in one of these regions, or with one of these tags. Default: anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residency: Option<Vec<String>>,
    /// How soon requests of callers on it are served, and how late they are shed, while there is too little room. Default: as
    /// the route says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ClassKind>,
}

/// Routes that are offered together. A route is in one product at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductRule {
    /// Unique. What `per: [product]` counts apart.
    pub name: String,
    /// The tenant whose routes these are.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Names of routes.
    pub routes: Vec<String>,
    /// Names of limits of all its calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// Who may call it: callers on these plans; others are refused with 403. Default: everybody whom its routes let in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<OfferRule>,
    /// By limit, what one call costs of it. A route's own word counts more. Default: 1 of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, u64>,
}

/// A product as callers on one plan get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfferRule {
    /// Name of a plan.
    pub plan: String,
    /// Limits of their calls to this product, beside those of the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitRef>,
}

/// A limit's name, or with a maximum of its own: `{limit: daily, max: 500000}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitRef {
    Name(String),
    Own(OwnMax),
}

/// The limit with another maximum, and so with a count of its own. Changing the maximum keeps that count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnMax {
    /// Name of a limit.
    pub limit: String,
    /// Instead of the limit's own.
    #[schemars(range(min = 1))]
    pub max: u64,
}

impl LimitRef {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Own(own) => &own.limit,
        }
    }

    #[must_use]
    pub fn max(&self) -> Option<u64> {
        match self {
            Self::Name(_) => None,
            Self::Own(own) => Some(own.max),
        }
    }
}

impl Serialize for LimitRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => serializer.serialize_str(name),
            Self::Own(own) => own.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for LimitRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reference;
        impl<'de> Visitor<'de> for Reference {
            type Value = LimitRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a limit's name, or `{limit: NAME, max: NUMBER}`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LimitRef, E> {
                Ok(LimitRef::Name(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<LimitRef, E> {
                Ok(LimitRef::Name(value.to_string()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<LimitRef, A::Error> {
                OwnMax::deserialize(MapAccessDeserializer::new(map)).map(LimitRef::Own)
            }
        }
        deserializer.deserialize_any(Reference)
    }
}

impl JsonSchema for LimitRef {
    fn schema_name() -> Cow<'static, str> {
        "LimitRef".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let own = generator.subschema_for::<OwnMax>();
        json_schema!({"anyOf": [{"type": "string"}, own]})
    }
}
