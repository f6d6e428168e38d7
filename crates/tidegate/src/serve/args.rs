//! How a node is set up: flags, over `TIDEGATE_*`, over `node.toml`, over defaults.

mod file;
mod gathering;
pub(crate) mod operators;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde::Deserialize;
use tidegate_config::{Size, Span};
use tidegate_model::LEVEL;

use self::file::{ListenerToml, NodeToml};
use super::admin_tls::{Ends, Terms};

/// Counters of limits on a node, and how many there may be.
const LIMIT_KEYS: usize = 200_000;
const LEAST_MEMORY: u64 = 32 << 20;
const MOST_LIMIT_KEYS: std::ops::RangeInclusive<usize> = 1_000..=16_000_000;

/// What can be said on the command line. Everything has a default: without flags this is a cluster of one.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Args {
    /// Settings file; default: ./node.toml if it is there
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data folder [default: ./tidegate-data]
    #[arg(long, value_name = "DIR", env = "TIDEGATE_DATA")]
    pub data: Option<PathBuf>,
    /// What people call this node [default: the host's name]
    #[arg(long, value_name = "NAME", env = "TIDEGATE_NAME")]
    pub name: Option<String>,
    /// Address of the clear-text listener, or `off` [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_HTTP")]
    pub http: Option<String>,
    /// Address of the TLS listener, or `off` [default: 0.0.0.0:8443]
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_HTTPS")]
    pub https: Option<String>,
    /// PEM chain of the admin port; `--admin ADDR` says where that is [default: 127.0.0.1:7080], and beyond loopback it
    /// needs TLS
    #[arg(long, value_name = "FILE", env = "TIDEGATE_ADMIN_CERT", requires = "admin_key")]
    pub admin_cert: Option<PathBuf>,
    /// PEM key of the admin port
    #[arg(long, value_name = "FILE", env = "TIDEGATE_ADMIN_KEY", requires = "admin_cert")]
    pub admin_key: Option<PathBuf>,
    /// PEM: who signs certificates of operators; with one that has a role no token is needed at the admin port
    #[arg(long, value_name = "FILE", env = "TIDEGATE_ADMIN_CLIENT_CA")]
    pub admin_client_ca: Option<PathBuf>,
    /// What an operator's certificate may: its common name and reader, operator or admin, as ann=operator; ou:NAME, o:NAME,
    /// dns:NAME, email:NAME and uri:NAME are other names in it, * is any. The highest that fits counts
    #[arg(long, value_name = "NAME=ROLE,…", env = "TIDEGATE_ADMIN_CLIENT_ROLE", value_delimiter = ',')]
    pub admin_client_role: Vec<String>,
    /// PEM: operators' certificates that were revoked (CRL)
    #[arg(long, value_name = "FILE", env = "TIDEGATE_ADMIN_CLIENT_CRL")]
    pub admin_client_crl: Option<PathBuf>,
    /// Nobody reaches the admin port without a certificate, probes neither
    #[arg(
        long,
        value_name = "YES",
        env = "TIDEGATE_ADMIN_CLIENT_REQUIRED",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub admin_client_required: Option<bool>,
    /// UDP address other nodes reach this one at [default: 0.0.0.0:7081]
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_PEER")]
    pub peer: Option<String>,
    /// The peer address to tell others, if it differs from --peer
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_ADVERTISE")]
    pub advertise: Option<String>,
    /// Where this node is: machines of one zone are lost together, so those that vote are spread over zones. 64 letters, digits
    /// and `-_.` at most [default: it does not say]
    #[arg(long, value_name = "NAME", env = "TIDEGATE_ZONE")]
    pub zone: Option<String>,
    /// Join the cluster of this node (its peer address); needs --token
    #[arg(long, value_name = "HOST:PORT", env = "TIDEGATE_JOIN")]
    pub join: Option<String>,
    /// Peer addresses of the nodes that form the cluster together, this one among them; all are told the same list and the same
    /// --cluster-secret-file, in any order. A majority of them forms it, the others and whoever comes later join it
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        env = "TIDEGATE_INITIAL_PEERS",
        value_delimiter = ',',
        conflicts_with = "join"
    )]
    pub initial_peers: Vec<String>,
    /// File with the secret that lets nodes join without a token: 32 characters or more, the same on all nodes
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CLUSTER_SECRET_FILE")]
    pub cluster_secret_file: Option<PathBuf>,
    /// File with the first admin token, for the node that forms the cluster: `tga_` and 32 characters or more [default: one is
    /// made up and written to DATA/admin.token]
    #[arg(long, value_name = "FILE", env = "TIDEGATE_FIRST_ADMIN_TOKEN_FILE")]
    pub first_admin_token_file: Option<PathBuf>,
    /// Threads that serve requests [default: one per core]
    #[arg(long, value_name = "N", env = "TIDEGATE_WORKERS")]
    pub workers: Option<usize>,
    /// `per-core`: each worker has its own runtime and socket; `shared`: one runtime for all
    #[arg(long, value_name = "LAYOUT", env = "TIDEGATE_RUNTIME")]
    pub runtime: Option<Layout>,
    /// Record every permit in DATA/decisions, for `tidegate quota verify`
    #[arg(long, value_name = "YES", env = "TIDEGATE_DECISION_LOG", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new())]
    pub decision_log: Option<bool>,
    /// How long a draining node stays reachable before it closes its listeners, so that load balancers notice [default: 3s]
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_DRAIN_WAIT")]
    pub drain_wait: Option<String>,
    /// How long a draining node lets requests finish [default: 30s]
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_DRAIN_TIMEOUT")]
    pub drain_timeout: Option<String>,
    /// How long a process that takes over has, from being given the data folder, until it serves: after that this one takes its
    /// node back [default: 60s]
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_HANDOVER_TIMEOUT")]
    pub handover_timeout: Option<String>,
    /// How long a node that is cut off from its cluster still accepts keys: they may be revoked meanwhile [default: 60s]
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_MAX_STALENESS")]
    pub max_staleness: Option<String>,
    /// Bytes of memory for responses that routes keep [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "TIDEGATE_CACHE_MEMORY")]
    pub cache_memory: Option<String>,
    /// Memory that the node may use: above 80 % of it the lowest classes of requests are refused, above 96 % all; at least
    /// 32MiB [default: its cgroup's limit, or what the machine has]
    #[arg(long, value_name = "SIZE", env = "TIDEGATE_MEMORY_LIMIT")]
    pub memory_limit: Option<String>,
    /// Counters of limits held at a time, 1000 to 16000000, about 400 bytes each; for a subject beyond them one is handed back
    /// that nobody uses [default: 200000]
    #[arg(long, value_name = "N", env = "TIDEGATE_LIMIT_KEYS")]
    pub limit_keys: Option<usize>,
    /// A Redis that shares kept responses between nodes; `rediss://` for TLS, `redis+sentinel://H:P,H:P/MASTER`,
    /// `redis+cluster://H:P,H:P`; `none`: none, whatever the document says [default: the document's]
    #[arg(long, value_name = "URL", env = "TIDEGATE_REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    /// PEM certificates that sign the Redis server's [default: the system's]
    #[arg(long, value_name = "FILE", env = "TIDEGATE_REDIS_CA", requires = "redis_url")]
    pub redis_ca: Option<PathBuf>,
    /// While this node leads: a node that does not vote and was not heard of for so long is removed for good; `never`: by
    /// hand alone [default: 24h]
    #[arg(long, value_name = "SPAN", env = "TIDEGATE_FORGET_AFTER")]
    pub forget_after: Option<String>,
    /// Leave the cluster for good when drained by SIGTERM; otherwise the node is expected back
    #[arg(long, value_name = "YES", env = "TIDEGATE_LEAVE", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new())]
    pub leave: Option<bool>,
    /// What the node says of itself on standard error: error, warn, info, debug, or a filter [default: info]
    #[arg(long, value_name = "FILTER", env = "TIDEGATE_LOG")]
    pub log: Option<String>,
    /// `text` or `json` [default: text]
    #[arg(long, value_name = "FORMAT", env = "TIDEGATE_LOG_FORMAT")]
    pub log_format: Option<String>,
    /// Take over from the process that serves from this data folder: its listening sockets first, then the folder; it finishes
    /// what is open. Where none does, start as usual
    #[arg(long)]
    pub take_over: bool,
    /// Write the addresses to this file as JSON once the node is ready
    #[arg(long, value_name = "FILE", hide = true)]
    pub ready_file: Option<PathBuf>,
    /// For tests of clusters of several releases: say this feature level, and not the build's own
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u32).range(1..=i64::from(LEVEL)))]
    pub feature_level: Option<u32>,
    /// For tests: the wall clock is wrong by so many milliseconds
    #[cfg(debug_assertions)]
    #[arg(long, value_name = "MS", hide = true, allow_negative_numbers = true)]
    pub wall_clock_offset: Option<i64>,
    /// For tests of comparisons between nodes: the state of this group differs here, `control` or `quota`
    #[cfg(debug_assertions)]
    #[arg(long, value_name = "GROUP", hide = true)]
    pub diverge: Option<Diverge>,
    /// For tests of hand-overs: is given the data folder, and then does nothing
    #[cfg(debug_assertions)]
    #[arg(long, hide = true)]
    pub stall: bool,
    /// For tests: certificates among nodes are good for so long
    #[arg(long, value_name = "SPAN", hide = true)]
    pub node_certificate_life: Option<String>,
    /// For tests: a key of the cluster that another one replaced is kept for so long
    #[arg(long, value_name = "SPAN", hide = true)]
    pub cluster_key_grace: Option<String>,
    /// Let a crash leave a core dump, which holds secrets [default: none is left]
    #[arg(long, env = "TIDEGATE_CORE_DUMPS")]
    pub core_dumps: bool,
    /// End when the parent process does
    #[arg(long, hide = true)]
    pub exit_with_parent: bool,
}

