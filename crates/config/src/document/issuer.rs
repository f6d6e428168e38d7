//! Whose tokens (JWT) are accepted, and what is made of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::Span;

/// Somebody who signs tokens (JWT) that routes accept: `auth: [jwt]`, or `auth: ["jwt:NAME"]` for one of several. Exactly one
/// of `jwks`, `public_key`, `secret` checks their signatures. A token without `exp` is never good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerRule {
    /// Unique. Counters by claim are kept by it: two issuers' claims are never the same.
    pub name: String,
    /// What a token's `iss` must be, to the letter. Default: it is not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// A token's `aud` must name one of these. Default: it is not looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// Its public keys, as a JWK set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<JwksRule>,
    /// A file with its public key in PEM, relative to the node's working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// A secret that it shares with us, of 32 bytes or more: `${secrets.NAME}` and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The secret is written in base64.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret_base64: bool,
    /// Any of `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`; with `secret` of `HS256`,
    /// `HS384`, `HS512`. A key says further which it is for. Default: RS256, PS256, ES256, ES384, EdDSA; with `secret` HS256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<String>,
    /// The issuer's clock and ours differ by so much, 0s to 5m. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leeway: Option<Span>,
    /// Claims that a token must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<String>,
    /// Where requests carry the token: `bearer` (the `Authorization` header), `header:NAME`, `cookie:NAME`, `query:NAME`.
    /// Default: bearer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<TokenSource>,
    /// Does the upstream get the token? Default: it is taken off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward_token: bool,
    /// The claim that names the consumer (of the route's tenant), as `azp`. Default: tokens are of no consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer_claim: Option<String>,
    /// With `consumer_claim`: what becomes of a token that names no consumer of the document.
    #[serde(default)]
    pub unknown_consumer: UnknownConsumer,
    /// The claim that names the end user, for limits `per: [end_user]`. Default: the header, as for keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_user_claim: Option<String>,
    /// Headers for the upstream, each with the claim it says. Requests' own headers of these names are taken off on all routes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// A JWK set. Exactly one of `url`, `file`, `json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwksRule {
    /// Where each node fetches it: `https://id.example.com/jwks.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// With an `https` URL: a file of PEM roots to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// With `url`: how often it is fetched anew, 5s to 7d. A token of an unknown key has it fetched at once. Default: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Span>,
    /// With `url`: so long the last keys are good while it cannot be fetched, at least `refresh`. Default: 1d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_stale: Option<Span>,
    /// A file on each node, relative to its working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The set itself: `{"keys": […]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum UnknownConsumer {
    /// It is refused with 403.
    #[default]
    Refuse,
    /// It is served, and counted as nobody's.
    Anonymous,
}

/// Where a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    Bearer,
    Header(String),
    Cookie(String),
    Query(String),
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
        }
    }
}

impl Serialize for TokenSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.split_once(':') {
            None if text == "bearer" => Ok(Self::Bearer),
            Some(("header", name)) => Ok(Self::Header(name.to_owned())),
            Some(("cookie", name)) => Ok(Self::Cookie(name.to_owned())),
            Some(("query", name)) => Ok(Self::Query(name.to_owned())),
            _ => Err(serde::de::Error::unknown_variant(&text, &["bearer", "header:NAME", "cookie:NAME", "query:NAME"])),
        }
    }
}

impl JsonSchema for TokenSource {
    fn schema_name() -> Cow<'static, str> {
        "TokenSource".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^(bearer|(header|cookie|query):[!#$%&'*+.^_`|~0-9A-Za-z-]+)$"})
    }
}

/// Who may call a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthKind {
    Key,
    /// Of any issuer, or of this one.
    Jwt(Option<String>),
}

impl fmt::Display for AuthKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::Jwt(None) => f.write_str("jwt"),
            Self::Jwt(Some(name)) => write!(f, "jwt:{name}"),
        }
    }
}

impl Serialize for AuthKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AuthKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kind;
        impl<'de> serde::de::Visitor<'de> for Kind {
            type Value = AuthKind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`key`, `jwt` or `jwt:NAME`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<AuthKind, E> {
                match (text, text.strip_prefix("jwt:")) {
                    ("key", _) => Ok(AuthKind::Key),
                    ("jwt", _) => Ok(AuthKind::Jwt(None)),
                    (_, Some(name)) => Ok(AuthKind::Jwt(Some(name.trim().to_owned()))),
                    _ => Err(E::unknown_variant(text, &["key", "jwt", "jwt:NAME"])),
                }
            }

            /// `auth: [jwt: NAME]`, which YAML reads as a map.
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<AuthKind, A::Error> {
                let first = map.next_entry::<String, String>()?;
                match first {
                    Some((word, name)) if word == "jwt" && map.next_key::<String>()?.is_none() => {
                        Ok(AuthKind::Jwt(Some(name)))
                    }
                    _ => Err(serde::de::Error::invalid_type(serde::de::Unexpected::Map, &self)),
                }
            }
        }
        deserializer.deserialize_any(Kind)
    }
}

impl JsonSchema for AuthKind {
    fn schema_name() -> Cow<'static, str> {
        "AuthKind".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string", "pattern": "^(key|jwt|jwt:.+)$"},
            {"type": "object", "properties": {"jwt": {"type": "string"}}, "required": ["jwt"], "additionalProperties": false}
        ]})
    }
}
