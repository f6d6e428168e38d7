//! What an authority says, as JSON (RFC 8555 § 7.1). Fields that are not needed are not read.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Directory {
    pub(crate) new_nonce: String,
    pub(crate) new_account: String,
    pub(crate) new_order: String,
    #[serde(default)]
    pub(crate) meta: Meta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meta {
    #[serde(default)]
    pub(crate) external_account_required: bool,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Account {
    /// A list of its orders, where an authority offers one.
    #[serde(default)]
    pub(crate) orders: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Orders {
    #[serde(default)]
    pub(crate) orders: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Order {
    pub(crate) status: Status,
    #[serde(default)]
    pub(crate) identifiers: Vec<Identifier>,
    #[serde(default)]
    pub(crate) authorizations: Vec<String>,
    #[serde(default)]
    pub(crate) finalize: String,
    #[serde(default)]
    pub(crate) certificate: Option<String>,
    #[serde(default)]
    pub(crate) error: Option<Problem>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
    Deactivated,
    Expired,
    Revoked,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Identifier {
    #[serde(default)]
    pub(crate) value: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Authorization {
    pub(crate) status: Status,
    pub(crate) identifier: Identifier,
    #[serde(default)]
    pub(crate) challenges: Vec<Challenge>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Challenge {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) token: String,
    pub(crate) status: Status,
    #[serde(default)]
    pub(crate) error: Option<Problem>,
}

/// RFC 7807.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Problem {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) detail: String,
    #[serde(default)]
    pub(crate) subproblems: Vec<Problem>,
    #[serde(default)]
    pub(crate) identifier: Option<Identifier>,
}

impl Problem {
    /// Without the name space that all kinds share.
    pub(crate) fn kind(&self) -> &str {
        self.kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(&self.kind)
    }

    /// One line; its length has a bound.
    pub(crate) fn words(&self) -> String {
        let mut words = match self.detail.is_empty() {
            true => self.kind().to_owned(),
            false => format!("{} ({})", self.detail, self.kind()),
        };
        for part in self.subproblems.iter().take(4) {
            let host = part.identifier.as_ref().map_or("", |identifier| identifier.value.as_str());
            words.push_str(&format!("; {host}: {}", part.detail));
        }
        short(&words, 1_000)
    }
}

/// Cut at so many characters, without control characters.
pub(crate) fn short(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}
