//! Certificates from an authority: the node that leads the control group orders and renews them. All that an order needs to go
//! on stands in the state, sealed, before the next step is taken; so whoever leads next takes it up where it is.

mod http;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidegate_acme::{
    Account, Certificate, Client, External, KeyType, Kind, Log, Order, Then, Trouble, Wanted, issue, pause, renew_at,
};
use tidegate_cluster::Cluster;
use tidegate_model::Millis;
use tidegate_policy::{Acme as Rules, AcmeCertificate, AcmeChallenge, AcmeKey};
use tidegate_proxy::Gate;
use tidegate_state::certificates::{self, Issued, Source, Step, account_name, key_name, order_name};
use tidegate_state::{Command, Outcome};
use tidegate_tls::Facts;
use tokio::sync::Mutex;
use tokio::task::{Id, JoinSet};

use self::http::Transport;

/// How often is looked for what is due.
const LOOK: Duration = Duration::from_millis(500);
/// Certificates that are worked on at a time.
const AT_A_TIME: usize = 4;
/// For all nodes to answer a challenge, before the authority is told to look.
const EVERYWHERE: Duration = Duration::from_secs(10);
const CATCH_UP: Duration = Duration::from_secs(5);
const LONGEST_WORDS: usize = 1_000;

pub(super) struct Acme {
    cluster: Cluster,
    gate: Arc<Gate>,
    /// One at a time is made or made known.
    accounts: Mutex<()>,
}

impl Acme {
    pub(super) fn new(cluster: &Cluster, gate: &Arc<Gate>) -> Arc<Self> {
        Arc::new(Self { cluster: cluster.clone(), gate: Arc::clone(gate), accounts: Mutex::new(()) })
    }

    pub(super) async fn drive_forever(self: Arc<Self>) {
        let mut running: JoinSet<()> = JoinSet::new();
        let mut at_work: BTreeMap<Id, String> = BTreeMap::new();
        loop {
            tokio::select! {
                Some(done) = running.join_next_with_id() => {
                    at_work.remove(&done.map_or_else(|ended| ended.id(), |(id, ())| id));
                }
                () = tokio::time::sleep(LOOK) => {}
            }
            if !self.cluster.leads_control() {
                // The next leader goes on with what is in the state.
                running.abort_all();
                continue;
            }
            let snapshot = self.gate.snapshot.load_full();
            let busy: BTreeSet<&String> = at_work.values().collect();
            // Not by a document that is served no more, or not yet.
            if snapshot.revision == self.cluster.read(|state| state.documents.current()) {
                self.drop_unwanted(snapshot.acme.as_deref(), &busy).await;
            }
            let Some(rules) = snapshot.acme.clone() else { continue };
            let due = |wanted: &AcmeCertificate| !busy.contains(&wanted.name) && self.is_due(&rules, wanted);
            let first = rules.certificates.iter().find(|wanted| due(wanted));
            // A young leader may not have applied yet what the one before kept.
            if first.is_none() || AT_A_TIME <= running.len() || self.cluster.catch_up(CATCH_UP).await.is_err() {
                continue;
            }
            let due: Vec<AcmeCertificate> = rules.certificates.iter().filter(|wanted| due(wanted)).cloned().collect();
            for wanted in due.into_iter().take(AT_A_TIME - running.len()) {
                let (own, rules, name) = (Arc::clone(&self), Arc::clone(&rules), wanted.name.clone());
                let task = running.spawn(async move { own.attempt(&rules, &wanted).await });
                at_work.insert(task.id(), name);
            }
        }
    }

    /// Orders in flight that the document asks for no more: nobody answers their challenges from then on.
    async fn drop_unwanted(&self, rules: Option<&Rules>, busy: &BTreeSet<&String>) {
        let wanted = |name: &str| rules.is_some_and(|rules| rules.certificates.iter().any(|it| it.name == name));
        let unwanted: Vec<(String, u64)> = self.cluster.read(|state| {
            let orders = state.certificates.orders().filter(|(name, order)| !order.sealed.is_empty() && !wanted(name));
            orders.map(|(name, order)| (name.to_owned(), order.version)).collect()
        });
        for (name, replaces) in unwanted.into_iter().filter(|(name, _)| !busy.contains(name)) {
            let (sealed, failures, error) = (Vec::new(), 0, String::new());
            let step = Step { name, replaces, sealed, failures, error, next_at: now(), issued: None };
            let _next_time = self.cluster.propose(Command::StepOrder(step)).await;
        }
    }

