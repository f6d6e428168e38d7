//! What a document refers to and does not hold: secrets, files, and what the program can do. The caller fetches them, on each node anew; nothing
//! here reads an environment or a disk.

use std::collections::HashMap;
use std::fmt;

use tidegate_model::Feature;

use crate::document::{Document, Secret};

/// One thing to fetch before [`crate::compile`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Need {
    /// A variable of the node's environment.
    Env(String),
    /// A file, relative to the node's working directory.
    File(String),
    /// What the cluster keeps sealed under this name.
    Sealed(String),
}

/// Everything `document` needs, each once.
#[must_use]
pub fn needs(document: &Document) -> Vec<Need> {
    let secrets = document.secrets.iter().filter_map(need);
    let clients = document.certificates.iter().filter_map(|c| c.clients.as_ref()).map(|clients| clients.ca.clone());
    let certificates = document.certificates.iter().flat_map(|c| [c.file.clone(), c.key.clone()]);
    let acme = document.acme.iter().filter_map(|rules| rules.ca.clone());
    let staples = document.certificates.iter().filter_map(|c| c.ocsp.clone());
    let certificates = certificates.filter(|file| !file.is_empty()).chain(clients).chain(acme).chain(staples);
    let certificates = certificates.map(Need::File);
    let tls = document.upstreams.iter().map(|u| &u.tls).chain(document.providers.iter().map(|p| &p.tls));
    let roots = tls.flatten().flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]).flatten().cloned().map(Need::File);
    let redis = document.cache.iter().filter_map(|cache| cache.redis.as_ref()?.ca.clone()).map(Need::File);
    let stores = document.backups.iter().filter_map(|rules| rules.s3.as_ref()?.ca.clone()).map(Need::File);
    let otlp = document.telemetry.iter().filter_map(|rules| rules.otlp.as_ref()?.ca.clone()).map(Need::File);
    let sets =
        document.issuers.iter().filter_map(|issuer| issuer.jwks.as_ref()).flat_map(|jwks| [&jwks.ca, &jwks.file]);
    let keys = document.issuers.iter().map(|issuer| &issuer.public_key);
    let tokens = sets.chain(keys).flatten().cloned().map(Need::File);
    let mut needs: Vec<Need> =
        secrets.chain(certificates).chain(roots).chain(redis).chain(stores).chain(otlp).chain(tokens).collect();
    needs.sort();
    needs.dedup();
    needs
}

pub(crate) fn need(secret: &Secret) -> Option<Need> {
    if secret.from == "sealed" {
        return Some(Need::Sealed(secret.name.clone()));
    }
    let (kind, name) = secret.from.split_once(':')?;
    match (kind, name) {
        (_, "") => None,
        ("env", name) => Some(Need::Env(name.to_owned())),
        ("file", path) => Some(Need::File(path.to_owned())),
        ("sealed", name) => Some(Need::Sealed(name.to_owned())),
        _ => None,
    }
}

/// What was fetched. Never printed.
#[derive(Default)]
pub struct Inputs {
    found: HashMap<Need, Result<Vec<u8>, String>>,
    lenient: bool,
    lacks: Vec<Feature>,
}

impl Inputs {
    /// Fetches what `document` needs. `fetch` says why it could not.
    pub fn gather(document: &Document, mut fetch: impl FnMut(&Need) -> Result<Vec<u8>, String>) -> Self {
        let found = needs(document).into_iter().map(|need| {
            let value = fetch(&need);
            (need, value)
        });
        Self { found: found.collect(), lenient: false, lacks: Vec::new() }
    }

    /// Takes everything as present: for checking a document away from the nodes. What is compiled with it must not be
    /// served.
    #[must_use]
    pub fn assumed() -> Self {
        Self { found: HashMap::new(), lenient: true, lacks: Vec::new() }
    }

    #[must_use]
    pub fn with(mut self, need: Need, value: impl Into<Vec<u8>>) -> Self {
        self.found.insert(need, Ok(value.into()));
        self
    }

    /// The program was built without this: documents that use it cannot be served.
    #[must_use]
    pub fn without(mut self, feature: Feature) -> Self {
        self.lacks.push(feature);
        self
    }

    pub(crate) fn lacks(&self, feature: Feature) -> bool {
        self.lacks.contains(&feature)
    }

    /// `Ok(None)`: assumed.
    pub(crate) fn value(&self, need: &Need) -> Result<Option<&[u8]>, String> {
        match self.found.get(need) {
            Some(Ok(value)) => Ok(Some(value)),
            _ if self.lenient => Ok(None),
            Some(Err(why)) => Err(format!("{need} cannot be read: {why}")),
            None => Err(format!("{need} was not read")),
        }
    }
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.found.keys()).finish()
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {path}"),
            Self::Sealed(name) => write!(f, "the sealed secret {name}"),
        }
    }
}
