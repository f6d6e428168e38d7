//! Making a backup while the node serves: the control state at one entry, what lasts of the ledger at one entry of the quota
//! leader's log, and the key that opens what is sealed in them.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_state::{CA_KEY, State};
use tokio::time::Instant;

use super::archive::{self, Counts, Manifest};
use super::key::Recipient;
use crate::cluster::{Cluster, Inner, wall};
use crate::codec;
use crate::group::WriteError;
use crate::keys;
use crate::quota;
use crate::seal::ClusterKey;
use crate::token::hex;
use crate::transport::identity;
use crate::wire::{Lane, Lasted, Lasting, Request};

pub(crate) const CONTROL: &str = "control";
pub(crate) const QUOTA: &str = "quota";
pub(crate) const SECRETS: &str = "secrets";

/// To find a leader with a quorum, of either group: who waits for longer than this waits for an operator.
const TO_BE_LED: Duration = Duration::from_secs(15);

/// What no snapshot holds. Positional: append only.
#[derive(Serialize, Deserialize)]
pub(crate) struct Secrets {
    pub(crate) cluster_key: [u8; 32],
    /// DER of the CA's certificate.
    pub(crate) ca: Vec<u8>,
}

/// The control state, as it was after one entry.
struct AtEntry {
    bytes: Vec<u8>,
    index: u64,
    term: u64,
    epoch: usize,
    counts: Counts,
    ca_key: Vec<u8>,
    key: ClusterKey,
}

impl Cluster {
    /// Everything that a new cluster needs, with all that was acknowledged before the call, for whoever has the key.
    ///
    /// # Errors
    /// In words for people: nobody leads, or the quota leader cannot be asked.
    pub async fn backup(&self, recipient: &Recipient, patience: Duration) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + patience;
        self.catch_up(patience.min(TO_BE_LED)).await.map_err(|error| error.to_string())?;
        // Control first: the limits of a document are in the quota log before the document is in the other.
        let it = Arc::clone(&self.inner);
        let control = off_the_runtime(move || control(&it)).await?;
        let ledger = ledger(&self.inner, deadline).await?;
        let (it, recipient) = (Arc::clone(&self.inner), *recipient);
        off_the_runtime(move || seal(&it, control, ledger, &recipient)).await
    }
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

fn control(cluster: &Inner) -> Result<AtEntry, String> {
    cluster.control.read(|control| {
        // Under the machine's lock state and position stand still together.
        let at = cluster.control.replica.applied_id().ok_or("nothing is in the control log yet")?;
        let ring = cluster.keys.ring();
        let (key, anew) = keys::sealed_by_one(&ring, &control.state)?;
        let state = anew.as_ref().unwrap_or(&control.state);
        let sealed = state.sealed.bytes(CA_KEY).ok_or("the cluster CA's key is missing")?;
        Ok(AtEntry {
            bytes: codec::encode(state),
            index: at.index,
            term: at.leader_id.term,
            epoch: state.later.lineage.epoch(),
            counts: counts(state),
            ca_key: key.open(CA_KEY, sealed)?,
            key,
        })
    })
}

fn counts(state: &State) -> Counts {
    Counts {
        revision: state.documents.current().0,
        documents: state.documents.history().count(),
        nodes: state.members.len(),
        keys: state.keys.iter().count(),
        revoked_keys: state.keys.iter().filter(|key| key.revoked_at.is_some()).count(),
        admin_tokens: state.tokens.admins().count(),
        certificates: state.certificates.stored().count(),
        secrets: state.later.secrets.iter().count(),
        orders: state.orders.in_force().count(),
        ..Counts::default()
    }
}

/// From the quota leader, wherever it is.
async fn ledger(cluster: &Inner, deadline: Instant) -> Result<Lasting, String> {
    let mut why = "no leader of the quota group is known".to_owned();
    let led_by = deadline.min(Instant::now() + TO_BE_LED);
    while Instant::now() < led_by {
        if let Some(leader) = quota::find(cluster).await {
            let left = deadline.saturating_duration_since(Instant::now());
            let lasted = match leader == cluster.me() {
                true => Ok(lasting_here(cluster, left).await),
                false => cluster.peers.call(leader, Lane::Bulk, &Request::Lasting, left).await,
            };
            match lasted {
                Ok(Lasted::Is(lasting)) => return Ok(lasting),
                Ok(Lasted::NotLeader(other)) => {
                    cluster.quota_leader.is(other.filter(|other| *other != leader));
                    why = format!("node {leader} does not lead the quota group");
                }
                Ok(Lasted::Unknown(reason)) => why = reason,
                Err(error) => {
                    cluster.quota_leader.is(None);
                    why = error.to_string();
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("the budgets cannot be had: {why}"))
}

/// On the quota leader: with all that was acknowledged before the call.
pub(crate) async fn lasting_here(cluster: &Inner, patience: Duration) -> Lasted {
    let group = cluster.quota.clone();
    let caught_up = async {
        let index = group.read_index().await?;
        let mut applied = group.replica.applied();
        let applied = applied.wait_for(|applied| index <= *applied).await;
        applied.map(drop).map_err(|_| WriteError::Unknown("the group stopped".into()))
    };
    match tokio::time::timeout(patience.min(TO_BE_LED), caught_up).await {
        Ok(Ok(())) => {}
        Ok(Err(WriteError::NotLeader(leader))) => return Lasted::NotLeader(leader),
        Ok(Err(WriteError::Unknown(why))) => return Lasted::Unknown(why),
        Err(_) => return Lasted::Unknown("no quorum answered in time".into()),
    }
    let group = cluster.quota.clone();
    let read = move || {
        let (lasting, at) = group.read(|quota| (quota.ledger.lasting(), group.replica.applied_id()));
        let (index, term) = at.map_or((0, 0), |at| (at.index, at.leader_id.term));
        let (limits, budgets) = (lasting.policies().count(), lasting.views().count());
        let ledger = codec::encode(&lasting).into();
        Ok(Lasting { index, term, limits, budgets, ledger })
    };
    match off_the_runtime(read).await {
        Ok(lasting) => Lasted::Is(lasting),
        Err(why) => Lasted::Unknown(why),
    }
}

fn seal(cluster: &Inner, control: AtEntry, quota: Lasting, recipient: &Recipient) -> Result<Vec<u8>, String> {
    let ca = cluster.identity.ca.clone();
    let manifest = Manifest {
        format: 1,
        cluster: cluster.identity.cluster.to_string(),
        epoch: control.epoch,
        made_at: wall().0,
        node: cluster.me().0,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        feature_level: cluster.feature_level,
        control_index: control.index,
        control_term: control.term,
        quota_index: quota.index,
        quota_term: quota.term,
        counts: Counts { limits: quota.limits, budgets: quota.budgets, ..control.counts },
        ca: hex(&identity::fingerprint(&ca)),
        ca_certificate: hex(&ca),
        key: String::new(),
        drawn: String::new(),
        sections: Vec::new(),
    };
    let secrets = codec::encode(&Secrets { cluster_key: control.key.0, ca });
    let sections = vec![(SECRETS, secrets), (CONTROL, control.bytes), (QUOTA, quota.ledger.into())];
    archive::write(manifest, sections, recipient, &control.ca_key)
}
