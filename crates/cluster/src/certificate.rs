//! This node's own certificate: it ends, and is renewed by itself before. Every member can sign it, since the CA's key is
//! sealed in the state: nobody has to be asked, and a node that was off for longer than its certificate was good signs
//! itself a new one before it goes on air.
//!
//! ```text
//! from        now of signing                        renewed                 until
//!  |-- life/3 --|---------------- 2/3 life -------------|------- life/3 ------|
//! ```
//! So clocks of nodes may be wrong by a third of a certificate's life, both ways. The CA itself does not end.

use std::sync::Arc;
use std::time::Duration;

use tidegate_model::Millis;
use tidegate_state::CA_KEY;

use crate::cluster::{Cluster, Inner, wall};
use crate::error::Error;
use crate::folder::Folder;
use crate::keys::Ring;
use crate::store::Damage;
use crate::transport::identity::{self, Identity};

/// How long one is good.
pub(crate) const LIFE: Duration = Duration::from_secs(90 * 86_400);
/// 32 bytes of hash, then the certificate.
pub(crate) const RENEWED: &str = "tls/node.renewed";
/// The CA's key as the state has it, sealed: at hand before there is a state.
const SEALED_CA: &str = "tls/ca.sealed";
const LOOK: Duration = Duration::from_secs(60);
const SOONEST: Duration = Duration::from_millis(100);
/// One that is good for longer than it should be, by more than this, is of a release before.
const SLACK: u64 = 60;

/// From when until when, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: u64,
    pub(crate) until: u64,
}

impl Validity {
    pub(crate) fn starting(now: Millis, life: Duration) -> Self {
        let now = now.0 / 1_000;
        Self { from: now.saturating_sub(life.as_secs() / 3), until: now.saturating_add(life.as_secs()) }
    }

    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let (from, until) =
            (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        Some(Self { from: from.try_into().unwrap_or(0), until: until.try_into().ok()? })
    }

    /// From then on it is renewed.
    fn due(self, life: Duration) -> u64 {
        self.until.saturating_sub(life.as_secs() / 3)
    }

    fn is_due(self, now: Millis, life: Duration) -> bool {
        let now = now.0 / 1_000;
        let too_long = now.saturating_add(life.as_secs() + SLACK) < self.until;
        too_long || now < self.from || self.due(life) <= now
    }

    fn has_ended(self, now: Millis) -> bool {
        self.until <= now.0 / 1_000
    }
}

/// What was renewed stands in for what the node began with.
pub(crate) fn newest(folder: &Folder, identity: Identity) -> Result<Identity, Error> {
    let path = folder.path(RENEWED);
    if !path.exists() {
        return Ok(identity);
    }
    let bytes = folder.read(RENEWED)?;
    let damaged = |what: &str| Error::from(Damage::new(&path, "", what));
    let (sum, certificate) = bytes.split_first_chunk::<32>().ok_or_else(|| damaged("cut short"))?;
    if blake3::hash(certificate).as_bytes() != sum {
        return Err(damaged("not what this node wrote"));
    }
    Ok(Identity { certificate: certificate.to_vec(), ..identity })
}

/// Before the node goes on air: with a certificate that has ended nobody would talk to it.
pub(crate) fn revive(folder: &Folder, identity: Identity, ring: &Ring, life: Duration) -> Result<Identity, Error> {
    let Some(validity) = Validity::of(&identity.certificate).filter(|validity| validity.has_ended(wall())) else {
        return Ok(identity);
    };
    let sealed = folder.read(SEALED_CA).map_err(|_| {
        let ended = wall().0 / 1_000 - validity.until;
        Error::Settings(format!(
            "this node's certificate ended {ended} seconds ago, and the node cannot sign itself another: empty its data \
             folder, and join with a new token"
        ))
    })?;
    let ca_key = ring.open(CA_KEY, &sealed).map_err(|what| Damage::new(&folder.path(SEALED_CA), "", what))?;
    let renewed = sign(folder, &identity, &ca_key, life)?;
    tracing::info!("this node's certificate had ended: it has a new one");
    Ok(renewed)
}

/// A certificate for the key that the node joined with: others know the node by it. On disk before it is shown to anybody.
fn sign(folder: &Folder, identity: &Identity, ca_key: &[u8], life: Duration) -> Result<Identity, Error> {
    let request = identity::signing_request(&identity::read_key(&identity.key)?)?;
    let validity = Validity::starting(wall(), life);
    let certificate = identity::sign(&request, &identity.ca, ca_key, identity.cluster, identity.node, validity)?;
    folder.write(RENEWED, &[blake3::hash(&certificate).as_bytes().as_slice(), &certificate].concat())?;
    Ok(Identity { certificate, ..identity.clone() })
}