    fn is_due(&self, rules: &Rules, wanted: &AcmeCertificate) -> bool {
        let (stored, order) = self.cluster.read(|state| {
            let certificates = &state.certificates;
            (certificates.by_name(&wanted.name).cloned(), certificates.order(&wanted.name).cloned())
        });
        let stored = stored.filter(|stored| stored.source == Source::Acme);
        let facts = stored.and_then(|stored| tidegate_tls::facts(&wanted.name, stored.chain.as_bytes()).ok());
        is_due(facts.as_ref(), order.as_deref(), rules, wanted, now())
    }

    async fn attempt(&self, rules: &Rules, wanted: &AcmeCertificate) {
        let name = &wanted.name;
        let known = self.cluster.read(|state| state.certificates.order(name).map(|order| (**order).clone()));
        let known = known.unwrap_or_default();
        let order = self.opened(name, &known.sealed);
        tracing::info!(certificate = %name, hosts = ?wanted.hosts, goes_on = order.is_some(), "asking for a certificate");
        let mut kept = Kept { cluster: &self.cluster, name, known };
        let step = match self.obtain(rules, wanted, order, &mut kept).await {
            Ok((certificate, facts)) => kept.done(&certificate, &facts),
            Err(trouble) => Ok(kept.failed(&trouble)),
        };
        let step = match step {
            Ok(step) => step,
            Err(why) => return tracing::error!(certificate = %name, %why, "a certificate cannot be sealed"),
        };
        match self.cluster.propose(Command::StepOrder(step)).await {
            Ok(applied) if matches!(applied.outcome, Outcome::Stepped { .. }) => {}
            Ok(applied) => {
                tracing::info!(certificate = %name, outcome = ?applied.outcome, "another node goes on with it")
            }
            Err(why) => tracing::warn!(certificate = %name, %why, "how far an order is could not be kept"),
        }
    }

    async fn obtain(
        &self,
        rules: &Rules,
        wanted: &AcmeCertificate,
        order: Option<Order>,
        kept: &mut Kept<'_>,
    ) -> Result<(Certificate, Facts), Trouble> {
        let transport = Transport::open(rules.ca_pem.clone()).map_err(Trouble::no_answer)?;
        let client = Client::open(transport, &rules.directory).await?;
        let account = self.account(&client, rules).await?;
        let mut wanted = ordered(rules, wanted);
        let turn = usize::try_from(kept.known.failures).unwrap_or_default() % wanted.kinds.len().max(1);
        wanted.kinds.rotate_left(turn);
        let issued = issue(&client, &account, &wanted, order, kept).await;
        if issued.as_ref().is_err_and(|trouble| trouble.then == Then::NoAccount) {
            self.forget_account(rules).await;
        }
        let certificate = issued?;
        let refused = |why: String| Trouble { why, then: Then::BeginAnew, retry_after: None };
        let facts = tidegate_tls::examine("what was issued", certificate.chain.as_bytes(), certificate.key.as_bytes());
        let facts = facts.map_err(|why| refused(why.to_string()))?;
        if !wanted.hosts.iter().all(|host| facts.hosts.contains(host)) {
            return Err(refused(format!("it was issued for {:?}, not for {:?}", facts.hosts, wanted.hosts)));
        }
        Ok((certificate, facts))
    }

    /// The cluster's account at the authority: its key is in the log before the authority hears of it.
    async fn account(&self, client: &Client, rules: &Rules) -> Result<Account, Trouble> {
        let _one = self.accounts.lock().await;
        let (mut account, mut version) = match self.kept_account(&rules.directory)? {
            Some(kept) => kept,
            None => {
                let account = Account::new()?;
                let version = self.keep_account(&rules.directory, &account, 0).await?;
                (account, version)
            }
        };
        if !account.is_registered(&rules.contacts) {
            let external = rules.external.as_ref();
            let external = external.map(|external| External { kid: &external.kid, key: external.hmac.shown() });
            account.register(client, &rules.contacts, external).await?;
            version = self.keep_account(&rules.directory, &account, version).await?;
            tracing::info!(directory = %rules.directory, version, "an account at a certificate authority");
        }
        Ok(account)
    }

