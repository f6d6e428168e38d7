//! What TLS listeners show, from the document and from what the cluster keeps; and the answers to challenges of certificate
//! authorities, which every node gives whoever ordered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use tidegate_acme::{Answer, Kind, Order};
use tidegate_admin::wire::CertificateState;
use tidegate_cluster::Cluster;
use tidegate_policy::{Certificate, TlsPolicy};
use tidegate_proxy::Gate;
use tidegate_state::certificates::{Source, key_name, order_name};
use tidegate_telemetry::{Kind as Metric, Sample};
use tidegate_tls::{Certificates, Facts, Tickets};

use super::gauges::labelled;

pub(super) struct Shown {
    cluster: Cluster,
    gate: Arc<Gate>,
    certificates: Arc<Certificates>,
    opened: Mutex<Opened>,
}

/// What is sealed in the state, opened here: by name, with its version.
#[derive(Default)]
struct Opened {
    stored: BTreeMap<String, Stored>,
    orders: BTreeMap<String, (u64, Vec<Answer>)>,
}

struct Stored {
    version: u64,
    facts: Facts,
    source: Source,
    certificate: Certificate,
}

impl Shown {
    pub(super) fn new(cluster: &Cluster, gate: &Arc<Gate>, certificates: Arc<Certificates>) -> Arc<Self> {
        let (cluster, gate) = (cluster.clone(), Arc::clone(gate));
        let shown = Arc::new(Self { cluster, gate, certificates, opened: Mutex::default() });
        let it = Arc::clone(&shown);
        let help = "When a certificate ends, in seconds since 1970";
        let ends = move || it.ends();
        shown.gate.telemetry.register("certificate_not_after_seconds", help, Metric::Gauge, ends);
        let it = Arc::clone(&shown);
        let help =
            "Attempts in a row to get a certificate from its authority that came to nothing; 0: the last one did not";
        shown.gate.telemetry.register("acme_failures", help, Metric::Gauge, move || it.failures());
        shown
    }

    pub(super) fn tickets(&self) -> &Tickets {
        self.certificates.tickets()
    }

    /// The document's certificates, and beside them what the cluster keeps and the document does not name.
    ///
    /// # Errors
    /// Every certificate of the document that cannot be used; then nothing changes.
    pub(super) fn show(&self, document: &[Certificate]) -> Result<(), String> {
        let mut opened = self.opened();
        self.open_stored(&mut opened);
        self.replace(&opened, document)
    }

    /// The state's certificates or orders have changed.
    pub(super) fn follow(&self) {
        let mut opened = self.opened();
        if self.open_stored(&mut opened)
            && let Err(why) = self.replace(&opened, &self.gate.snapshot.load().certificates)
        {
            tracing::error!(%why, "certificates cannot be shown; those before stay");
        }
        if self.open_orders(&mut opened) {
            self.answer(&opened);
        }
    }

    /// What the served document brings in files.
    pub(super) fn of_files(&self) -> Vec<CertificateState> {
        let snapshot = self.gate.snapshot.load();
        let files = snapshot.certificates.iter().filter(|certificate| certificate.stored.is_none());
        let state = |it: &Certificate| {
            let facts = tidegate_tls::facts(&it.name, &it.chain_pem).ok()?;
            Some(tidegate_admin::of_file(&it.name, &it.hosts, &facts))
        };
        files.filter_map(state).collect()
    }

    fn replace(&self, opened: &Opened, document: &[Certificate]) -> Result<(), String> {
        let named: BTreeSet<&str> = document.iter().filter_map(|it| it.stored.as_deref()).collect();
        let mut own: Vec<&Stored> =
            opened.stored.iter().filter(|(name, _)| !named.contains(name.as_str())).map(|(_, it)| it).collect();
        // Of two for one host the newer is shown; and before both, what the document says.
        own.sort_by_key(|stored| stored.version);
        let mut all: Vec<Certificate> = own.into_iter().map(|stored| stored.certificate.clone()).collect();
        for certificate in document {
            let Some(name) = &certificate.stored else {
                all.push(certificate.clone());
                continue;
            };
            // Until it is there, its hosts have no certificate, or a less exact one.
            if let Some(Stored { certificate: kept, .. }) = opened.stored.get(name) {
                let (chain_pem, key_pem) = (kept.chain_pem.clone(), kept.key_pem.clone());
                all.push(Certificate { chain_pem, key_pem, ..certificate.clone() });
            }
        }
        let told =
            |errors: Vec<tidegate_tls::Error>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        self.certificates.replace(&all).map_err(told)
    }