#[cfg(debug_assertions)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Diverge {
    Control,
    Quota,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Layout {
    PerCore,
    Shared,
}

/// A node's settings, complete and typed.
#[derive(Debug)]
pub(crate) struct Settings {
    pub data: PathBuf,
    pub name: String,
    pub listeners: Vec<Listen>,
    pub admin: SocketAddr,
    pub admin_tls: Option<Terms>,
    pub peer: SocketAddr,
    pub advertise: Option<String>,
    /// Empty: it does not say.
    pub zone: String,
    /// Whom to join, and with what token.
    pub join: Option<(String, Token)>,
    /// Who forms the cluster together; empty: this node alone, or it joins one.
    pub initial_peers: Vec<String>,
    /// Who knows it may join.
    pub secret: Option<tidegate_cluster::Secret>,
    pub first_admin_token: Option<Token>,
    pub workers: usize,
    pub runtime: Layout,
    pub decision_log: bool,
    pub drain_wait: Duration,
    pub drain_timeout: Duration,
    pub handover_timeout: Duration,
    pub max_staleness: Duration,
    pub cache_memory: usize,
    /// `None`: as much as its cgroup or the machine has.
    pub memory_limit: Option<u64>,
    pub limit_keys: usize,
    pub redis: RedisHere,
    /// `None`: never.
    pub forget_after: Option<Duration>,
    pub leave: bool,
    pub log: String,
    pub json_log: bool,
    pub ready_file: Option<PathBuf>,
    /// From the process that serves now.
    pub take_over: bool,
    /// What it says that it understands.
    pub feature_level: u32,
    #[cfg(debug_assertions)]
    pub diverge: Option<Diverge>,
    #[cfg(debug_assertions)]
    pub stall: bool,
    /// `None`: as long as the cluster crate says.
    pub node_certificate_life: Option<Duration>,
    pub cluster_key_grace: Option<Duration>,
}