    async fn forget_account(&self, rules: &Rules) {
        let _one = self.accounts.lock().await;
        if let Ok(Some((mut account, version))) = self.kept_account(&rules.directory) {
            account.forget();
            let _next_time = self.keep_account(&rules.directory, &account, version).await;
        }
    }

    fn kept_account(&self, directory: &str) -> Result<Option<(Account, u64)>, Trouble> {
        let kept = self.cluster.read(|state| {
            let account = state.certificates.account(directory);
            account.map(|(sealed, version)| (sealed.to_vec(), version))
        });
        let Some((sealed, version)) = kept else { return Ok(None) };
        let text = self.cluster.unseal(&account_name(directory), &sealed).map_err(Trouble::no_answer)?;
        let account = serde_json::from_slice(&text).map_err(|why| Trouble::no_answer(why.to_string()))?;
        Ok(Some((account, version)))
    }

    async fn keep_account(&self, directory: &str, account: &Account, replaces: u64) -> Result<u64, Trouble> {
        let text = serde_json::to_vec(account).map_err(|why| Trouble::no_answer(why.to_string()))?;
        let sealed = self.cluster.seal(&account_name(directory), &text).map_err(Trouble::no_answer)?;
        stepped(&self.cluster, Command::KeepAccount { directory: directory.to_owned(), replaces, sealed })
            .await
            .map(|it| it.0)
    }

    fn opened(&self, name: &str, sealed: &[u8]) -> Option<Order> {
        if sealed.is_empty() {
            return None;
        }
        let text = self.cluster.unseal(&order_name(name), sealed).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// One certificate's order in the state.
struct Kept<'a> {
    cluster: &'a Cluster,
    name: &'a str,
    known: certificates::Order,
}

impl Kept<'_> {
    fn done(&self, certificate: &Certificate, facts: &Facts) -> Result<Step, String> {
        let renew = renew_at(facts.not_before, facts.not_after, seed(&facts.serial));
        tracing::info!(certificate = %self.name, issuer = %facts.issuer, not_after = facts.not_after, renew, "a certificate was issued");
        let sealed_key = self.cluster.seal(&key_name(self.name), certificate.key.as_bytes())?;
        let issued = Issued { chain: certificate.chain.clone(), sealed_key };
        let next_at = Millis(renew.saturating_mul(1_000));
        Ok(Step { next_at, issued: Some(issued), failures: 0, error: String::new(), ..self.step(Vec::new()) })
    }

    fn failed(&self, trouble: &Trouble) -> Step {
        let failures = self.known.failures.saturating_add(1);
        let wait = pause(failures, trouble.then, trouble.retry_after, seed(self.name).wrapping_add(now().0));
        tracing::warn!(certificate = %self.name, why = %trouble, failures, again_in = ?wait, "no certificate yet");
        let sealed = match trouble.then {
            Then::GoOn => self.known.sealed.clone(),
            Then::BeginAnew | Then::NoAccount => Vec::new(),
        };
        let next_at = Millis(now().0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
        let error = trouble.why.chars().take(LONGEST_WORDS).collect();
        Step { failures, error, next_at, ..self.step(sealed) }
    }

    fn step(&self, sealed: Vec<u8>) -> Step {
        Step {
            name: self.name.to_owned(),
            replaces: self.known.version,
            sealed,
            failures: self.known.failures,
            error: self.known.error.clone(),
            // Whoever leads next goes on at once.
            next_at: now(),
            issued: None,
        }
    }
}

impl Log for Kept<'_> {
    async fn keep(&mut self, order: &Order) -> Result<(), Trouble> {
        let text = serde_json::to_vec(order).map_err(|why| Trouble::no_answer(why.to_string()))?;
        let sealed = self.cluster.seal(&order_name(self.name), &text).map_err(Trouble::no_answer)?;
        let (version, index) = stepped(self.cluster, Command::StepOrder(self.step(sealed.clone()))).await?;
        (self.known.version, self.known.sealed) = (version, sealed);
        if order.answers().is_empty() {
            return Ok(());
        }
        match self.cluster.wait_applied_everywhere(index, EVERYWHERE).await {
            Ok(everywhere) if everywhere.behind.is_empty() => Ok(()),
            Ok(everywhere) => {
                tracing::warn!(certificate = %self.name, behind = ?everywhere.behind, "some nodes do not answer its challenges yet");
                Ok(())
            }
            Err(why) => Err(Trouble::no_answer(why.to_string())),
        }
    }
}

