//! Backups that the cluster makes by itself.

use std::path::PathBuf;
use std::time::Duration;

use crate::AwsKeys;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backups {
    pub every: Duration,
    /// So many are kept.
    pub keep: usize,
    /// The public half of the key that opens them.
    pub key: Box<str>,
    pub to: BackupPlace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupPlace {
    Folder(PathBuf),
    S3(S3Place),
}

/// A store that speaks S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    pub endpoint: http::Uri,
    pub bucket: Box<str>,
    /// Empty, or without a slash at either end.
    pub prefix: Box<str>,
    pub keys: AwsKeys,
    /// PEM roots instead of the system's.
    pub ca: Option<Vec<u8>>,
}
