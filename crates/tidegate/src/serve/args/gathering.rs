//! What machines are told that form a cluster together.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};

use super::{Token, reachable};

/// Of the file, or of TIDEGATE_CLUSTER_SECRET: a flag would show it to everybody on the machine.
pub(super) fn secret(file: Option<&Path>) -> anyhow::Result<Option<tidegate_cluster::Secret>> {
    let (text, from) = match (file, std::env::var("TIDEGATE_CLUSTER_SECRET")) {
        (Some(file), _) => (read_secret(file, "the cluster secret")?, file.display().to_string()),
        (None, Ok(text)) if !text.is_empty() => (text, "TIDEGATE_CLUSTER_SECRET".to_owned()),
        (None, _) => return Ok(None),
    };
    tidegate_cluster::Secret::new(&text).map(Some).map_err(|why| anyhow!("{from}: {why}"))
}

pub(super) fn first_admin_token(file: Option<&Path>) -> anyhow::Result<Option<Token>> {
    let Some(file) = file else { return Ok(None) };
    let token = read_secret(file, "the first admin token")?.trim().to_owned();
    let body = token.strip_prefix("tga_").unwrap_or_default();
    if body.len() < 32 || 256 < body.len() || !body.chars().all(|c| c.is_ascii_alphanumeric()) {
        bail!(
            "{}: an admin token is `tga_` and 32 to 256 letters and digits, such as tga_$(openssl rand -hex 32)",
            file.display()
        );
    }
    Ok(Some(Token(token)))
}

fn read_secret(file: &Path, what: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("reading {what} from {}", file.display()))
}

/// Do these settings go together?
pub(super) fn check(peers: &[String], has_secret: bool, joins: bool) -> anyhow::Result<()> {
    const MOST: usize = 64;
    if peers.is_empty() {
        return Ok(());
    }
    if joins {
        bail!("both initial peers and a node to join: say one of them");
    }
    if !has_secret {
        bail!("--initial-peers needs a secret that all of them know: --cluster-secret-file or TIDEGATE_CLUSTER_SECRET");
    }
    if MOST < peers.len() {
        bail!(
            "{} initial peers: at most {MOST} form a cluster; further nodes join it when they are told the same",
            peers.len()
        );
    }
    if let Some(twice) = peers.iter().enumerate().find_map(|(at, peer)| peers[..at].contains(peer).then_some(peer)) {
        bail!("--initial-peers names {twice} twice: a majority of different machines forms the cluster");
    }
    peers.iter().try_for_each(|peer| reachable(peer, "--initial-peers"))
}