/// What this node was told about Redis.
#[derive(Debug)]
pub(crate) enum RedisHere {
    /// Nothing: the document decides.
    AsPublished,
    None,
    At(RedisAt),
}

/// A shared cache. The URL may hold a password: never printed.
pub(crate) struct RedisAt {
    pub url: String,
    pub authority: Option<PathBuf>,
}

impl std::fmt::Debug for RedisAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisAt(…)")
    }
}

/// A join token: never printed.
pub(crate) struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Listen {
    pub name: String,
    pub address: SocketAddr,
    pub tls: bool,
}

impl Settings {
    /// # Errors
    /// Says which setting is wrong, where it came from, and what it may be.
    /// `admin` and `token` are the global options of those names: here the address to bind, and the join token.
    pub(crate) fn load(args: Args, admin: &str, token: Option<String>) -> anyhow::Result<Self> {
        // A URL is where the CLI finds a node (its default, or an exported TIDEGATE_ADMIN), not an address to bind.
        let bind_admin = (!admin.contains("://")).then(|| admin.to_owned());
        let file = file::read(args.config.as_deref())?;
        let NodeToml { data, name, admin, admin_cert, admin_key, peer, advertise, join, token: file_token, .. } = &file;
        let listeners = listeners(&args, &file)?;
        let admin = address(bind_admin.as_ref().or(admin.as_ref()), "admin", (Ipv4Addr::LOCALHOST, 7080))?;
        let admin_tls = args.admin_cert.or(admin_cert.clone()).zip(args.admin_key.or(admin_key.clone()));
        let roles = if args.admin_client_role.is_empty() { &file.admin_client_role } else { &args.admin_client_role };
        let operators = operators::of(
            args.admin_client_ca.or(file.admin_client_ca.clone()),
            args.admin_client_crl.or(file.admin_client_crl.clone()),
            args.admin_client_required.unwrap_or(file.admin_client_required),
            roles,
            admin_tls.is_some(),
        )?;
        let admin_tls = admin_tls.map(|(chain, key)| Terms { chain, key, operators, ends: Ends::default() });
        if !admin.ip().is_loopback() && admin_tls.is_none() {
            bail!(
                "the admin port would be reachable at {admin} without TLS: bind it to 127.0.0.1, or give --admin-cert and \
                 --admin-key"
            );
        }
        let join = match args.join.or(join.clone()) {
            None => None,
            Some(to) => {
                let Some(token) = token.or(file_token.clone()) else {
                    bail!("--join {to} needs --token: get one with `tidegate cluster token` on a member");
                };
                Some((to, Token(token)))
            }
        };
        let initial_peers = if args.initial_peers.is_empty() { file.initial_peers.clone() } else { args.initial_peers };
        let secret = gathering::secret(args.cluster_secret_file.or(file.cluster_secret_file.clone()).as_deref())?;
        gathering::check(&initial_peers, secret.is_some(), join.is_some())?;
        let first_admin_token = gathering::first_admin_token(
            args.first_admin_token_file.or(file.first_admin_token_file.clone()).as_deref(),
        )?;
        let max_staleness =
            span(args.max_staleness.or(file.max_staleness.clone()), "max-staleness", Duration::from_secs(60))?;
        if max_staleness < Duration::from_secs(1) {
            bail!("max-staleness {max_staleness:?}: at least 1s, since a node renews its lease twice a second");
        }
        let workers = args.workers.or(file.workers).unwrap_or_else(cores);
        if !(1..=1_024).contains(&workers) {
            bail!("--workers {workers}: 1 to 1024");
        }
        let limit_keys = args.limit_keys.or(file.limit_keys).unwrap_or(LIMIT_KEYS);
        if !MOST_LIMIT_KEYS.contains(&limit_keys) {
            let (least, most) = (MOST_LIMIT_KEYS.start(), MOST_LIMIT_KEYS.end());
            bail!("limit-keys {limit_keys} (--limit-keys, TIDEGATE_LIMIT_KEYS or node.toml): {least} to {most}");
        }
        #[cfg(debug_assertions)]
        if let Some(millis) = args.wall_clock_offset {
            tidegate_clock::shift_wall(millis);
        }
        let memory_limit = match args.memory_limit.or(file.memory_limit.clone()) {
            None => None,
            given => Some(size(given, "memory-limit", 0)? as u64),
        };
        if memory_limit.is_some_and(|limit| limit < LEAST_MEMORY) {
            bail!("memory-limit: at least 32MiB, since a node needs about that much to start");
        }
        let advertise = args.advertise.or(advertise.clone());
        if let Some(text) = &advertise {
            reachable(text, "--advertise")?;
        }
        Ok(Self {
            data: args.data.or(data.clone()).unwrap_or_else(|| "tidegate-data".into()),
            name: node_name(args.name.or(name.clone()).unwrap_or_else(host_name))
                .map_err(|why| anyhow!("name (--name, TIDEGATE_NAME or node.toml): {why}"))?,
            listeners,
            admin,
            admin_tls,
            peer: address(args.peer.as_ref().or(peer.as_ref()), "peer", (Ipv4Addr::UNSPECIFIED, 7081))?,
            advertise,
            zone: zone(args.zone.or(file.zone))?,
            join,
            initial_peers,
            secret,
            first_admin_token,
            workers,
            runtime: args.runtime.or(file.runtime).unwrap_or(Layout::PerCore),
            decision_log: args.decision_log.unwrap_or(file.decision_log),
            drain_wait: span(args.drain_wait.or(file.drain_wait), "drain-wait", Duration::from_secs(3))?,
            drain_timeout: span(args.drain_timeout.or(file.drain_timeout), "drain-timeout", Duration::from_secs(30))?,
            handover_timeout: span(
                args.handover_timeout.or(file.handover_timeout),
                "handover-timeout",
                Duration::from_secs(60),
            )?,
            max_staleness,
            cache_memory: size(args.cache_memory.or(file.cache_memory), "cache-memory", 256 << 20)?,
            memory_limit,
            limit_keys,
            redis: match args.redis_url.or(file.redis_url) {
                None => RedisHere::AsPublished,
                Some(word) if word == "none" => RedisHere::None,
                Some(url) => RedisHere::At(RedisAt { url, authority: args.redis_ca.or(file.redis_ca) }),
            },
            forget_after: forget_after(args.forget_after.or(file.forget_after))?,
            leave: args.leave.unwrap_or(file.leave),
            log: filter(args.log.or(file.log).unwrap_or_else(|| "info".into())),
            json_log: match args.log_format.or(file.log_format).as_deref() {
                None | Some("text") => false,
                Some("json") => true,
                Some(other) => bail!("log format {other:?}: it is text or json"),
            },
            ready_file: args.ready_file,
            take_over: args.take_over,
            feature_level: args.feature_level.unwrap_or(LEVEL),
            #[cfg(debug_assertions)]
            diverge: args.diverge,
            #[cfg(debug_assertions)]
            stall: args.stall,
            node_certificate_life: match args.node_certificate_life {
                None => None,
                given => Some(span(given, "node-certificate-life", Duration::ZERO)?),
            },
            cluster_key_grace: match args.cluster_key_grace {
                None => None,
                given => Some(span(given, "cluster-key-grace", Duration::ZERO)?),
            },
        })
    }
}

