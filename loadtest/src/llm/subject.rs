//! What is measured: each gateway in front of the fake provider, on the first CPU with one worker.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Site, rivals};
use crate::balancer::find_program;
use crate::linux::WhenOrphaned;
use crate::matrix::measure::subject_cpus;
use crate::node::{Cluster, Manner};
use crate::process::{Folder, Process, Start, free_address};

/// Streams that are open at once, and some more.
const CONNECTIONS: u32 = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Hyper,
    /// Of ours, without a word about models: any route, any upstream.
    Plain,
    /// A caller who speaks the provider's language.
    Passing,
    /// OpenAI's caller, Anthropic's provider.
    Translating,
    /// Passing on, with a key, a limit of tokens by key, one of requests by model, and the access log.
    Full,
    LiteLlm,
    Portkey,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Chat,
    /// 64 events as fast as they go.
    Burst,
    /// 100 events, one each 5 ms.
    Paced,
    /// 8 events, one each ms: only the first counts.
    First,
    /// One each second, for long.
    Slow,
}

/// Ends when dropped.
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    /// Process groups to account.
    pub(crate) groups: Vec<u32>,
    pub(crate) headers: Vec<(String, String)>,
    _keep: Keep,
}

#[expect(dead_code, reason = "held only to be dropped")]
pub(crate) enum Keep {
    Process(Process, Folder),
    Cluster(Box<Cluster>),
}

impl Ask {
    pub(crate) const ALL: [Self; 5] = [Self::Chat, Self::Burst, Self::Paced, Self::First, Self::Slow];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Burst => "burst",
            Self::Paced => "paced",
            Self::First => "first",
            Self::Slow => "slow",
        }
    }

    /// As the provider knows it.
    pub(crate) fn model(self) -> &'static str {
        match self {
            Self::Chat => "fake-chat",
            Self::Burst => "fake-events.64",
            Self::Paced => "fake-events.100-pace.5",
            Self::First => "fake-events.8-pace.1",
            Self::Slow => "fake-events.3600-pace.1000",
        }
    }

    /// Beneath `/s/` nginx buffers nothing; every other subject takes any prefix.
    pub(crate) fn path(self) -> &'static str {
        if self == Self::Chat { "/v1/chat/completions" } else { "/s/v1/chat/completions" }
    }

    /// `ours`: by the name that our document has for it.
    pub(crate) fn body(self, ours: bool) -> String {
        let mut body = json!({
            "model": if ours { self.name() } else { self.model() },
            "messages": [
                {"role": "system", "content": "You are an assistant that answers in one sentence."},
                {"role": "user", "content": "Which of the two routes over the mountains is open in winter, and how long does it take on foot?"},
            ],
            "max_tokens": 256,
        });
        if self != Self::Chat {
            body["stream"] = true.into();
        }
        body.to_string()
    }
}

