//! One certificate, from the intent to have it to its chain. [`issue`] can be left at any point and taken up again, here or on
//! another node, from what the [`Log`] holds.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::account::Account;
use crate::client::Client;
use crate::trouble::{Then, Trouble};
use crate::wire::{self, Authorization, Challenge, Status};

/// For one go at an order: then somebody else may, and it goes on later.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at how far an order is: at first, and at most, where the authority does not say.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LAST_LOOK: Duration = Duration::from_secs(5);
/// Pages of an account's orders that are looked through.
const PAGES: usize = 8;
const MOST_AUTHORIZATIONS: usize = 128;

/// What is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub directory: String,
    /// Lower case, sorted, each once.
    pub hosts: Vec<String>,
    pub key: KeyType,
    /// Challenges that are answered, the preferred first.
    pub kinds: Vec<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyType {
    P256,
    P384,
}

/// How it is proven that a host is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Http01,
    TlsAlpn01,
}

/// An order in flight, as it is kept: sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    directory: String,
    hosts: Vec<String>,
    key_type: KeyType,
    /// Of the certificate: PEM. The same to the end, whoever drives.
    key: String,
    /// Empty: nobody is known to have placed it.
    url: String,
    answers: Vec<Answer>,
}

/// What any node answers to whoever looks for a challenge.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub host: String,
    pub kind: Kind,
    pub token: String,
    pub authorization: String,
}

/// What was issued. PEM.
pub struct Certificate {
    pub chain: String,
    pub key: String,
}

/// Where an order is kept while it is in flight.
pub trait Log: Send {
    /// Returns when all nodes know it, and answer its challenges. Then it goes on.
    fn keep(&mut self, order: &Order) -> impl Future<Output = Result<(), Trouble>> + Send;
}

/// Goes on with `order`, or begins one, until the certificate is there.
///
/// # Errors
/// Why it is not; what was kept of the order is good still if the trouble says [`Then::GoOn`].
pub async fn issue(
    client: &Client,
    account: &Account,
    wanted: &Wanted,
    order: Option<Order>,
    log: &mut impl Log,
) -> Result<Certificate, Trouble> {
    let mut order = match order.filter(|order| order.is_for(wanted)) {
        Some(order) => order,
        None => Order::intend(wanted)?,
    };
    if order.url.is_empty() {
        // Before the authority hears of it: of two who believe to lead, one cannot keep this, and orders nothing.
        log.keep(&order).await?;
        order.url = match order.find(client, account).await {
            Some(url) => url,
            None => order.place(client, account).await?,
        };
        log.keep(&order).await?;
    }
    order.follow(client, account, &wanted.kinds, log).await
}

impl Order {
    fn intend(wanted: &Wanted) -> Result<Self, Trouble> {
        let algorithm = match wanted.key {
            KeyType::P256 => &PKCS_ECDSA_P256_SHA256,
            KeyType::P384 => &PKCS_ECDSA_P384_SHA384,
        };
        let key = KeyPair::generate_for(algorithm).map_err(|why| Trouble::no_answer(why.to_string()))?;
        Ok(Self {
            directory: wanted.directory.clone(),
            hosts: wanted.hosts.clone(),
            key_type: wanted.key,
            key: key.serialize_pem(),
            url: String::new(),
            answers: Vec::new(),
        })
    }

    /// Does it lead to what is wanted?
    #[must_use]
    pub fn is_for(&self, wanted: &Wanted) -> bool {
        self.directory == wanted.directory && self.hosts == wanted.hosts && self.key_type == wanted.key
    }

    /// What any node answers to whoever looks.
    #[must_use]
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// Was it placed already, by somebody who died before it was kept? Only where the authority lists an account's orders; others
    /// give the same order again to who asks for the same.
    async fn find(&self, client: &Client, account: &Account) -> Option<String> {
        let known: wire::Account = account.post(client, account.url(), "").await.ok()?.json().ok()?;
        let mut page = known.orders;
        for _ in 0..PAGES {
            let reply = account.post(client, &page?, "").await.ok()?;
            for url in reply.json::<wire::Orders>().ok()?.orders {
                let order: wire::Order = account.post(client, &url, "").await.ok()?.json().ok()?;
                let mut hosts: Vec<String> = order.identifiers.into_iter().map(|host| host.value).collect();
                hosts.sort();
                // Whose certificate is being made was finalized with another key.
                if matches!(order.status, Status::Pending | Status::Ready) && hosts == self.hosts {
                    return Some(url);
                }
            }
            page = reply.next_page();
        }
        None
    }

    async fn place(&self, client: &Client, account: &Account) -> Result<String, Trouble> {
        let identifiers: Vec<_> = self.hosts.iter().map(|host| json!({"type": "dns", "value": host})).collect();
        let payload = json!({"identifiers": identifiers}).to_string();
        account.post(client, &client.directory.new_order, &payload).await?.location()
    }

