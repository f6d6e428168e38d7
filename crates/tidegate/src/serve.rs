//! `tidegate serve`: the assembly of a node, in reading order: settings, cluster, limiter, what requests see, listeners,
//! admin port; then wait for a signal, drain, leave, stop.

mod acme;
mod admin_tls;
mod alerts;
mod args;
mod backups;
mod breakers;
mod caches;
mod certificates;
mod drain;
mod effect;
mod files;
mod fills;
mod gauges;
mod guards;
mod inputs;
mod issuers;
mod journals;
mod leases;
mod listeners;
mod otlp;
mod purges;
mod quotas;
mod ready;
mod redis;
mod staleness;
mod tickets;
mod usage;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tidegate_auth::Keys;
use tidegate_cluster::{Acks, Cluster, Start};
use tidegate_limiter::{DecisionLog, Limiter};
use tidegate_model::Incarnation;
use tidegate_proxy::{Bounds, Drain, Gate};
use tidegate_telemetry::{LogFormat, Telemetry};
use tidegate_upstream::Upstreams;

use self::args::Settings;
pub(crate) use self::args::{Args, host_name};
use self::breakers::Breakers;
use self::caches::Caches;
use self::effect::Effect;
use self::journals::Journals;
use self::listeners::Listeners;
use self::quotas::Quotas;
use self::staleness::Staleness;
use self::usage::UsageTold;

/// Runs a node until it is told to end. `admin` and `token` are the global options of those names.
///
/// # Errors
/// The settings are wrong, an address is taken, the data folder is damaged, or the cluster cannot be joined.
pub(crate) fn run(args: Args, admin: &str, token: Option<String>) -> anyhow::Result<()> {
    if args.exit_with_parent {
        crate::process::end_with_parent();
    }
    let settings = Settings::load(args, admin, token)?;
    let format = if settings.json_log { LogFormat::Json } else { LogFormat::Text };
    tidegate_telemetry::init_logs(&settings.log, format).map_err(|why| anyhow::anyhow!("--log: {why}"))?;
    // Consensus, leases and the admin port have threads of their own: load on listeners must not delay a heartbeat.
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .on_thread_park(crate::allocator::give_back_now_and_then)
        .enable_all()
        .build()
        .context("starting the control threads")?;
    let done = control.block_on(async {
        // A first start may wait for others for as long as it takes: as process 1 of a container nobody else ends it.
        let node = tokio::select! {
            node = Node::start(settings) => node?,
            why = drain::asked_to_end() => {
                tracing::info!(why = why?, "ended before it was ready");
                return Ok(());
            }
        };
        node.run().await
    });
    control.shutdown_timeout(std::time::Duration::from_secs(2));
    done
}

/// A running node.
struct Node {
    settings: Settings,
    cluster: Cluster,
    limiter: Arc<Limiter>,
    gate: Arc<Gate>,
    effect: Arc<Effect>,
    caches: Arc<Caches>,
    quotas: Arc<Quotas>,
    staleness: Arc<Staleness>,
    usage: Arc<UsageTold>,
    collector: otlp::Collector,
    listeners: Listeners,
    drain: Drain,
    admin: ready::Admin,
}

