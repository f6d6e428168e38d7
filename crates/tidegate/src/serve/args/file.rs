//! `node.toml`, as it is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::Deserialize;

use super::Layout;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeToml {
    pub(super) data: Option<PathBuf>,
    pub(super) name: Option<String>,
    pub(super) admin: Option<String>,
    pub(super) admin_cert: Option<PathBuf>,
    pub(super) admin_key: Option<PathBuf>,
    pub(super) admin_client_ca: Option<PathBuf>,
    #[serde(default)]
    pub(super) admin_client_role: Vec<String>,
    pub(super) admin_client_crl: Option<PathBuf>,
    #[serde(default)]
    pub(super) admin_client_required: bool,
    pub(super) peer: Option<String>,
    pub(super) advertise: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) join: Option<String>,
    pub(super) token: Option<String>,
    #[serde(default)]
    pub(super) initial_peers: Vec<String>,
    pub(super) cluster_secret_file: Option<PathBuf>,
    pub(super) first_admin_token_file: Option<PathBuf>,
    pub(super) workers: Option<usize>,
    pub(super) runtime: Option<Layout>,
    #[serde(default)]
    pub(super) decision_log: bool,
    pub(super) drain_wait: Option<String>,
    pub(super) drain_timeout: Option<String>,
    pub(super) handover_timeout: Option<String>,
    pub(super) max_staleness: Option<String>,
    pub(super) cache_memory: Option<String>,
    pub(super) memory_limit: Option<String>,
    pub(super) limit_keys: Option<usize>,
    pub(super) redis_url: Option<String>,
    pub(super) redis_ca: Option<PathBuf>,
    pub(super) forget_after: Option<String>,
    #[serde(default)]
    pub(super) leave: bool,
    pub(super) log: Option<String>,
    pub(super) log_format: Option<String>,
    /// Listener names to addresses; the document attaches hosts and certificates to these names.
    #[serde(default)]
    pub(super) listeners: BTreeMap<String, ListenerToml>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerToml {
    pub(super) address: String,
    #[serde(default)]
    pub(super) tls: bool,
}

pub(super) fn read(given: Option<&Path>) -> anyhow::Result<NodeToml> {
    let path = given.unwrap_or(Path::new("node.toml"));
    if given.is_none() && !path.exists() {
        return Ok(NodeToml::default());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    // Its own words show the line that is wrong, with whatever secret stands there.
    toml::from_str(&text).map_err(|why| {
        let line = why.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        anyhow!("in {}, line {line}: {}", path.display(), without_values(why.message()))
    })
}

/// What a message quotes as a value is left out.
fn without_values(message: &str) -> String {
    message.split('"').enumerate().map(|(at, part)| if at % 2 == 0 { part } else { "…" }).collect()
}
