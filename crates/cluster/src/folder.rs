//! The data folder: who holds it, what this node is.
//!
//! ```text
//! LOCK         held while a process uses the folder
//! node.json    format, cluster, node, where the others were last; written last, so that a half-made folder shows
//! gathering.json  until it is a node: whom it gave its word that it may form the cluster
//! admin.token  the first admin token, on the node that formed the cluster
//! tls/         ca.der node.der node.key cluster.key, and sums: what they, and the ids in node.json, must hash to;
//!              node.renewed instead of node.der, ca.sealed: see `certificate`; cluster.ring: see `keys`
//! control/ quota/   the logs and snapshots of the groups      backups/
//! ```
//! Folders 0700, files 0600.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use tidegate_model::NodeId;
use tidegate_state::ClusterId;

use crate::certificate;
use crate::disaster::install;
use crate::error::Error;
use crate::keys::{FIRST, RING, Ring};
use crate::seal::ClusterKey;
use crate::store::{Damage, sync_folder};
use crate::transport::identity::{self, Identity};

/// Grows when an older release could no longer read the folder.
const FORMAT: u32 = 1;

const SECRETS: [&str; 4] = ["tls/node.key", FIRST, RING, "admin.token"];

/// An open data folder; the lock goes with it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    lock: Mutex<Option<File>>,
}

/// `node.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeFile {
    pub(crate) format: u32,
    pub(crate) cluster: String,
    pub(crate) node: u64,
    pub(crate) name: String,
    /// How far this node got.
    pub(crate) stage: Stage,
    /// Peer addresses of the members, as last seen.
    pub(crate) peers: BTreeMap<u64, String>,
    /// What all of that hashes to. Releases before it wrote none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    sum: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// The cluster's first entry is not committed yet: nothing was promised to anybody.
    Forming,
    /// The cluster gave it an id; its logs may not exist yet.
    Joining,
    Member,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        make(path).map_err(Error::io(format!("data folder {}", path.display())))?;
        let file = path.join("LOCK");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&file);
        let lock = lock.map_err(Error::io(format!("file {}", file.display())))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(error)) => {
                return Err(Error::Io { what: format!("locking {}", file.display()), error });
            }
        }
        install::finish(path)?;
        for name in ["tls", "control", "quota", "backups"] {
            make(&path.join(name)).map_err(Error::io(format!("folder {name} in {}", path.display())))?;
        }
        for file in SECRETS.iter().map(|name| path.join(name)) {
            close(&file).map_err(Error::io(format!("file {}", file.display())))?;
        }
        Ok(Self { path: path.to_owned(), lock: Mutex::new(Some(lock)) })
    }

    /// A folder within one that is locked.
    pub(crate) fn within(path: &Path) -> Result<Self, Error> {
        for name in ["tls", "control", "quota"] {
            make(&path.join(name)).map_err(Error::io(format!("folder {name} in {}", path.display())))?;
        }
        Ok(Self { path: path.to_owned(), lock: Mutex::default() })
    }

    /// Lets another process have the folder.
    pub(crate) fn release(&self) {
        drop(self.lock.lock().expect("no panic while locked").take());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What this node is; `None`: the folder is new.
    pub(crate) fn node(&self) -> Result<Option<NodeFile>, Error> {
        let path = self.path("node.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.path("control/log.redb").exists() {
                    return Err(Damage::new(&path, "", "missing, though the folder holds a log").into());
                }
                return Ok(None);
            }
            Err(error) => return Err(Damage::new(&path, "", error).into()),
        };
        let place = |error: &serde_json::Error| format!("line {}, column {}", error.line(), error.column());
        let mut node: NodeFile =
            serde_json::from_slice(&bytes).map_err(|error| Damage::new(&path, place(&error), &error))?;
        if node.format != FORMAT {
            let what = format!("data folder of format {}, this release reads format {FORMAT}", node.format);
            return Err(Error::Settings(what));
        }
        let sum = std::mem::take(&mut node.sum);
        // A release that wrote none wrote no more than these fields.
        let is_whole = match sum.as_str() {
            "" => {
                serde_json::from_slice::<BTreeMap<String, serde::de::IgnoredAny>>(&bytes).is_ok_and(|it| it.len() == 6)
            }
            sum => sum == node.hash()?,
        };
        if !is_whole {
            return Err(Damage::new(&path, "", "not what this node wrote (see its `sum`)").into());
        }
        Ok(Some(node))
    }

    pub(crate) fn write_node(&self, node: &NodeFile) -> Result<(), Error> {
        let node = NodeFile { sum: node.hash()?, ..node.clone() };
        let bytes = serde_json::to_vec_pretty(&node).map_err(|error| Error::Internal(error.to_string()))?;
        self.write("node.json", &bytes)
    }

    /// Writes a file as a whole: aside, fsync, rename.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(name);
        replace(&path, bytes).map_err(Error::io(format!("file {}", path.display())))
    }

    /// Whether it was there or not.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Io { what: format!("file {}", path.display()), error })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.path(name);
        fs::read(&path).map_err(|error| Damage::new(&path, "", error).into())
    }

    /// Begins anew after an interrupted forming: nothing was promised to anybody yet.
    pub(crate) fn clear(&self) -> Result<(), Error> {
        for name in ["control", "quota", "tls"] {
            let path = self.path(name);
            fs::remove_dir_all(&path)
                .and_then(|()| make(&path))
                .map_err(Error::io(format!("folder {}", path.display())))?;
        }
        fs::remove_file(self.path("node.json")).map_err(Error::io("node.json"))
    }

    pub(crate) fn write_identity(&self, identity: &Identity, ring: &Ring) -> Result<(), Error> {
        self.remove(certificate::RENEWED)?;
        self.write("tls/ca.der", &identity.ca)?;
        self.write("tls/node.der", &identity.certificate)?;
        self.write("tls/node.key", &identity.key)?;
        self.write(FIRST, &ring.oldest().0)?;
        self.write("tls/sums", Sums::of(identity, Some(&ring.oldest())).to_string().as_bytes())?;
        if ring.is_first() { self.remove(RING) } else { ring.write(self) }
    }

    pub(crate) fn identity(&self, node: &NodeFile) -> Result<(Identity, Ring), Error> {
        let cluster = u128::from_str_radix(&node.cluster, 16);
        let cluster = cluster.map_err(|error| Damage::new(&self.path("node.json"), "cluster", error))?;
        let later = Ring::read(self)?;
        let key = if later.is_some() { None } else { Some(self.first_key()?) };
        let identity = Identity {
            cluster: ClusterId(cluster),
            node: NodeId(node.node),
            ca: self.certificate("tls/ca.der")?,
            certificate: self.certificate("tls/node.der")?,
            key: self.read("tls/node.key")?,
        };
        identity::read_key(&identity.key).map_err(|error| Damage::new(&self.path("tls/node.key"), "", error))?;
        let sums = self.read("tls/sums")?;
        match Sums::of(&identity, key.as_ref()).differs_from(&String::from_utf8_lossy(&sums)) {
            None => {
                let ring = later.or(key.map(Ring::first)).ok_or_else(|| Error::Internal("no cluster key".into()))?;
                Ok((certificate::newest(self, identity)?, ring))
            }
            // A flipped bit in a key or certificate is found by nobody until another node refuses it.
            Some(name) => Err(Damage::new(&self.path(name), "", "not what this node wrote (see tls/sums)").into()),
        }
    }

    fn first_key(&self) -> Result<ClusterKey, Error> {
        let key = self.read(FIRST)?;
        let key = <[u8; 32]>::try_from(key.as_slice());
        let key = key.map_err(|_| Damage::new(&self.path(FIRST), "", "not 32 bytes long"))?;
        Ok(ClusterKey(key))
    }

    /// A certificate that is whole: a cut one is named here, not by whoever fails to use it.
    fn certificate(&self, name: &str) -> Result<Vec<u8>, Error> {
        let der = self.read(name)?;
        let parsed = rustls::server::ParsedCertificate::try_from(&der.as_slice().into()).map(drop);
        parsed.map_err(|error| Damage::new(&self.path(name), "", error))?;
        Ok(der)
    }
}

