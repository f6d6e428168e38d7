//! Gateways of others, where someone installed them: they are not fetched.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::Site;
use super::subject::Ask;
use crate::balancer::find_program;
use crate::process::Folder;

pub(super) const LITELLM: &str = "pip install 'litellm[proxy]', its folder on PATH";
pub(super) const PORTKEY: &str = "npm install @portkey-ai/gateway, node_modules/.bin on PATH";

pub(super) fn litellm() -> Option<PathBuf> {
    find_program("litellm")
}

/// Its program has a name that others may have.
pub(super) fn portkey() -> Option<PathBuf> {
    let program = find_program("gateway")?.canonicalize().ok()?;
    program.to_string_lossy().contains("@portkey-ai").then_some(program)
}

pub(super) fn start_litellm(site: &Site<'_>, folder: &Folder, address: SocketAddr) -> Result<Command> {
    let models = Ask::ALL.map(|ask| {
        let (model, base) = (format!("openai/{}", ask.model()), format!("http://{}/v1", site.provider));
        json!({"model_name": ask.model(), "litellm_params": {"model": model, "api_base": base, "api_key": "none"}})
    });
    let file = folder.path.join("litellm.yaml");
    fs::write(&file, json!({"model_list": models}).to_string())?;
    let mut command = Command::new(litellm().context("LiteLLM is not installed")?);
    command.arg("--config").arg(file).args(["--host", "127.0.0.1", "--num_workers", "1"]);
    command.args(["--port", &address.port().to_string(), "--telemetry", "False"]);
    command.env("LITELLM_LOG", "ERROR").env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    // It is asked on this machine alone, and for no key.
    command.env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true");
    Ok(command)
}

pub(super) fn start_portkey(address: SocketAddr) -> Result<Command> {
    let mut command = Command::new("node");
    command.arg(portkey().context("Portkey is not installed")?);
    command.args([format!("--port={}", address.port()), "--headless".to_owned()]);
    command.env("NODE_ENV", "production").env("TRUSTED_CUSTOM_HOSTS", "127.0.0.1");
    Ok(command)
}

pub(super) fn portkey_headers(site: &Site<'_>) -> Vec<(String, String)> {
    let host = format!("http://{}/v1", site.provider);
    [("x-portkey-provider", "openai"), ("x-portkey-custom-host", &host), ("authorization", "Bearer none")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}
