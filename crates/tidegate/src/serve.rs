//! `tidegate serve`: the assembly of a node, in reading order: settings, cluster, limiter, what requests see, listeners,
//! admin port; then wait for a signal, drain, leave, stop, or hand over to the process that takes its place.

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
mod handover;
mod inputs;
mod issuers;
mod journals;
mod leases;
mod listeners;
mod otlp;
mod parts;
mod purges;
mod quotas;
mod ready;
mod redis;
mod secrets;
mod staleness;
mod tickets;
mod usage;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tidegate_auth::Keys;
use tidegate_cluster::{Cluster, Readiness};
use tidegate_limiter::{Journal, Limiter};
use tidegate_proxy::{Bounds, Drain, Gate};
use tidegate_telemetry::{LogFormat, Telemetry};
use tidegate_upstream::Upstreams;
use tokio::task::JoinHandle;

use self::args::Settings;
pub(crate) use self::args::{Args, host_name, node_name};
use self::breakers::Breakers;
use self::caches::Caches;
use self::effect::Effect;
use self::handover::{Predecessor, Sockets, Successor, Way, Ways};
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
    let core_dumps = args.core_dumps;
    let settings = Settings::load(args, admin, token)?;
    let format = if settings.json_log { LogFormat::Json } else { LogFormat::Text };
    tidegate_cluster::codec::read_like(settings.feature_level);
    let (lines, also) = otlp::hear();
    tidegate_telemetry::init_logs(&settings.log, format, also).map_err(|why| anyhow::anyhow!("--log: {why}"))?;
    if !core_dumps {
        crate::process::leave_no_core();
    }
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
        let mut signals = drain::Signals::listen()?;
        let mut node = tokio::select! {
            node = begin(settings, lines) => node?,
            why = signals.end() => {
                tracing::info!(why, "ended before it was ready");
                return Ok(());
            }
        };
        while let Ended::Alone(mut former, why) = node.run(&mut signals).await? {
            if let Some(signal) = signals.ended() {
                tracing::info!(signal, %why, "nobody took over, and this process is to end as well: draining");
                drain::finish(&mut former).await;
                return Ok(());
            }
            tracing::error!(%why, "nobody took over: this process takes its node back");
            node = tokio::select! {
                node = take_back(*former) => node?,
                why = signals.end() => {
                    tracing::info!(why, "ended before the node was taken back");
                    return Ok(());
                }
            };
        }
        Ok(())
    });
    control.shutdown_timeout(std::time::Duration::from_secs(2));
    done
}

/// Takes over from the process that serves from this folder, if that was asked for and there is one, or starts anew.
async fn begin(settings: Settings, lines: otlp::Lines) -> anyhow::Result<Node> {
    let settings = Arc::new(settings);
    let found = if settings.take_over { handover::find(&settings.data).await? } else { None };
    let Some((mut former, passed)) = found else {
        let ports = Ports::bind(&settings, Sockets::default()).await?;
        return Node::start(settings, lines, ports, None).await;
    };
    let ports = Ports::bind(&settings, passed).await?;
    former.let_go().await?;
    #[cfg(debug_assertions)]
    if settings.stall {
        let _held = tidegate_cluster::Cluster::start(parts::cluster(
            &settings,
            &ports.listeners,
            &ports.admin,
            Some(former.feature_level),
        )?)
        .await?;
        std::future::pending::<()>().await;
    }
    let mut node = tokio::select! {
        node = Node::start(settings, lines, ports, Some(former.feature_level)) => node?,
        why = former.wants_it_back() => return Err(why),
    };
    node.former = Some(former);
    Ok(node)
}