/// What people call a node: as the state takes it, and as a terminal shows it.
pub(crate) fn node_name(name: String) -> Result<String, &'static str> {
    let is_short = (1..=tidegate_state::MAX_NAME).contains(&name.len());
    let is_shown = !name.chars().any(char::is_control);
    if is_short && is_shown { Ok(name) } else { Err("1 to 256 bytes, without control characters") }
}

fn zone(given: Option<String>) -> anyhow::Result<String> {
    let zone = given.unwrap_or_default();
    let may = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if 64 < zone.len() || !zone.bytes().all(may) {
        bail!("zone {zone:?} (--zone, TIDEGATE_ZONE or node.toml): at most 64 letters, digits and `-_.`");
    }
    Ok(zone)
}

/// `http` and `https` by their defaults, changed by the file, changed by flags.
fn listeners(args: &Args, file: &NodeToml) -> anyhow::Result<Vec<Listen>> {
    let mut all = BTreeMap::new();
    let built_in = file.listeners.is_empty();
    if built_in {
        all.insert("http".to_owned(), ListenerToml { address: "0.0.0.0:8080".into(), tls: false });
        all.insert("https".to_owned(), ListenerToml { address: "0.0.0.0:8443".into(), tls: true });
    }
    all.extend(file.listeners.clone());
    for (name, flag, tls) in [("http", &args.http, false), ("https", &args.https, true)] {
        match flag.as_deref() {
            None => {}
            Some("off") => drop(all.remove(name)),
            Some(address) => drop(all.insert(name.to_owned(), ListenerToml { address: address.to_owned(), tls })),
        }
    }
    all.into_iter()
        .map(|(name, listener)| {
            let address = parse(&listener.address, &name)?;
            Ok(Listen { name, address, tls: listener.tls })
        })
        .collect()
}