impl Kind {
    /// All that can be measured here; the others are named.
    pub(crate) fn installed() -> Vec<Self> {
        let mut all = vec![Self::Nginx, Self::Hyper, Self::Plain, Self::Passing, Self::Translating, Self::Full];
        for (kind, found, how) in [
            (Self::LiteLlm, rivals::litellm().is_some(), rivals::LITELLM),
            (Self::Portkey, rivals::portkey().is_some(), rivals::PORTKEY),
        ] {
            match found {
                true => all.push(kind),
                false => eprintln!("SKIPPED {}: it is not installed ({how})", kind.name()),
            }
        }
        all
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Hyper => "hyper, empty",
            Self::Plain => "tidegate, plain HTTP",
            Self::Passing => "tidegate, passing on",
            Self::Translating => "tidegate, translating",
            Self::Full => "tidegate, full policy",
            Self::LiteLlm => "LiteLLM",
            Self::Portkey => "Portkey",
        }
    }

    /// Models have names that our document gives them.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Passing | Self::Translating | Self::Full)
    }

    /// A thousand times slower: asked for less, so that the run ends.
    pub(crate) fn is_slow(self) -> bool {
        matches!(self, Self::LiteLlm | Self::Portkey)
    }

    pub(crate) fn start(self, site: &Site<'_>) -> Result<Running> {
        if self.is_ours() || self == Self::Plain {
            return self.tidegate(site);
        }
        let (address, folder) = (free_address()?, Folder::within(site.folder)?);
        let command = match self {
            Self::Nginx => nginx(site, &folder, address)?,
            Self::LiteLlm => rivals::start_litellm(site, &folder, address)?,
            Self::Portkey => rivals::start_portkey(address)?,
            _ => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["empty-proxy", "--layout", "per-worker", "--workers", "1"]);
                command.args(["--http", &address.to_string(), "--upstream", &site.provider.to_string()]);
                command
            }
        };
        let cpus = subject_cpus(1);
        let when_orphaned = if self == Self::Nginx { WhenOrphaned::Terminate } else { WhenOrphaned::Kill };
        let start = Start { name: "subject", logs: &folder.path, when_orphaned, cpus: Some(&cpus) };
        let mut process = Process::start(command, start)?;
        process.wait_until(Duration::from_secs(60), || TcpStream::connect(address).is_ok())?;
        let headers = if self == Self::Portkey { rivals::portkey_headers(site) } else { Vec::new() };
        let groups = vec![process.pid()];
        Ok(Running { kind: self, address, groups, headers, _keep: Keep::Process(process, folder) })
    }

    fn tidegate(self, site: &Site<'_>) -> Result<Running> {
        let manner = Manner { cpus: Some(subject_cpus(1)), ..Manner::default() };
        let cluster = Cluster::start(site.binary, site.folder, 1, manner)?;
        cluster.apply(&self.document(site))?;
        let mut headers = Vec::new();
        if self == Self::Full {
            let answer = cluster.cli_json(&["key", "create", "load"])?;
            let key = answer["secret"].as_str().context("`key create` printed no key")?;
            headers.push(("authorization".to_owned(), format!("Bearer {key}")));
        }
        let (address, groups) = (cluster.nodes[0].http, cluster.groups());
        Ok(Running { kind: self, address, groups, headers, _keep: Keep::Cluster(Box::new(cluster)) })
    }

    /// Limits are real and counted, and too high to be met.
    fn document(self, site: &Site<'_>) -> Value {
        if self == Self::Plain {
            return json!({
                "version": 1,
                "upstreams": [{
                    "name": "fake", "max_connections": CONNECTIONS, "endpoints": [{"url": format!("http://{}", site.provider)}],
                }],
                "routes": [{"name": "plain", "match": {"path": "/{*rest}"}, "to": [{"upstream": "fake"}]}],
            });
        }
        let url = format!("http://{}/v1", site.provider);
        let kind = if self == Self::Translating { "anthropic" } else { "openai_compatible" };
        let url = if self == Self::Translating { url.trim_end_matches("/v1").to_owned() } else { url };
        let model = |ask: Ask| json!({"name": ask.name(), "deployments": [{"provider": "fake", "model": ask.model()}]});
        let names: Vec<&str> = Ask::ALL.iter().map(|ask| ask.name()).collect();
        let mut route = json!({"name": "llm", "match": {"path": "/*"}, "llm": {"models": names}});
        let mut document = json!({
            "version": 1,
            "providers": [{"name": "fake", "kind": kind, "url": url, "max_connections": CONNECTIONS}],
            "models": Ask::ALL.map(model),
        });
        if self == Self::Full {
            route["auth"] = json!(["key"]);
            route["limits"] = json!(["tokens", "calls"]);
            document["consumers"] = json!([{"name": "load"}]);
            document["limits"] = json!([
                {"name": "tokens", "window": "1m", "max": 100_000_000_000_u64, "per": ["key"], "cost": {"from": "tokens"}},
                {"name": "calls", "window": "10s", "max": 100_000_000, "per": ["model"]},
            ]);
            let log = site.folder.join("access.log");
            document["telemetry"] = json!({"access_log": {"format": "json", "file": log}});
        }
        document["routes"] = json!([route]);
        document
    }
}

fn nginx(site: &Site<'_>, folder: &Folder, listen: SocketAddr) -> Result<Command> {
    let text = include_str!("../../conf/nginx-llm.conf")
        .replace("@LISTEN@", &listen.to_string())
        .replace("@UPSTREAM@", &site.provider.to_string())
        .replace("@FOLDER@", &folder.path.display().to_string());
    let file = folder.path.join("nginx-llm.conf");
    fs::write(&file, text)?;
    let mut command = Command::new(find_program("nginx").context("nginx is not installed")?);
    command.arg("-p").arg(&folder.path).arg("-c").arg(file);
    Ok(command)
}