/// Opens the folder once more, beside what is left of the node that let go of it.
async fn take_back(mut former: Node) -> anyhow::Result<Node> {
    let ends = Instant::now() + TO_TAKE_BACK;
    let mut node = loop {
        let ports = Ports::bind(&former.settings, former.kept.again()?).await?;
        match Node::start(Arc::clone(&former.settings), former.lines.clone(), ports, None).await {
            Ok(node) => break node,
            Err(why) if Instant::now() < ends => tracing::error!(%why, "the node cannot be taken back yet"),
            Err(why) => return Err(why.context("nobody took over, and the node cannot be taken back")),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    node.served_before = true;
    former.ways.lead(Way::Again(Arc::clone(&node.ways)));
    former.limiter.leader_moves(false);
    former.kept = Arc::default();
    node.earlier = Some(tokio::spawn(async move {
        let all = drain::finish(&mut former).await;
        former.tick.abort();
        // This process lives on, and the journal of what it no longer serves is to be settled: not while something may spend of it.
        if all {
            former.journal.forsake();
        }
    }));
    Ok(node)
}

/// Whoever was to take over may be slow to end.
const TO_TAKE_BACK: Duration = Duration::from_secs(30);

/// Without being ready: who was served before is served again.
const BACK_AT_LAST: Duration = Duration::from_secs(10);

/// How a node's run ended.
enum Ended {
    /// Drained, or handed over.
    Stopped,
    /// Its folder is closed, and whoever was to take over is gone, for this reason.
    Alone(Box<Node>, String),
}

/// What is bound before the folder is opened: a taken port is said before anything is joined or written.
struct Ports {
    listeners: Listeners,
    admin: ready::Admin,
    kept: Sockets,
}

impl Ports {
    async fn bind(settings: &Settings, mut passed: Sockets) -> anyhow::Result<Self> {
        let mut kept = Sockets::default();
        let listeners = Listeners::bind(settings, &mut passed, &mut kept)?;
        let admin = ready::Admin::bind(settings, &mut passed, &mut kept).await?;
        for name in passed.names() {
            tracing::info!(socket = name, "listened on by the process before this one, and not any more");
        }
        Ok(Self { listeners, admin, kept })
    }
}

/// A running node.
struct Node {
    settings: Arc<Settings>,
    lines: otlp::Lines,
    /// Who served before.
    former: Option<Predecessor>,
    /// This process did so before, and goes on with what it has.
    served_before: bool,
    /// What was open before finishes, and asks us meanwhile.
    earlier: Option<JoinHandle<()>>,
    /// Handles of what it listens on, for who takes over.
    kept: Arc<Sockets>,
    cluster: Cluster,
    ways: Arc<Ways>,
    limiter: Arc<Limiter>,
    tick: JoinHandle<()>,
    journal: Arc<Journal>,
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
    /// `heir_of`: the level that is said by the process that serves until this one does.
    async fn start(
        settings: Arc<Settings>,
        lines: otlp::Lines,
        ports: Ports,
        heir_of: Option<u32>,
    ) -> anyhow::Result<Self> {
        let is_new = !settings.data.join("node.json").exists();
        if !settings.initial_peers.is_empty() && is_new {
            crate::process::notify_status("looks for the initial peers");
        }
        let of_cluster = parts::cluster(&settings, &ports.listeners, &ports.admin, heir_of)?;
        // Who takes over has nothing to wait for that a caller could not wait for as well.
        let meanwhile = if is_new { Some(ports.admin.meanwhile(of_cluster.progress.clone())?) } else { None };
        let cluster = Cluster::start(of_cluster).await?;
        drop(meanwhile);
        if is_new && settings.join.is_none() && settings.first_admin_token.is_none() {
            ready::show_first_token(&settings.data);
        }
        let node = Self::assemble(settings, lines, ports, cluster.clone()).await;
        if node.is_err() {
            cluster.shutdown().await; // Its folder is somebody's who may do better.
        }
        node
    }

    async fn assemble(
        settings: Arc<Settings>,
        lines: otlp::Lines,
        ports: Ports,
        cluster: Cluster,
    ) -> anyhow::Result<Self> {
        let Ports { listeners, admin, kept } = ports;
        let of_limiter = parts::limiter(&settings, &cluster)?;
        let journals = Journals::open(&settings, &cluster, of_limiter.incarnation)?;
        let journal = journals.own();
        let limiter = Limiter::with_journal(of_limiter, Some(journals.own()));
        let ways = Ways::own(&cluster);
        let tick = tokio::spawn(Arc::clone(&limiter).run(Arc::new(leases::QuotaGroup(Arc::clone(&ways)))));
        leases::serve_others(&cluster, &limiter);
        cluster.spawn(leases::know_sharers(cluster.clone(), Arc::clone(&limiter)));

        let links = fills::Links::new(&cluster);
        let gate = Arc::new(Gate {
            snapshot: Arc::new(ArcSwap::from_pointee(tidegate_policy::Snapshot::default())),
            keys: Arc::new(Keys::new()),
            issuers: Arc::default(),
            limiter: Arc::clone(&limiter),
            upstreams: Upstreams::new(),
            telemetry: Telemetry::start(&tidegate_policy::Telemetry::default()).context("starting telemetry")?,
            cache: Some(parts::cache(&settings, &cluster, &links)?),
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
        cluster.spawn(journals.tell(cluster.clone(), Arc::clone(&quotas)));
        let (it, told, http3) = (cluster.clone(), Arc::clone(&quotas), listeners.http3());
        let effect = Arc::new(Effect::new(it, Arc::clone(&gate), shown, breakers, redis, told, http3));
        let collector = otlp::Collector::start(&gate.telemetry, &settings.name, lines.clone());
        effect.catch_up().await;
        cluster.spawn(alerts::Alerts::new(&cluster, &gate, &quotas).tell_forever());
        cluster.spawn(Arc::clone(&effect).follow());
        cluster.spawn(acme::Acme::new(&cluster, &gate).drive_forever());
        cluster.spawn(backups::make_forever(cluster.clone(), Arc::clone(&gate)));
        cluster.spawn(tickets::rotate_forever(cluster.clone(), Arc::clone(&gate)));
        let staleness = Staleness::new(cluster.clone(), Arc::clone(&gate), settings.max_staleness, &settings.data);
        tokio::spawn(staleness::watch(Arc::downgrade(&staleness))); // Longer than the cluster: somebody may be connected still.
        gauges::register(&gate, &cluster, &effect, &staleness);
        gauges::admin_certificate(&gate.telemetry, settings.admin_tls.as_ref().map(|terms| terms.ends.clone()));
        guards::start(&gate, settings.memory_limit);
        gauges::handshakes(&gate.telemetry, listeners.certificates());
        let usage = UsageTold::start(&ways, cluster.node(), &gate)?;
        Ok(Self {
            settings,
            lines,
            former: None,
            served_before: false,
            earlier: None,
            kept: Arc::new(kept),
            cluster,
            ways,
            limiter,
            tick,
            journal,
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

    async fn run(mut self, signals: &mut drain::Signals) -> anyhow::Result<Ended> {
        let admin = self.admin.serve(&self.cluster, &self.gate, &self.effect, &self.caches, &self.quotas);
        let refused = async {
            match &mut self.former {
                Some(former) => former.wants_it_back().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = ready::wait(&self.cluster, &self.effect) => ready?,
            () = tokio::time::sleep(BACK_AT_LAST), if self.served_before => {
                tracing::warn!("the node is not ready, and goes on with what it had");
            }
            why = refused => return Err(why),
            why = signals.end() => {
                tracing::info!(why, "ended before it was ready");
                self.cluster.shutdown().await;
                return Ok(Ended::Stopped);
            }
        }
        self.staleness.look();
        self.listeners.serve(&self.settings, &self.gate, &self.drain)?;
        self.effect.begin_serving();
        let took_over = self.former.is_some();
        if let Some(former) = self.former.take() {
            self.earlier = Some(tokio::spawn(handover::serve(former.serving().await, Arc::clone(&self.ways))));
            self.cluster.took_over();
        }
        let mut door = handover::Door::open(&self.settings.data, &self.kept, self.terms());
        if let Err(error) = &door {
            tracing::warn!(%error, folder = %self.settings.data.display(), "no other process will be able to take over");
        }
        match ready::tell(&self.settings, &self.cluster, &self.listeners, &self.admin) {
            // There is nobody else any more.
            Err(error) if took_over => tracing::error!(%error, "not told where this node is reached"),
            told => told?,
        }
        #[cfg(debug_assertions)]
        if let Some(group) = self.settings.diverge {
            self.cluster.spoil(match group {
                args::Diverge::Control => tidegate_cluster::Spoilt::Control,
                args::Diverge::Quota => tidegate_cluster::Spoilt::Quota,
            });
        }
        let claimed = async {
            match &mut door {
                Ok(door) => door.claimed().await,
                Err(_) => std::future::pending().await,
            }
        };
        let why = tokio::select! {
            why = drain::wait_for_signal(&self.cluster, &self.gate, &self.effect, signals) => why,
            successor = claimed => return Ok(self.hand_over(successor, door.ok(), admin).await),
        };
        tracing::info!(%why, "draining");
        crate::process::notify_stopping();
        drop(door);
        drain::drain(&mut self).await;
        drop(admin);
        tracing::info!("stopped");
        Ok(Ended::Stopped)
    }

    /// A node that could not open its folder anew does not close it.
    fn terms(&self) -> handover::Terms {
        let cluster = self.cluster.clone();
        let not_now = Box::new(move || match cluster.readiness() {
            Readiness::NotYet(why) => Some(format!("the node cannot be handed over now: {why}")),
            Readiness::Ready | Readiness::Degraded(_) => None,
        });
        handover::Terms { feature_level: self.settings.feature_level, not_now }
    }

    /// Until the other process serves, connections wait in the kernel, and who is connected lives on the leases that are here.
    async fn hand_over(mut self, successor: Successor, door: Option<handover::Door>, admin: ready::Open) -> Ended {
        let (pid, release) = (successor.pid, successor.release.clone());
        tracing::info!(pid, %release, "handing over");
        crate::process::notify_status(&format!("hands over to process {pid}"));
        self.drain.pass_on();
        drop(admin);
        self.cluster.step_down().await;
        self.limiter.leader_moves(true);
        self.ways.lead(Way::None);
        drop(door);
        self.cluster.shutdown().await;
        match successor.succeed(self.settings.handover_timeout).await {
            Ok(answers) => {
                self.ways.lead(Way::Next(answers));
                self.limiter.leader_moves(false);
                crate::process::notify_main(pid);
                tracing::info!(pid, "handed over; what is open may finish");
                self.kept = Arc::default();
                drain::finish(&mut self).await;
                tracing::info!("stopped");
                Ended::Stopped
            }
            Err(why) => Ended::Alone(Box::new(self), why),
        }
    }
}