    async fn follow(
        &mut self,
        client: &Client,
        account: &Account,
        kinds: &[Kind],
        log: &mut impl Log,
    ) -> Result<Certificate, Trouble> {
        let (ends, mut look) = (Instant::now() + PATIENCE, FIRST_LOOK);
        let (mut told, mut finalized) = (HashSet::new(), false);
        loop {
            let reply = match account.post(client, &self.url, "").await {
                // It forgot the order, as authorities do with those that nobody finished.
                Err(trouble) if trouble.then == Then::BeginAnew => return Err(trouble),
                reply => reply?,
            };
            let (order, asked) = (reply.json::<wire::Order>()?, reply.retry_after());
            match order.status {
                Status::Pending => self.prove(client, account, kinds, &order, &mut told, log).await?,
                Status::Ready if !finalized => {
                    let payload = json!({"csr": BASE64.encode(self.signing_request()?)}).to_string();
                    match account.post(client, &order.finalize, &payload).await {
                        Err(trouble) if trouble.then != Then::GoOn => return Err(trouble),
                        // Not heard, or somebody else was faster: the next look says how far it is.
                        done => finalized = done.is_ok(),
                    }
                }
                Status::Ready | Status::Processing => {}
                Status::Valid => return self.fetch(client, account, order.certificate).await,
                Status::Invalid | Status::Deactivated | Status::Expired | Status::Revoked => {
                    return Err(self.refusal(client, account, &order).await);
                }
            }
            if ends <= Instant::now() {
                return Err(Trouble::no_answer(format!("the authority did not finish the order within {PATIENCE:?}")));
            }
            sleep(asked.unwrap_or(look).min(LAST_LOOK)).await;
            look = (look * 2).min(LAST_LOOK);
        }
    }

    /// Answers what is open, and tells the authority once all nodes do.
    async fn prove(
        &mut self,
        client: &Client,
        account: &Account,
        kinds: &[Kind],
        order: &wire::Order,
        told: &mut HashSet<String>,
        log: &mut impl Log,
    ) -> Result<(), Trouble> {
        let (mut answers, mut open) = (Vec::new(), Vec::new());
        for url in order.authorizations.iter().take(MOST_AUTHORIZATIONS) {
            let Authorization { status, identifier, challenges } = account.post(client, url, "").await?.json()?;
            match status {
                Status::Valid => continue,
                Status::Pending => {}
                _ => return Err(failed(&identifier.value, &challenges)),
            }
            let (kind, challenge) = choose(kinds, &challenges).ok_or_else(|| {
                Trouble::refused(format!(
                    "{}: the authority offers no challenge that is answered here",
                    identifier.value
                ))
            })?;
            let authorization = account.authorization(&challenge.token)?;
            let (host, token) = (identifier.value.to_ascii_lowercase(), challenge.token.clone());
            answers.push(Answer { host, kind, token, authorization });
            if challenge.status == Status::Pending && !told.contains(&challenge.url) {
                open.push(challenge.url.clone());
            }
        }
        if answers.iter().any(|answer| !self.answers.contains(answer)) {
            self.answers = answers;
            log.keep(self).await?;
        }
        for url in open {
            match account.post(client, &url, "{}").await {
                // It may have been proven a moment ago, for whoever drove the order before; if it was not, its state says so.
                Err(trouble) if trouble.then == Then::BeginAnew => {}
                told => drop(told?),
            }
            told.insert(url);
        }
        Ok(())
    }

    fn signing_request(&self) -> Result<Vec<u8>, Trouble> {
        let wrong = |why: rcgen::Error| Trouble::refused(format!("no request for a certificate can be made: {why}"));
        let mut params = CertificateParams::new(self.hosts.clone()).map_err(wrong)?;
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::from_pem(&self.key).map_err(wrong)?;
        Ok(params.serialize_request(&key).map_err(wrong)?.der().to_vec())
    }

    async fn fetch(&self, client: &Client, account: &Account, url: Option<String>) -> Result<Certificate, Trouble> {
        let url = url.ok_or_else(|| Trouble::no_answer("the authority does not say where the certificate is"))?;
        let reply = account.post(client, &url, "").await?;
        let chain = String::from_utf8(reply.body.to_vec());
        let chain = chain.map_err(|_| Trouble::refused("the authority's certificate is no PEM text"))?;
        Ok(Certificate { chain, key: self.key.clone() })
    }

    /// Why an order is over: its own words, or else those of the challenge that failed.
    async fn refusal(&self, client: &Client, account: &Account, order: &wire::Order) -> Trouble {
        for url in order.authorizations.iter().take(MOST_AUTHORIZATIONS) {
            let read = account.post(client, url, "").await.and_then(|reply| reply.json::<Authorization>());
            if let Ok(authorization) = read
                && authorization.status != Status::Valid
                && authorization.status != Status::Pending
            {
                return failed(&authorization.identifier.value, &authorization.challenges);
            }
        }
        match &order.error {
            Some(problem) => Trouble::refused(format!("the authority refuses: {}", problem.words())),
            None => Trouble::refused("the order is not valid any more"),
        }
    }
}

/// The first kind we like that the authority offers.
fn choose<'a>(kinds: &[Kind], challenges: &'a [Challenge]) -> Option<(Kind, &'a Challenge)> {
    let is_token = |text: &str| {
        // RFC 8555 § 8.3: base64url. It becomes part of a path.
        !text.is_empty()
            && text.len() <= 256
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    kinds.iter().find_map(|kind| {
        let challenge = challenges.iter().find(|it| it.kind == kind.name() && is_token(&it.token))?;
        Some((*kind, challenge))
    })
}

fn failed(host: &str, challenges: &[Challenge]) -> Trouble {
    let blamed = challenges.iter().find_map(|challenge| Some((&challenge.kind, challenge.error.as_ref()?)));
    Trouble::refused(match blamed {
        Some((kind, problem)) => format!("{host}: {kind}: {}", problem.words()),
        None => format!("{host}: the authority does not accept that it is ours"),
    })
}

impl Kind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order").field("hosts", &self.hosts).field("url", &self.url).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {})", self.host, self.kind.name())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate(…)")
    }
}