pub(crate) async fn renew_forever(cluster: Arc<Inner>) {
    let (life, mut kept) = (cluster.certificate_life, false);
    loop {
        let it = Arc::clone(&cluster);
        // A slow disk must not hold up who talks to the others.
        kept = tokio::task::spawn_blocking(move || look(&it, kept)).await.unwrap_or(false);
        // What brings it back after its certificate has ended is not waited for long.
        let pause = if kept { (life / 24).clamp(SOONEST, LOOK) } else { SOONEST };
        tokio::time::sleep(pause).await;
    }
}

/// Does what is due. `true`: the CA's key is kept.
fn look(cluster: &Inner, kept: bool) -> bool {
    if cluster.shown.validity().is_none_or(|validity| validity.is_due(wall(), cluster.certificate_life))
        && let Err(why) = renew(cluster)
    {
        tracing::warn!(%why, "this node's certificate is due, and is not renewed yet");
    }
    kept || keep_ca_key(cluster)
}

fn renew(cluster: &Inner) -> Result<(), String> {
    let sealed = sealed_ca_key(cluster).ok_or("the CA's key is not known yet")?;
    let ca_key = cluster.keys.open(CA_KEY, &sealed)?;
    let renewed = sign(&cluster.folder, &cluster.identity, &ca_key, cluster.certificate_life);
    let renewed = renewed.map_err(|error| error.to_string())?;
    cluster.shown.replace(&renewed).map_err(|error| error.to_string())?;
    let until = cluster.shown.validity().map_or(0, |validity| validity.until);
    tracing::info!(until, "this node's certificate is renewed");
    Ok(())
}

fn sealed_ca_key(cluster: &Inner) -> Option<Vec<u8>> {
    cluster.control.read(|control| control.state.sealed.bytes(CA_KEY).map(<[u8]>::to_vec))
}

/// As it is sealed by now. `false`: the state does not have it yet, or has it as an older key sealed it that is not here any more, or
/// the disk is full.
pub(crate) fn keep_ca_key(cluster: &Inner) -> bool {
    let Some(sealed) = sealed_ca_key(cluster) else { return false };
    match cluster.folder.read(SEALED_CA) {
        Ok(known) if known == sealed => return true,
        Ok(known) if cluster.keys.open(CA_KEY, &known).is_err() => {
            let file = cluster.folder.path(SEALED_CA);
            tracing::warn!(file = %file.display(), "damaged: it is written anew from the cluster's state; look at this node's disk");
        }
        _ => {}
    }
    cluster.keys.open(CA_KEY, &sealed).is_ok() && cluster.folder.write(SEALED_CA, &sealed).is_ok()
}

impl Cluster {
    /// When the certificate ends that this node shows to the others, and from when on it is renewed.
    #[must_use]
    pub fn certificate(&self) -> Option<(Millis, Millis)> {
        let validity = self.inner.shown.validity()?;
        let millis = |seconds: u64| Millis(seconds.saturating_mul(1_000));
        Some((millis(validity.until), millis(validity.due(self.inner.certificate_life))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_800_000_000_000);

    fn after(seconds: u64) -> Millis {
        Millis(NOW.0 + seconds * 1_000)
    }

    #[test]
    fn it_is_renewed_at_two_thirds_of_its_life_and_clocks_may_be_wrong_by_one() {
        let (life, validity) = (Duration::from_secs(900), Validity::starting(NOW, Duration::from_secs(900)));
        assert_eq!((validity.from, validity.until), (1_799_999_700, 1_800_000_900));
        for (seconds, due) in [(0, false), (599, false), (600, true), (5_000, true)] {
            assert_eq!(validity.is_due(after(seconds), life), due, "{seconds}");
        }
        assert!(!validity.has_ended(after(899)) && validity.has_ended(after(900)));
        assert!(validity.is_due(Millis(NOW.0 - 301_000), life), "a clock that was set back");
        assert!(validity.is_due(NOW, Duration::from_secs(60)), "it should be good for less");
    }

    #[test]
    fn a_certificate_says_from_when_until_when_it_is_good() {
        let cluster = tidegate_state::ClusterId(7);
        let (ca, ca_key) = identity::new_ca(cluster).unwrap();
        let request = identity::signing_request(&identity::new_key().unwrap()).unwrap();
        let validity = Validity::starting(NOW, LIFE);
        let node = tidegate_model::NodeId(2);
        let certificate = identity::sign(&request, &ca, &ca_key, cluster, node, validity).unwrap();
        assert_eq!(Validity::of(&certificate), Some(validity));
        assert!(Validity::of(&ca).unwrap().until > NOW.0 / 1_000 + 1_000 * 365 * 86_400, "the CA ends");
    }
}
