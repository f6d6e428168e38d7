//! The file: what is in it stands in front, readable by everybody; what it holds, only by whoever has the key.
//!
//! ```text
//! "TIDEBACK" | version (1) | length of manifest (4, LE) | manifest, JSON     the head
//! blake3 of the head (32) | length (2, LE) | signature of that hash by the cluster's CA (ECDSA P-256)
//! the sections, one after another: AES-256-GCM, each under a key of its own
//! ```
//! A section's key comes of X25519 between a key drawn for this file and the operator's. The manifest names the length and the
//! blake3 of each section as it is in the file, so a cut or changed file is found, and the section named, without any key.
//! The version grows when an older release could not read the file; fields may be added to the manifest without.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::key::{BackupKey, Recipient};
use crate::token::{hex, unhex_all};

const MAGIC: &[u8; 8] = b"TIDEBACK";
const VERSION: u8 = 1;
const FRONT: usize = 8 + 1 + 4;
const MOST_MANIFEST: usize = 1 << 20;

/// What the file says about itself. Nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The cluster it is of.
    pub cluster: String,
    /// How often a cluster took another one's place, and 1.
    pub epoch: usize,
    /// Milliseconds since 1970.
    pub made_at: u64,
    /// The node that made it.
    pub node: u64,
    pub release: String,
    pub feature_level: u32,
    /// The last entry of the control log that is in it.
    pub control_index: u64,
    pub control_term: u64,
    pub quota_index: u64,
    pub quota_term: u64,
    pub counts: Counts,
    /// Fingerprint of the cluster's CA, which signed this.
    pub ca: String,
    /// The CA's certificate, hex of DER.
    pub ca_certificate: String,
    /// The public half of the key that opens it.
    pub key: String,
    /// The public half of the key that was drawn for it.
    pub drawn: String,
    pub sections: Vec<Section>,
}

/// How much of what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The newest revision of the document.
    pub revision: u64,
    pub documents: usize,
    pub nodes: usize,
    pub keys: usize,
    pub revoked_keys: usize,
    pub admin_tokens: usize,
    pub certificates: usize,
    pub secrets: usize,
    pub orders: usize,
    pub limits: usize,
    /// Counters of budgets and calendar windows.
    pub budgets: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    pub name: String,
    /// As it is in the file.
    pub bytes: u64,
    pub blake3: String,
}

/// What is wrong with a file that should be a backup, or with the key for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// `head` or the name of a section; empty: the file is as it was written, and does not fit the key.
    pub section: String,
    pub what: String,
}

impl Broken {
    pub(super) fn new(section: &str, what: impl fmt::Display) -> Self {
        Self { section: section.to_owned(), what: what.to_string() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.section.as_str() {
            "" => f.write_str(&self.what),
            section => write!(f, "the backup is damaged: section {section}: {}", self.what),
        }
    }
}

impl std::error::Error for Broken {}

/// A file whose every byte is as it was written.
pub(crate) struct Archive<'a> {
    pub(crate) manifest: Manifest,
    bodies: Vec<&'a [u8]>,
}

/// Makes the file. `manifest` without what this adds: key, drawn, sections.
pub(super) fn write(
    mut manifest: Manifest,
    sections: Vec<(&str, Vec<u8>)>,
    recipient: &Recipient,
    ca_key: &[u8],
) -> Result<Vec<u8>, String> {
    let drawn = BackupKey::new();
    let shared = drawn.agree(recipient)?;
    (manifest.key, manifest.drawn) = (recipient.to_string(), drawn.recipient()?.to_string());
    let mut bodies = Vec::with_capacity(sections.len());
    for (name, mut body) in sections {
        let key = section_key(&shared, &drawn.recipient()?, recipient, name)?;
        key.seal_in_place_append_tag(nonce(), Aad::from(aad(&manifest.cluster, name)), &mut body)
            .map_err(|_| "sealing failed".to_owned())?;
        let blake3 = blake3::hash(&body).to_hex().to_string();
        manifest.sections.push(Section { name: name.to_owned(), bytes: body.len() as u64, blake3 });
        bodies.push(body);
    }
    let manifest = serde_json::to_vec(&manifest).map_err(|error| error.to_string())?;
    let mut file = MAGIC.to_vec();
    file.push(VERSION);
    file.extend_from_slice(&u32::try_from(manifest.len()).map_err(|error| error.to_string())?.to_le_bytes());
    file.extend_from_slice(&manifest);
    let hash = blake3::hash(&file);
    let signature = sign(ca_key, hash.as_bytes())?;
    file.extend_from_slice(hash.as_bytes());
    file.extend_from_slice(&u16::try_from(signature.len()).map_err(|error| error.to_string())?.to_le_bytes());
    file.extend_from_slice(&signature);
    bodies.iter().for_each(|body| file.extend_from_slice(body));
    Ok(file)
}