/// What files hash to, one a line, as `b3sum` prints it.
struct Sums(Vec<(&'static str, blake3::Hash)>);

impl Sums {
    /// Without `key`: a ring has a hash of its own.
    fn of(identity: &Identity, key: Option<&ClusterKey>) -> Self {
        let ids = identity::name(identity.cluster, identity.node);
        let mut sums = vec![
            ("tls/ca.der", blake3::hash(&identity.ca)),
            ("tls/node.der", blake3::hash(&identity.certificate)),
            ("tls/node.key", blake3::hash(&identity.key)),
            ("node.json", blake3::hash(ids.as_bytes())),
        ];
        // Of a secret of full entropy nothing can be learnt from its hash.
        sums.extend(key.map(|key| (FIRST, blake3::hash(&key.0))));
        Self(sums)
    }

    /// The first file that is not as it was.
    fn differs_from(&self, written: &str) -> Option<&'static str> {
        let known: BTreeMap<&str, &str> =
            written.lines().filter_map(|line| line.split_once("  ")).map(|(sum, name)| (name, sum)).collect();
        let differs = |(name, sum): &&(&'static str, blake3::Hash)| match known.get(name) {
            Some(known) => *known != sum.to_hex().as_str(),
            None => true,
        };
        self.0.iter().find(differs).map(|(name, _)| if known.contains_key(name) { name } else { "tls/sums" })
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(name, sum)| writeln!(f, "{}  {name}", sum.to_hex()))
    }
}

impl NodeFile {
    pub(crate) fn new(identity: &Identity, name: &str, stage: Stage, peers: BTreeMap<u64, String>) -> Self {
        let (cluster, name) = (identity.cluster.to_string(), name.to_owned());
        Self { format: FORMAT, cluster, node: identity.node.0, name, stage, peers, sum: String::new() }
    }

    /// Of one without a sum.
    fn hash(&self) -> Result<String, Error> {
        let bytes = serde_json::to_vec(self).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(blake3::hash(&bytes).to_hex().to_string())
    }
}

pub(crate) fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let metadata = fs::metadata(path)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Nobody else may read it, whoever copied it here.
fn close(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            tracing::warn!(file = %path.display(), "others could read this; its mode is 0600 again");
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}