impl Node {
    async fn start(settings: Settings) -> anyhow::Result<Self> {
        // Sockets first: a taken port is said before anything is joined or written.
        let listeners = Listeners::bind(&settings)?;
        let admin = ready::Admin::bind(&settings).await?;
        let is_new = !settings.data.join("node.json").exists();
        if !settings.initial_peers.is_empty() && is_new {
            crate::process::notify_status("looks for the initial peers");
        }
        let cluster = Cluster::start(cluster_settings(&settings, &listeners, &admin)?).await?;
        if is_new && settings.join.is_none() && settings.first_admin_token.is_none() {
            ready::show_first_token(&settings.data);
        }

        let of_limiter = limiter_settings(&settings, &cluster)?;
        let journals = Journals::open(&settings, &cluster, of_limiter.incarnation)?;
        let limiter = Limiter::with_journal(of_limiter, Some(journals.own()));
        tokio::spawn(Arc::clone(&limiter).run(Arc::new(leases::QuotaGroup(cluster.clone()))));
        leases::serve_others(&cluster, &limiter);
        tokio::spawn(leases::know_sharers(cluster.clone(), Arc::clone(&limiter)));

        let links = fills::Links::new(&cluster);
        let gate = Arc::new(Gate {
            snapshot: Arc::new(ArcSwap::from_pointee(tidegate_policy::Snapshot::default())),
            keys: Arc::new(Keys::new()),
            issuers: Arc::default(),
            limiter: Arc::clone(&limiter),
            upstreams: Upstreams::new(),
            telemetry: Telemetry::start(&tidegate_policy::Telemetry::default()).context("starting telemetry")?,
            cache: Some(cache(&settings, &cluster, &links)?),
            bounds: Bounds::default(),
            keys_stale: Arc::new(AtomicBool::new(false)),
            blocks: Arc::default(),
            challenges: Arc::default(),
            seen: Arc::default(),
            fleet: Arc::default(),
            tokens: Arc::default(),
            in_flight: tidegate_proxy::Count::default(),
            connections: tidegate_proxy::Count::default(),
            resting: tidegate_proxy::Count::default(),
            pressure: Arc::default(),
        });
        let breakers = Breakers::start(&cluster, &gate);
        let caches = Caches::start(&cluster, &gate);
        links.open(&gate);
        let redis = redis::Published::new(&settings.redis, &cluster, &gate);
        let shown = certificates::Shown::new(&cluster, &gate, listeners.certificates());
        let quotas = Quotas::start(&cluster, &gate);
        tokio::spawn(journals.tell(cluster.clone(), Arc::clone(&quotas)));
        let (it, told, http3) = (cluster.clone(), Arc::clone(&quotas), listeners.http3());
        let effect = Arc::new(Effect::new(it, Arc::clone(&gate), shown, breakers, redis, told, http3));
        let collector = otlp::Collector::start(&gate.telemetry, &settings.name);
        effect.catch_up().await;
        tokio::spawn(alerts::Alerts::new(&cluster, &gate, &quotas).tell_forever());
        tokio::spawn(Arc::clone(&effect).follow());
        tokio::spawn(acme::Acme::new(&cluster, &gate).drive_forever());
        tokio::spawn(backups::make_forever(cluster.clone(), Arc::clone(&gate)));
        tokio::spawn(tickets::rotate_forever(cluster.clone(), Arc::clone(&gate)));
        let staleness = Staleness::new(cluster.clone(), Arc::clone(&gate), settings.max_staleness, &settings.data);
        tokio::spawn(Arc::clone(&staleness).watch());
        gauges::register(&gate, &cluster, &effect, &staleness);
        guards::start(&gate, settings.memory_limit);
        gauges::handshakes(&gate.telemetry, listeners.certificates());
        let usage = UsageTold::start(&cluster, &gate)?;
        Ok(Self {
            settings,
            cluster,
            limiter,
            gate,
            effect,
            caches,
            quotas,
            staleness,
            usage,
            collector,
            listeners,
            drain: Drain::new(),
            admin,
        })
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let admin = self.admin.serve(&self.cluster, &self.gate, &self.effect, &self.caches, &self.quotas);
        ready::wait(&self.cluster, &self.effect).await?;
        self.staleness.look();
        self.listeners.serve(&self.settings, &self.gate, &self.drain)?;
        self.effect.begin_serving();
        ready::tell(&self.settings, &self.cluster, &self.listeners, &self.admin)?;
        let why = drain::wait_for_signal(&self.cluster, &self.gate, &self.effect).await?;
        tracing::info!(%why, "draining");
        crate::process::notify_stopping();
        drain::drain(&self).await;
        drop(admin);
        tracing::info!("stopped");
        Ok(())
    }
}

fn cache(
    settings: &Settings,
    cluster: &Cluster,
    links: &Arc<fills::Links>,
) -> anyhow::Result<Arc<tidegate_cache::Cache>> {
    let redis = redis::of_node(&settings.redis, cluster)?;
    let it = cluster.clone();
    let lease = Some(tidegate_cache::Lease(Arc::new(move || it.is_current())));
    let memory = settings.cache_memory;
    // A URL has a name for each way in which routes write queries: more than the state keeps of them.
    let purges = 3 * 4_096;
    let peers: Option<Arc<dyn tidegate_cache::Peers>> = Some(Arc::clone(links) as _);
    let wait = tidegate_cache::Settings::default().wait;
    let settings = tidegate_cache::Settings { memory, purges, wait, redis, lease, peers };
    tidegate_cache::Cache::start(settings).map_err(anyhow::Error::msg)
}

fn cluster_settings(
    settings: &Settings,
    listeners: &Listeners,
    admin: &ready::Admin,
) -> anyhow::Result<tidegate_cluster::Settings> {
    let start = match &settings.join {
        None if settings.initial_peers.is_empty() => Start::Bootstrap,
        None => Start::Gather { peers: settings.initial_peers.clone() },
        Some((address, token)) => {
            let token = tidegate_cluster::JoinToken::parse(&token.0).map_err(anyhow::Error::msg)?;
            Start::Join { address: address.clone(), token }
        }
    };
    Ok(tidegate_cluster::Settings {
        name: settings.name.clone(),
        bind: settings.peer,
        advertise: settings.advertise.clone(),
        http: listeners.first_address(),
        admin: admin.address().to_string(),
        feature_level: settings.feature_level,
        acks: Acks::ByCaller,
        forget_after: settings.forget_after,
        secret: settings.secret.clone(),
        first_admin_token: settings
            .first_admin_token
            .as_ref()
            .map(|token| tidegate_cluster::FirstToken(token.0.clone())),
        ..tidegate_cluster::Settings::new(&settings.data, start)
    })
}

fn limiter_settings(settings: &Settings, cluster: &Cluster) -> anyhow::Result<tidegate_limiter::Settings> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|why| anyhow::anyhow!("no randomness from the kernel: {why}"))?;
    let (node, incarnation) = (cluster.node(), Incarnation(u128::from_le_bytes(random)));
    let decisions = settings
        .decision_log
        .then(|| DecisionLog::open(&settings.data.join("decisions"), node, incarnation))
        .transpose()?;
    let mut secret = [0; 16];
    secret.copy_from_slice(&cluster.derive_key("subjects of limits")[..16]);
    Ok(tidegate_limiter::Settings { node, incarnation, secret, most_keys: settings.limit_keys, decisions })
}
