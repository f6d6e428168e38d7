//! A new cluster from a backup. Everything is read and checked before anything is written.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use tidegate_model::{LEVEL, Millis, NodeId};
use tidegate_quota::Ledger;
use tidegate_quota::ledger::reborn::{Budgets, Reckoned};
use tidegate_state::cluster_keys::SUBJECTS;
use tidegate_state::lineage::{Anew, Ending, First, Newcomer};
use tidegate_state::{CA_KEY, ClusterId, State};

use super::archive::{self, Broken, Manifest};
use super::backup::{CONTROL, QUOTA, SECRETS, Secrets};
use super::found::{self, After, Founding};
use super::install;
use super::key::BackupKey;
use crate::certificate::{LIFE, Validity};
use crate::cluster::wall;
use crate::codec;
use crate::error::Error;
use crate::folder::Folder;
use crate::keys::Ring;
use crate::seal::ClusterKey;
use crate::token::{admin_token_hash, new_admin_token, random};
use crate::transport::identity::{self, Identity};

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What people call the first node.
    pub name: String,
    pub now: Millis,
    pub budgets: Budgets,
}

/// A cluster that is ready to be started.
#[derive(Debug)]
pub struct Restored {
    pub manifest: Manifest,
    pub cluster: ClusterId,
    pub node: NodeId,
    pub epoch: usize,
    pub reckoned: Vec<Reckoned>,
    /// Of the newest document: its text, for names of limits.
    pub document: Option<String>,
}

/// Makes a data folder of a new cluster of one. The folder must be empty, or not there.
///
/// # Errors
/// The backup is damaged or not for this key, the folder is not empty or cannot be written. Nothing is there then.
pub async fn restore(file: &[u8], key: &BackupKey, data: &Path, wish: &Wish) -> Result<Restored, Error> {
    let archive = archive::read(file)?;
    let manifest = archive.manifest.clone();
    if LEVEL < manifest.feature_level {
        let (has, level) = (LEVEL, manifest.feature_level);
        let what = format!(
            "the backup was made at feature level {level} (release {}), and this release has {has}: \
                            restore it with a release as new as that",
            manifest.release
        );
        return Err(Error::Settings(what));
    }
    let secrets: Secrets = open(&archive, SECRETS, key)?;
    let mut state: State = open(&archive, CONTROL, key)?;
    let ledger: Ledger = open(&archive, QUOTA, key)?;
    drop(archive);
    if state.members.cluster().to_string() != manifest.cluster {
        return Err(Broken::new(CONTROL, "of another cluster than the head says").into());
    }

    let (cluster, cluster_key) = (ClusterId(u128::from_le_bytes(random())), ClusterKey(secrets.cluster_key));
    let node_key = identity::new_key()?;
    let token = new_admin_token();
    let first = First::New(Newcomer {
        name: wish.name.clone(),
        feature_level: LEVEL,
        public_key: identity::public_key(&node_key),
        admin_token: admin_token_hash(&token),
    });
    let node = state.begin_anew(&Anew { cluster, how: Ending::Restored, at: wish.now, first });
    let node = node.ok_or_else(|| Error::Settings("the name of the node is too long".into()))?;
    let sealed = state.sealed.bytes(CA_KEY).ok_or_else(|| Broken::new(CONTROL, "the cluster CA's key is missing"))?;
    let ca_key = cluster_key.open(CA_KEY, sealed).map_err(|what| Broken::new(CONTROL, what))?;
    let ring = ring(cluster_key, &state)?;
    let ca = secrets.ca;
    let validity = Validity::starting(wall(), LIFE);
    let certificate = identity::sign(&identity::signing_request(&node_key)?, &ca, &ca_key, cluster, node, validity)?;
    let identity = Identity { cluster, node, ca, certificate, key: node_key.serialize_der() };
    let (ledger, reckoned) = ledger.reborn(wish.now, wish.budgets);

    must_be_empty(data)?;
    let folder = Folder::open(data)?;
    let founding = Founding {
        identity: &identity,
        ring: &ring,
        name: &wish.name,
        address: "",
        state: &state,
        control: After { index: manifest.control_index, term: manifest.control_term },
        ledger: &ledger,
        quota: After { index: manifest.quota_index, term: manifest.quota_term },
        admin_token: Some(token),
    };
    let written = found::write(data, &founding, "before-restore").await;
    folder.release();
    written?;
    let document = state.documents.latest().map(|published| published.document.to_string());
    Ok(Restored { manifest, cluster, node, epoch: state.later.lineage.epoch(), reckoned, document })
}

/// What limits tell subjects apart by was derived from a key that may be gone: then the state has it.
fn ring(key: ClusterKey, state: &tidegate_state::State) -> Result<Ring, Error> {
    let sealed = state.later.cluster_keys.subjects();
    if sealed.is_empty() {
        return Ok(Ring::first(key));
    }
    let wrong = || Broken::new(CONTROL, "what limits tell subjects apart by cannot be opened");
    let subjects = key.open(SUBJECTS, sealed).ok().and_then(|it| <[u8; 32]>::try_from(it).ok()).ok_or_else(wrong)?;
    Ok(Ring::later(key, subjects))
}

/// Checks every hash, and with the key that every section opens and is what it should be. Needs no node, and writes nothing.
///
/// # Errors
/// What is wrong, by section.
pub fn inspect(file: &[u8], key: Option<&BackupKey>) -> Result<Manifest, Broken> {
    let archive = archive::read(file)?;
    if let Some(key) = key {
        open::<Secrets>(&archive, SECRETS, key)?;
        open::<State>(&archive, CONTROL, key)?;
        open::<Ledger>(&archive, QUOTA, key)?;
    }
    Ok(archive.manifest)
}

fn open<T: serde::de::DeserializeOwned>(
    archive: &archive::Archive<'_>,
    name: &str,
    key: &BackupKey,
) -> Result<T, Broken> {
    let bytes = archive.open(name, key)?;
    codec::decode_snapshot(&bytes).map_err(|error| Broken::new(name, error))
}

fn must_be_empty(data: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::Io { what: format!("data folder {}", data.display()), error }),
    };
    let is_node = data.join("node.json").exists();
    for entry in entries {
        let name = entry.map_err(Error::io(format!("data folder {}", data.display())))?.file_name();
        if name != "lost+found" && (is_node || !is_of_an_attempt(data, &name)) {
            let what = format!(
                "the data folder {} is not empty (there is {}): a backup is restored into an empty one only",
                data.display(),
                name.to_string_lossy()
            );
            return Err(Error::Settings(what));
        }
    }
    Ok(())
}

/// What a restore that failed or was killed leaves behind: nothing that anybody could miss.
fn is_of_an_attempt(data: &Path, name: &OsStr) -> bool {
    match name.to_str() {
        Some("LOCK" | install::BEING_WRITTEN) => true,
        Some("tls" | "control" | "quota" | "backups") => {
            fs::read_dir(data.join(name)).is_ok_and(|mut entries| entries.next().is_none())
        }
        _ => false,
    }
}