/// Its version and its place in the log.
async fn stepped(cluster: &Cluster, command: Command) -> Result<(u64, u64), Trouble> {
    let applied = cluster.propose(command).await.map_err(|why| Trouble::no_answer(why.to_string()))?;
    match applied.outcome {
        Outcome::Stepped { version } => Ok((version, applied.index)),
        Outcome::Conflict { .. } => Err(Trouble::no_answer("another node goes on with it")),
        other => Err(Trouble::no_answer(format!("it could not be kept: {other:?}"))),
    }
}

fn ordered(rules: &Rules, wanted: &AcmeCertificate) -> Wanted {
    let kinds = rules.challenges.iter().map(|kind| match kind {
        AcmeChallenge::Http01 => Kind::Http01,
        AcmeChallenge::TlsAlpn01 => Kind::TlsAlpn01,
    });
    let key = match rules.key {
        AcmeKey::P256 => KeyType::P256,
        AcmeKey::P384 => KeyType::P384,
    };
    Wanted { directory: rules.directory.clone(), hosts: wanted.hosts.clone(), key, kinds: kinds.collect() }
}

/// `facts`: of the certificate that is there, if it is from an authority.
fn is_due(
    facts: Option<&Facts>,
    order: Option<&certificates::Order>,
    rules: &Rules,
    wanted: &AcmeCertificate,
    now: Millis,
) -> bool {
    let key = match rules.key {
        AcmeKey::P256 => "ecdsa-256",
        AcmeKey::P384 => "ecdsa-384",
    };
    let is_for = |facts: &Facts| {
        let mut hosts = facts.hosts.clone();
        hosts.sort();
        hosts == wanted.hosts && facts.key == key
    };
    let fits = facts.is_some_and(is_for);
    match order {
        None => true,
        // What is wanted has changed since, or the certificate was removed.
        Some(order) if !fits && order.failures == 0 && order.sealed.is_empty() => true,
        Some(order) => order.next_at <= now,
    }
}

/// Different for each, the same on all nodes.
fn seed(text: &str) -> u64 {
    text.bytes().fold(14_695_981_039_346_656_037, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211))
}

fn now() -> Millis {
    Millis(tidegate_clock::wall().0 / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_what_is_missing_changed_or_old_and_not_what_waits() {
        let wanted = AcmeCertificate { name: "site".into(), hosts: vec!["a.test".into()] };
        let rules = Rules {
            directory: "https://ca.test/dir".into(),
            contacts: Vec::new(),
            ca_pem: None,
            key: AcmeKey::P256,
            challenges: vec![AcmeChallenge::Http01],
            external: None,
            certificates: vec![wanted.clone()],
        };
        let facts = |host: &str, key: &str| Facts {
            hosts: vec![host.into()],
            issuer: "ca".into(),
            serial: "1".into(),
            not_before: 0,
            not_after: 90,
            key: key.into(),
        };
        let order = |failures, sealed: &[u8], next_at| certificates::Order {
            version: 1,
            sealed: sealed.to_vec(),
            failures,
            error: String::new(),
            next_at: Millis(next_at),
        };
        let good = facts("a.test", "ecdsa-256");
        let due = |facts: Option<&Facts>, order: Option<&certificates::Order>| {
            is_due(facts, order, &rules, &wanted, Millis(50))
        };
        assert!(due(None, None), "nothing is there");
        assert!(!due(Some(&good), Some(&order(0, b"", 60))), "fresh");
        assert!(due(Some(&good), Some(&order(0, b"", 50))), "old");
        assert!(due(Some(&facts("b.test", "ecdsa-256")), Some(&order(0, b"", 60))), "for other hosts");
        assert!(due(Some(&facts("a.test", "rsa-2048")), Some(&order(0, b"", 60))), "with another key");
        assert!(due(None, Some(&order(0, b"", 60))), "removed");
        assert!(!due(None, Some(&order(3, b"", 60))), "refused, and left alone");
        assert!(due(None, Some(&order(3, b"", 50))), "long enough");
        assert!(due(None, Some(&order(0, b"sealed", 40))), "in flight: whoever leads goes on");
    }
}
