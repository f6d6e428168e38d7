//! The account at an authority. Its key is made and kept before the authority hears of it: registering the same key again finds
//! the same account (RFC 8555 § 7.3), so whoever dies in between leaves none behind.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as URL_SAFE};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::{Client, Reply};
use crate::jws::{By, Key};
use crate::trouble::Trouble;

/// As it is kept: sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// PKCS#8, base64.
    key: String,
    /// What the authority calls it; empty: it was not heard of yet.
    url: String,
    contacts: Vec<String>,
}

/// An account elsewhere that vouches for ours (RFC 8555 § 7.3.4).
pub struct External<'a> {
    pub kid: &'a str,
    /// As it was given out: base64url.
    pub key: &'a str,
}

impl Account {
    /// # Errors
    /// There is no randomness.
    pub fn new() -> Result<Self, Trouble> {
        let key = Key::generate().map_err(Trouble::no_answer)?;
        Ok(Self { key: BASE64.encode(key), url: String::new(), contacts: Vec::new() })
    }

    /// Does the authority know it, with these contacts?
    #[must_use]
    pub fn is_registered(&self, contacts: &[String]) -> bool {
        !self.url.is_empty() && self.contacts == contacts
    }

    /// The authority does not know it any more.
    pub fn forget(&mut self) {
        self.url.clear();
    }

    /// Makes it known to the authority, or changes its contacts. The terms of service are agreed to: the operator said so.
    ///
    /// # Errors
    /// The authority refuses, or does not answer.
    pub async fn register(
        &mut self,
        client: &Client,
        contacts: &[String],
        external: Option<External<'_>>,
    ) -> Result<(), Trouble> {
        if self.is_registered(contacts) {
            return Ok(());
        }
        let key = self.key()?;
        let mailto: Vec<String> = contacts.iter().map(|contact| format!("mailto:{contact}")).collect();
        if !self.url.is_empty() {
            self.post(client, &self.url, &json!({"contact": mailto}).to_string()).await?;
            self.contacts = contacts.to_vec();
            return Ok(());
        }
        if client.directory.meta.external_account_required && external.is_none() {
            return Err(Trouble::refused("the authority wants an external account: set `acme.external_account`"));
        }
        let url = &client.directory.new_account;
        let mut payload = json!({"termsOfServiceAgreed": true, "contact": mailto});
        if let Some(External { kid, key: secret }) = external {
            let secret = URL_SAFE.decode(secret.trim_end_matches('='));
            let secret = secret.map_err(|_| Trouble::refused("the external account's key is not base64url"))?;
            payload["externalAccountBinding"] = key.bound_to(kid, &secret, url).map_err(Trouble::no_answer)?;
        }
        let reply = client.post(&key, &By::Key, url, &payload.to_string()).await?;
        self.url = reply.location()?;
        self.contacts = contacts.to_vec();
        Ok(())
    }

    /// A signed request of this account; `payload` empty: it reads.
    pub(crate) async fn post(&self, client: &Client, url: &str, payload: &str) -> Result<Reply, Trouble> {
        client.post(&self.key()?, &By::Account(&self.url), url, payload).await
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What proves that whoever answers a challenge speaks for this account (RFC 8555 § 8.1).
    pub(crate) fn authorization(&self, token: &str) -> Result<String, Trouble> {
        Ok(format!("{token}.{}", self.key()?.thumbprint()))
    }

    fn key(&self) -> Result<Key, Trouble> {
        let der = BASE64.decode(&self.key).map_err(|_| Trouble::no_answer("the account's key is none"))?;
        Key::read(&der).map_err(Trouble::no_answer)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("url", &self.url).finish_non_exhaustive()
    }
}