    /// `true`: something has changed.
    fn open_stored(&self, opened: &mut Opened) -> bool {
        let (mut changed, mut names) = (false, BTreeSet::new());
        let new: Vec<_> = self.cluster.read(|state| {
            let all = state.certificates.stored();
            let new = all.filter(|(name, stored)| {
                names.insert((*name).to_owned());
                opened.stored.get(*name).is_none_or(|known| known.version != stored.version)
            });
            new.map(|(name, stored)| (name.to_owned(), Arc::clone(stored))).collect()
        });
        for (name, stored) in new {
            changed = true;
            match self.open(&name, &stored) {
                Ok(it) => drop(opened.stored.insert(name, it)),
                Err(why) => {
                    tracing::error!(certificate = %name, %why, "a kept certificate cannot be shown");
                    opened.stored.remove(&name);
                }
            }
        }
        let before = opened.stored.len();
        opened.stored.retain(|name, _| names.contains(name));
        changed || opened.stored.len() != before
    }

    fn open(&self, name: &str, stored: &tidegate_state::certificates::Stored) -> Result<Stored, String> {
        let key_pem = self.cluster.unseal(&key_name(name), &stored.sealed_key)?;
        let facts = tidegate_tls::examine(name, stored.chain.as_bytes(), &key_pem).map_err(|why| why.to_string())?;
        let certificate = Certificate {
            name: name.to_owned(),
            hosts: facts.hosts.clone(),
            stored: None,
            chain_pem: stored.chain.clone().into_bytes(),
            key_pem,
            policy: TlsPolicy::default(),
            ocsp: None,
            clients: None,
        };
        Ok(Stored { version: stored.version, facts, source: stored.source, certificate })
    }

    fn open_orders(&self, opened: &mut Opened) -> bool {
        let all: Vec<_> = self.cluster.read(|state| {
            let orders = state.certificates.orders();
            orders.map(|(name, order)| (name.to_owned(), Arc::clone(order))).collect()
        });
        let mut orders = BTreeMap::new();
        for (name, order) in all.into_iter().filter(|(_, order)| !order.sealed.is_empty()) {
            let known = opened.orders.remove(&name).filter(|(version, _)| *version == order.version);
            let answers = known.unwrap_or_else(|| (order.version, self.answers(&name, &order.sealed)));
            orders.insert(name, answers);
        }
        let changed = !opened.orders.is_empty() || !orders.is_empty();
        opened.orders = orders;
        changed
    }

    fn answers(&self, name: &str, sealed: &[u8]) -> Vec<Answer> {
        let order = self.cluster.unseal(&order_name(name), sealed);
        match order.and_then(|text| serde_json::from_slice::<Order>(&text).map_err(|why| why.to_string())) {
            Ok(order) => order.answers().to_vec(),
            Err(why) => {
                tracing::error!(certificate = %name, %why, "an order in flight cannot be read here");
                Vec::new()
            }
        }
    }

    fn answer(&self, opened: &Opened) {
        let all = || opened.orders.values().flat_map(|(_, answers)| answers);
        let of = |kind: Kind| all().filter(move |answer| answer.kind == kind);
        let tokens = of(Kind::Http01).map(|answer| (answer.token.clone(), answer.authorization.clone()));
        self.gate.challenges.replace(tokens);
        let digests = of(Kind::TlsAlpn01).map(|answer| {
            let mut proof = [0; 32];
            proof.copy_from_slice(digest(&SHA256, answer.authorization.as_bytes()).as_ref());
            (answer.host.clone(), proof)
        });
        if let Err(why) = self.certificates.answer_challenges(digests) {
            tracing::error!(%why, "a challenge cannot be answered here (tls-alpn-01)");
        }
    }

    fn ends(&self) -> Vec<Sample> {
        let sample = |name: &str, source: &str, ends: u64| labelled(&[("certificate", name), ("source", source)], ends);
        let of_files = self.gate.snapshot.load();
        let files = of_files.certificates.iter().filter(|certificate| certificate.stored.is_none()).filter_map(|it| {
            let facts = tidegate_tls::facts(&it.name, &it.chain_pem).ok()?;
            Some(sample(&it.name, "file", facts.not_after))
        });
        let opened = self.opened();
        let stored = opened.stored.iter().map(|(name, stored)| {
            let source = match stored.source {
                Source::Imported => "imported",
                Source::Acme => "acme",
            };
            sample(name, source, stored.facts.not_after)
        });
        files.chain(stored).collect()
    }

    fn failures(&self) -> Vec<Sample> {
        let orders: Vec<_> = self.cluster.read(|state| {
            let orders = state.certificates.orders();
            orders.map(|(name, order)| (name.to_owned(), order.failures)).collect()
        });
        orders.iter().map(|(name, failures)| labelled(&[("certificate", name)], u64::from(*failures))).collect()
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