fn address(given: Option<&String>, name: &str, default: (Ipv4Addr, u16)) -> anyhow::Result<SocketAddr> {
    match given {
        Some(text) => parse(text, name),
        None => Ok((IpAddr::V4(default.0), default.1).into()),
    }
}

fn parse(text: &str, name: &str) -> anyhow::Result<SocketAddr> {
    let with_host = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    with_host.parse().with_context(|| {
        let variable = name.to_uppercase();
        format!("{name} address {text:?} (--{name}, TIDEGATE_{variable} or node.toml): write it as 127.0.0.1:8080 or [::1]:8080")
    })
}

/// `HOST:PORT`, as others will dial it.
fn reachable(text: &str, flag: &str) -> anyhow::Result<()> {
    let parts =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && (!host.contains(':') || host.starts_with('[')));
    let port = parts.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0);
    port.map(drop).with_context(|| format!("{flag} {text:?}: write it as host:7081 or [::1]:7081"))
}

fn span(given: Option<String>, name: &str, default: Duration) -> anyhow::Result<Duration> {
    given.map_or(Ok(default), |text| Span::or_seconds(&text).map_err(|why| anyhow!("{name}: {why}")))
}

fn forget_after(given: Option<String>) -> anyhow::Result<Option<Duration>> {
    const LEAST: Duration = Duration::from_secs(60);
    if given.as_deref() == Some("never") {
        return Ok(None);
    }
    let after = span(given, "forget-after", Duration::from_secs(24 * 60 * 60))?;
    if after < LEAST {
        bail!("forget-after {after:?}: at least 1m, or `never`: a node that restarts is to find its place again");
    }
    Ok(Some(after))
}

fn size(given: Option<String>, name: &str, default: usize) -> anyhow::Result<usize> {
    let Some(text) = given else { return Ok(default) };
    let size: Size = text.parse().map_err(|why| anyhow!("{name}: {why}"))?;
    usize::try_from(size.0).with_context(|| format!("{name} {text:?}: more than this machine can address"))
}

/// A bare level speaks of Tidegate; its libraries say only what went wrong. Any other filter is taken as it is.
fn filter(wanted: String) -> String {
    if matches!(wanted.as_str(), "error" | "warn" | "info") {
        return format!("{wanted},openraft=error,quinn=warn,hickory_resolver=error");
    }
    wanted
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "node".into() } else { name.trim().to_owned() }
}
