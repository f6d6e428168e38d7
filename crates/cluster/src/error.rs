//! Why a node does not start, or a proposal has no outcome. Texts are for operators: what, where, and the way out.

use std::fmt;
use std::path::PathBuf;

use crate::disaster::Broken;
use crate::store::Damage;

/// Why [`Cluster::start`](crate::Cluster::start) failed.
#[derive(Debug)]
pub enum Error {
    /// Another process uses the data folder.
    InUse(PathBuf),
    /// A file is damaged or missing.
    Damage(Damage),
    /// The settings do not fit what is on disk.
    Settings(String),
    /// Wrong, used or expired token, or another cluster: trying again will not help.
    JoinRefused(String),
    /// No member answered in time.
    JoinFailed(String),
    /// A backup is not as it was written, or not for this key.
    Backup(Broken),
    Io {
        what: String,
        error: std::io::Error,
    },
    Internal(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(folder) => {
                write!(f, "the data folder {} is in use by another process (its LOCK is held)", folder.display())
            }
            Self::Damage(damage) => damage.fmt(f),
            Self::Backup(broken) => broken.fmt(f),
            Self::Settings(what) => f.write_str(what),
            Self::JoinRefused(reason) => write!(f, "the cluster refused this node: {reason}"),
            Self::JoinFailed(reason) => write!(f, "joining failed: {reason}"),
            Self::Io { what, error } => write!(f, "{what}: {error}"),
            Self::Internal(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        Self::Backup(broken)
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        Self::Internal(format!("TLS between nodes: {error}"))
    }
}

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self::Internal(format!("certificates between nodes: {error}"))
    }
}

/// Why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProposeError {
    /// No leader took it in time. It may still be applied: proposing again with the same request id tells.
    NoLeader(String),
    /// This node was removed from the cluster.
    Removed(String),
    /// This node's disk is full: it takes nothing, and nothing was done.
    DiskFull(String),
    /// This node is shutting down.
    Stopped,
    /// It would break the cluster; the text says what to do instead.
    Refused(String),
    /// Some live node is of a release that does not understand it.
    TooNew { reason: String, hint: String },
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader(reason) => write!(f, "no leader answered in time: {reason}"),
            Self::Removed(reason) => write!(f, "this node was removed from the cluster: {reason}"),
            Self::DiskFull(reason) => write!(f, "read-only: {reason}; or ask another node"),
            Self::Stopped => f.write_str("this node is shutting down"),
            Self::Refused(reason) => f.write_str(reason),
            Self::TooNew { reason, hint } => write!(f, "{reason} ({hint})"),
        }
    }
}

impl std::error::Error for ProposeError {}