/// Reads the head and checks every hash: nothing is opened yet, and no key needed.
pub(crate) fn read(file: &[u8]) -> Result<Archive<'_>, Broken> {
    let (manifest, mut rest) = head(file)?;
    let mut bodies = Vec::with_capacity(manifest.sections.len());
    for section in &manifest.sections {
        let length = usize::try_from(section.bytes).unwrap_or(usize::MAX);
        let Some((body, after)) = rest.split_at_checked(length) else {
            let what = format!("cut off: {} of {length} bytes are there", rest.len());
            return Err(Broken::new(&section.name, what));
        };
        if blake3::hash(body).to_hex().as_str() != section.blake3 {
            return Err(Broken::new(&section.name, "changed: its hash is not the one in the head"));
        }
        bodies.push(body);
        rest = after;
    }
    if !rest.is_empty() {
        return Err(Broken::new("end", format!("{} bytes too many", rest.len())));
    }
    Ok(Archive { manifest, bodies })
}

fn head(file: &[u8]) -> Result<(Manifest, &[u8]), Broken> {
    let broken = |what: &dyn fmt::Display| Broken::new("head", what);
    let cut = || broken(&"cut off");
    if !file.starts_with(MAGIC) {
        return Err(broken(&"not a backup of tidegate"));
    }
    let version = *file.get(8).ok_or_else(cut)?;
    if version != VERSION {
        return Err(broken(&format_args!("version {version}, and this release reads version {VERSION}")));
    }
    let length = file.get(9..FRONT).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).ok_or_else(cut)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MOST_MANIFEST {
        return Err(broken(&"changed: the manifest is longer than any"));
    }
    let (front, rest) = file.split_at_checked(FRONT + length).ok_or_else(cut)?;
    let (hash, rest) = rest.split_at_checked(32).ok_or_else(cut)?;
    if blake3::hash(front).as_bytes() != hash {
        return Err(broken(&"changed: its hash is another one"));
    }
    let manifest: Manifest = serde_json::from_slice(&front[FRONT..]).map_err(|error| broken(&error))?;
    let (signed, rest) = rest.split_at_checked(2).ok_or_else(cut)?;
    let signed = usize::from(signed[0]) | usize::from(signed[1]) << 8;
    let (signature, rest) = rest.split_at_checked(signed).ok_or_else(cut)?;
    verify(&manifest, hash, signature).map_err(|what| broken(&what))?;
    Ok((manifest, rest))
}

impl Archive<'_> {
    /// What a section holds.
    pub(crate) fn open(&self, name: &str, key: &BackupKey) -> Result<Vec<u8>, Broken> {
        let at = self.manifest.sections.iter().position(|section| section.name == name);
        let at = at.ok_or_else(|| Broken::new(name, "missing"))?;
        let given = key.recipient().map_err(|what| Broken::new("", what))?.to_string();
        if given != self.manifest.key {
            let sealed = &self.manifest.key;
            let what = format!(
                "the backup is sealed for the key {sealed}, and the key that was given is {given}: give that one"
            );
            return Err(Broken::new("", what));
        }
        self.open_at(at, name, key).map_err(|what| Broken::new(name, what))
    }

    fn open_at(&self, at: usize, name: &str, key: &BackupKey) -> Result<Vec<u8>, String> {
        let recipient = key.recipient()?;
        let drawn = Recipient::parse(&self.manifest.drawn)?;
        let shared = key.agree(&drawn)?;
        let sealed = section_key(&shared, &drawn, &recipient, name)?;
        let mut body = self.bodies[at].to_vec();
        let aad = aad(&self.manifest.cluster, name);
        let opened = sealed
            .open_in_place(nonce(), Aad::from(aad), &mut body)
            .map_err(|_| "not sealed with this key, or changed".to_owned())?;
        Ok(opened.to_vec())
    }
}

fn aad(cluster: &str, name: &str) -> Vec<u8> {
    format!("{cluster}/{name}").into_bytes()
}

/// Each key seals one section of one file, so one nonce will do.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn section_key(shared: &[u8; 32], drawn: &Recipient, whose: &Recipient, name: &str) -> Result<LessSafeKey, String> {
    let context = format!("tidegate backup 1, section {name}");
    let key = blake3::derive_key(&context, &[shared.as_slice(), drawn.bytes(), whose.bytes()].concat());
    let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| "a section's key has a wrong length".to_owned())?;
    Ok(LessSafeKey::new(key))
}

fn sign(ca_key: &[u8], hash: &[u8]) -> Result<Vec<u8>, String> {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, ca_key);
    let key = key.map_err(|error| format!("the cluster CA's key: {error}"))?;
    let signature = key.sign(&SystemRandom::new(), hash).map_err(|_| "signing failed".to_owned())?;
    Ok(signature.as_ref().to_vec())
}

/// Who can write into the place where backups are kept, and knows the public key, could seal a state of its own making. Its
/// signature would be another CA's, whose fingerprint is shown.
fn verify(manifest: &Manifest, hash: &[u8], signature: &[u8]) -> Result<(), String> {
    let der = unhex_all(&manifest.ca_certificate).ok_or("the CA's certificate is no hex")?;
    if hex(blake3::hash(&der).as_bytes()) != manifest.ca {
        return Err("the CA's certificate is not the one that is named".into());
    }
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).map_err(|error| error.to_string())?;
    let public = &certificate.public_key().subject_public_key.data;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public.as_ref());
    key.verify(hash, signature).map_err(|_| "the signature is not the cluster CA's".to_owned())
}
