//! Facts of other crates for `/metrics`, read when somebody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_cluster::{Cluster, Commits, Compared, Part};
use tidegate_limiter::Limiter;
use tidegate_model::NodeId;
use tidegate_policy::Class;
use tidegate_proxy::Gate;
use tidegate_telemetry::{Kind, Sample, Telemetry, Times};
use tidegate_tls::Certificates;
use tidegate_upstream::{BerthFacts, Shed};

use super::admin_tls::Ends;
use super::effect::Effect;
use super::staleness::Staleness;

pub(super) fn register(gate: &Arc<Gate>, cluster: &Cluster, effect: &Arc<Effect>, staleness: &Arc<Staleness>) {
    let telemetry = &gate.telemetry;
    document(telemetry, effect);
    limiter(telemetry, &gate.limiter);
    groups(telemetry, cluster);
    let it = Arc::clone(staleness);
    let help = "Seconds since this node last held its node lease: how late a revocation may be here; 0: it holds it";
    gauge(telemetry, "node_stale_seconds", help, move || it.now().as_secs());
    connections(telemetry, gate);
    endpoints(telemetry, gate);
    breakers(telemetry, gate);
    berths(telemetry, gate);
    hedges(telemetry, gate);
    cache(telemetry, gate);
    issuers(telemetry, gate);
}

fn document(telemetry: &Telemetry, effect: &Arc<Effect>) {
    let it = Arc::clone(effect);
    gauge(telemetry, "document_revision", "Revision of the document this node serves", move || it.served().0);
    let it = Arc::clone(effect);
    let help = "1 while the newest published document cannot be served here";
    gauge(telemetry, "document_alarm", help, move || u64::from(it.alarm().is_some()));
}

fn limiter(telemetry: &Telemetry, limiter: &Arc<Limiter>) {
    let it = Arc::clone(limiter);
    gauge(telemetry, "limit_keys", "Counters this node holds leases of", move || it.keys() as u64);
    let it = Arc::clone(limiter);
    gauge(telemetry, "limit_keys_bound", "Counters this node may hold (limit-keys)", move || it.most_keys() as u64);
    let it = Arc::clone(limiter);
    let help = "Seconds since the quota leader last answered; 0: it answers";
    gauge(telemetry, "quota_silent_seconds", help, move || it.silent_for().map_or(0, |silent| silent.as_secs().max(1)));
    type Pick = fn(&tidegate_limiter::Counters) -> &AtomicU64;
    let counters: [(&str, &str, Pick); 11] = [
        ("quota_batches", "Reports sent to the quota leader", |c| &c.batches),
        ("quota_exchange_failures", "Reports without an answer", |c| &c.exchange_failures),
        ("limit_waits", "Requests that waited for the quota leader", |c| &c.waited),
        ("limit_overflows", "Waits for a free counter, while limit_keys_bound are held", |c| &c.overflows),
        ("limit_evictions", "Counters handed back to make room for others", |c| &c.evicted),
        ("limit_burnt_permits", "Permits taken too late and given up", |c| &c.burnt),
        ("limit_allowed_unsafely", "Requests served without a permit (on_unavailable: allow)", |c| &c.allowed_unsafely),
        ("limit_reserve_permits", "Permits taken from partition reserves", |c| &c.reserve_used),
        ("limit_owed_permits", "Permits used beyond what was reserved, owed to later grants", |c| &c.owed),
        ("limit_refunded_permits", "Permits reserved and not used, given back", |c| &c.refunded),
        ("limit_capped_costs", "Calls said to cost more than one may come to, and counted as that (at_most)", |c| {
            &c.capped
        }),
    ];
    for (name, help, pick) in counters {
        let it = Arc::clone(limiter);
        let sample = move || vec![plain(pick(it.counters()).load(Ordering::Relaxed))];
        telemetry.register(name, help, Kind::Counter, sample);
    }
}

pub(super) fn admin_certificate(telemetry: &Telemetry, ends: Option<Ends>) {
    let help = "When the certificate ends that the admin port shows, in seconds since 1970; 0: it shows none";
    let ends = ends.unwrap_or_default();
    gauge(telemetry, "admin_certificate_expires_seconds", help, move || ends.seconds());
}

fn groups(telemetry: &Telemetry, cluster: &Cluster) {
    let it = cluster.clone();
    let help =
        "When the certificate ends that this node shows to other nodes, in seconds since 1970; it is renewed before";
    let ends = move || it.certificate().map_or(0, |(ends, _)| ends.0 / 1_000);
    gauge(telemetry, "node_certificate_expires_seconds", help, ends);
    let it = cluster.clone();
    gauge(telemetry, "node_live", "1 while this node holds its node lease", move || u64::from(it.is_live()));
    comparisons(telemetry, cluster);
    disks(telemetry, cluster);
    type Pick = fn(&Part) -> u64;
    let facts: [(&str, &str, Kind, Pick); 7] = [
        ("raft_leader", "Node that leads the group; 0: unknown", Kind::Gauge, |p| p.group.leader.map_or(0, |n| n.0)),
        ("raft_term", "Term of the group", Kind::Gauge, |p| p.group.term),
        ("raft_applied_index", "Last entry applied on this node", Kind::Gauge, |p| p.group.applied),
        ("raft_committed_index", "Last entry known to be committed", Kind::Gauge, |p| p.group.committed),
        ("raft_log_entries", "Entries written to this node's disk", Kind::Counter, |p| p.disk.log_entries),
        ("raft_log_bytes", "Bytes written to this node's disk", Kind::Counter, |p| p.disk.log_bytes),
        ("raft_fsyncs", "Times this node's disk was told to keep it", Kind::Counter, |p| p.disk.fsyncs),
    ];
    for (name, help, kind, pick) in facts {
        let it = cluster.clone();
        telemetry.register(name, help, kind, move || {
            let report = it.report();
            let of = |group: &str, part: &Part| labelled(&[("group", group)], pick(part));
            vec![of("control", &report.control), of("quota", &report.quota)]
        });
    }
}

/// Whether there is room on the disk, and how fast it is.
fn disks(telemetry: &Telemetry, cluster: &Cluster) {
    let it = cluster.clone();
    telemetry.register_times(
        "raft_commit_seconds",
        "How long commits to the group's log took on this node's disk",
        move || {
            let times = |(group, commits): (&str, Commits)| Times {
                labels: vec![("group", group.to_owned())],
                sum: commits.seconds,
                buckets: commits.steps,
            };
            it.commits().into_iter().map(times).collect()
        },
    );
    let it = cluster.clone();
    let help =
        "1 while a commit to the group's log takes more than half a second, or did within the last quarter of a minute";
    telemetry.register("disk_slow", help, Kind::Gauge, move || {
        let slow = it.commits();
        slow.iter().map(|(group, it)| labelled(&[("group", group)], u64::from(it.slow.is_some()))).collect()
    });
    let it = cluster.clone();
    let help = "1 while the group's log finds no room on this node's disk: it stores nothing and leads nothing";
    telemetry.register("disk_full", help, Kind::Gauge, move || {
        it.disks().iter().map(|(group, full)| labelled(&[("group", group)], u64::from(full.is_some()))).collect()
    });
}

/// Whether the members' states are the same, as last found.
fn comparisons(telemetry: &Telemetry, cluster: &Cluster) {
    type Pick = fn(&Compared, NodeId) -> u64;
    let facts: [(&str, &str, Pick); 3] = [
        ("state_diverged", "1 while this node's state differs from the majority's after the same entry", |it, me| {
            u64::from(it.differ.contains(&me))
        }),
        ("state_compared_index", "Entry after which the members' states were last compared", |it, _| it.index),
        ("state_compared_nodes", "Members whose states were compared then", |it, _| it.count as u64),
    ];
    for (name, help, pick) in facts {
        let it = cluster.clone();
        telemetry.register(name, help, Kind::Gauge, move || {
            let all = it.compared();
            let of = |group: &str, found: &Option<Compared>| {
                labelled(&[("group", group)], found.as_ref().map_or(0, |found| pick(found, it.node())))
            };
            vec![of("control", &all.control), of("quota", &all.quota)]
        });
    }
}

fn connections(telemetry: &Telemetry, gate: &Arc<Gate>) {
    let it = Arc::clone(gate);
    gauge(telemetry, "client_connections", "Open connections of clients", move || it.connections.now() as u64);
}

fn issuers(telemetry: &Telemetry, gate: &Arc<Gate>) {
    type Pick = fn(&tidegate_proxy::IssuerFacts) -> u64;
    let facts: [(&str, &str, Kind, Pick); 5] = [
        ("issuer_keys", "Keys of an issuer of tokens that are known here", Kind::Gauge, |f| f.ring.keys as u64),
        ("issuer_usable", "1 while tokens of the issuer can be checked here", Kind::Gauge, |f| u64::from(f.usable)),
        ("issuer_fetches", "Times its keys were asked for", Kind::Counter, |f| f.ring.rounds),
        ("issuer_fetch_failures", "Times they were asked for in vain", Kind::Counter, |f| f.ring.failures),
        ("issuer_keys_age_seconds", "Since its keys were fetched; 0: they are the document's", Kind::Gauge, |f| {
            f.ring.age.unwrap_or_default() / 1_000
        }),
    ];
    for (name, help, kind, pick) in facts {
        let it = Arc::clone(gate);
        telemetry.register(name, help, kind, move || {
            it.issuers.facts().iter().map(|f| labelled(&[("issuer", &f.name)], pick(f))).collect()
        });
    }
    let it = Arc::clone(gate);
    gauge(telemetry, "tokens_remembered", "Tokens whose signatures need not be checked again", move || {
        it.issuers.remembered() as u64
    });
}

fn endpoints(telemetry: &Telemetry, gate: &Arc<Gate>) {
    let it = Arc::clone(gate);
    telemetry.register("upstream_in_flight", "Requests an endpoint is answering", Kind::Gauge, move || {
        let facts = it.upstreams.facts();
        facts
            .iter()
            .map(|fact| labelled(&[("upstream", &fact.upstream), ("endpoint", &fact.endpoint)], fact.in_flight as u64))
            .collect()
    });
    let it = Arc::clone(gate);
    telemetry.register("upstream_retries", "Tries after the first", Kind::Counter, move || {
        it.upstreams.retries().iter().map(|(upstream, count)| labelled(&[("upstream", upstream)], *count)).collect()
    });
}

/// Requests that run at upstreams, wait for them, and were refused: docs/overload.md.
fn berths(telemetry: &Telemetry, gate: &Arc<Gate>) {
    type Pick = fn(&BerthFacts) -> u64;
    let facts: [(&str, &str, Kind, Pick); 4] = [
        ("overload_limit", "Requests that may run at the upstream at once", Kind::Gauge, |f| f.limit.into()),
        ("overload_running", "Requests that run at the upstream", Kind::Gauge, |f| f.running.into()),
        ("overload_base_microseconds", "What its answers take when nothing waits, as learnt", Kind::Gauge, |f| {
            f.base.map_or(0, |base| u64::try_from(base.as_micros()).unwrap_or(u64::MAX))
        }),
        ("overload_probes", "Times the limit was lowered to measure that", Kind::Counter, |f| f.probes),
    ];
    for (name, help, kind, pick) in facts {
        let it = Arc::clone(gate);
        telemetry.register(name, help, kind, move || {
            it.upstreams.berths().iter().map(|(id, facts)| labelled(&[("upstream", id)], pick(facts))).collect()
        });
    }
    type Each = fn(&BerthFacts) -> Vec<(Class, u64)>;
    let by_class: [(&str, &str, Kind, Each); 2] = [
        ("overload_queued", "Requests that wait for the upstream", Kind::Gauge, |f| {
            f.queued.iter().map(|(class, now)| (*class, *now as u64)).collect()
        }),
        ("overload_waited", "Requests that had to wait for the upstream", Kind::Counter, |f| f.waited.clone()),
    ];
    for (name, help, kind, each) in by_class {
        let it = Arc::clone(gate);
        telemetry.register(name, help, kind, move || {
            let of = |(id, facts): &(Arc<str>, BerthFacts)| {
                let of = |(class, value): (Class, u64)| labelled(&[("upstream", id), ("class", class.name())], value);
                each(facts).into_iter().map(of).collect::<Vec<_>>()
            };
            it.upstreams.berths().iter().flat_map(of).collect()
        });
    }
    let it = Arc::clone(gate);
    telemetry.register(
        "overload_shed",
        "Requests refused for want of room at the upstream",
        Kind::Counter,
        move || {
            let of = |(id, facts): &(Arc<str>, BerthFacts)| {
                let of = |(why, class, value): &(Shed, Class, u64)| {
                    labelled(&[("upstream", id), ("class", class.name()), ("reason", why.name())], *value)
                };
                facts.shed.iter().map(of).collect::<Vec<_>>()
            };
            it.upstreams.berths().iter().flat_map(of).collect()
        },
    );
}

fn hedges(telemetry: &Telemetry, gate: &Arc<Gate>) {
    type Pick = fn(&(Arc<str>, u64, u64)) -> u64;
    let counters: [(&str, &str, Pick); 2] = [
        ("upstream_hedges", "Requests asked a second time because the first try was late", |h| h.1),
        ("upstream_hedges_won", "Requests that the second try answered first", |h| h.2),
    ];
    for (name, help, pick) in counters {
        let it = Arc::clone(gate);
        telemetry.register(name, help, Kind::Counter, move || {
            it.upstreams.hedges().iter().map(|h| labelled(&[("upstream", &h.0)], pick(h))).collect()
        });
    }
}

fn breakers(telemetry: &Telemetry, gate: &Arc<Gate>) {
    let it = Arc::clone(gate);
    let help = "Sources of endpoints (SRV records, files) whose last look failed";
    telemetry.register("endpoint_source_alarms", help, Kind::Gauge, move || {
        it.upstreams
            .alarms()
            .iter()
            .map(|(upstream, count)| labelled(&[("upstream", upstream)], *count as u64))
            .collect()
    });
    type OfAll = fn(&tidegate_upstream::breaker::WardFacts) -> u64;
    let of_all: [(&str, &str, Kind, OfAll); 3] = [
        ("upstream_panic", "1 while so few endpoints are well that sick ones are used too", Kind::Gauge, |f| {
            u64::from(f.panics)
        }),
        ("breaker_denied", "Requests not sent because all breakers of the upstream were open", Kind::Counter, |f| {
            f.denied
        }),
        ("breaker_held", "Requests that waited for the verdict about a suspect endpoint", Kind::Counter, |f| f.held),
    ];
    for (name, help, kind, pick) in of_all {
        let it = Arc::clone(gate);
        telemetry.register(name, help, kind, move || {
            it.upstreams.wards().iter().map(|(id, facts)| labelled(&[("upstream", id)], pick(facts))).collect()
        });
    }
    type Pick = fn(&tidegate_upstream::EndpointFacts) -> u64;
    let facts: [(&str, &str, Kind, Pick); 7] = [
        ("breaker_probes", "Requests sent as probes by this node", Kind::Counter, |f| f.probes),
        ("breaker_open", "1 while the endpoint's breaker is open or half open here", Kind::Gauge, |f| {
            u64::from(matches!(f.breaker, "open" | "half_open"))
        }),
        ("breaker_ramp", "1 while the endpoint gets a part of its share", Kind::Gauge, |f| {
            u64::from(f.breaker == "ramp")
        }),
        ("breaker_ejections", "Times the endpoint's breaker opened here", Kind::Counter, |f| f.ejections),
        ("breaker_epoch", "Epoch of the cluster's ruling about the endpoint", Kind::Gauge, |f| f.epoch),
        ("endpoint_unhealthy", "1 while checks say that the endpoint is sick", Kind::Gauge, |f| u64::from(f.unhealthy)),
        ("endpoint_checks", "Checks of the endpoint's health sent by this node", Kind::Counter, |f| f.checks),
    ];
    for (name, help, kind, pick) in facts {
        let it = Arc::clone(gate);
        telemetry.register(name, help, kind, move || {
            let of = |f: &tidegate_upstream::EndpointFacts| {
                labelled(&[("upstream", &f.upstream), ("endpoint", &f.endpoint)], pick(f))
            };
            it.upstreams.facts().iter().map(of).collect()
        });
    }
}

fn gauge(
    telemetry: &Telemetry,
    name: &'static str,
    help: &'static str,
    read: impl Fn() -> u64 + Send + Sync + 'static,
) {
    telemetry.register(name, help, Kind::Gauge, move || vec![plain(read())]);
}

fn plain(value: u64) -> Sample {
    labelled(&[], value)
}

pub(super) fn labelled(labels: &[(&'static str, &str)], value: u64) -> Sample {
    Sample { labels: labels.iter().map(|(name, of)| (*name, (*of).to_owned())).collect(), value: value as f64 }
}

/// What came of TLS handshakes.
pub(super) fn handshakes(telemetry: &Telemetry, certificates: Arc<Certificates>) {
    let help = "TLS handshakes of clients that were finished, by version and whether a session was taken up again";
    let read = move || {
        let counts = certificates.handshakes().counts();
        let sample = |(version, resumed, count)| {
            labelled(&[("version", version), ("resumed", if resumed { "true" } else { "false" })], count)
        };
        counts.map(sample).collect()
    };
    telemetry.register("tls_handshakes", help, Kind::Counter, read);
}

/// What the response cache did, and how it stands with Redis.
fn cache(telemetry: &Telemetry, gate: &Gate) {
    let Some(cache) = &gate.cache else { return };
    let it = Arc::clone(cache);
    gauge(telemetry, "cache_bytes", "Bytes of kept responses in memory", move || it.memory().facts().bytes as u64);
    let it = Arc::clone(cache);
    gauge(telemetry, "cache_responses", "Kept responses in memory", move || it.memory().facts().responses as u64);
    let it = Arc::clone(cache);
    gauge(telemetry, "cache_fetching", "Fetches under way that others may join", move || it.fetching() as u64);
    let it = Arc::clone(cache);
    gauge(telemetry, "cache_purges", "Purges remembered one by one", move || it.purges().facts().0 as u64);
    let it = Arc::clone(cache);
    let sample = move || vec![plain(it.memory().facts().evicted)];
    telemetry.register("cache_evictions", "Kept responses thrown out for room", Kind::Counter, sample);
    for (name, _) in cache.counters.read() {
        let it = Arc::clone(cache);
        let value = move || it.counters.read().into_iter().find(|(known, _)| *known == name).map_or(0, |(_, n)| n);
        let help = "What the response cache did: docs/cache.md";
        telemetry.register(name, help, Kind::Counter, move || vec![plain(value())]);
    }
    // A document may name a Redis at any time: nothing is told while there is none.
    let it = Arc::clone(cache);
    let up = move || it.remote().map(|remote| plain(u64::from(remote.is_available()))).into_iter().collect();
    telemetry.register("cache_redis_up", "1 while Redis is asked", Kind::Gauge, up);
    let it = Arc::clone(cache);
    let queued = move || it.remote().map(|remote| plain(remote.queued() as u64)).into_iter().collect();
    telemetry.register("cache_redis_queued_bytes", "Bytes waiting to be written", Kind::Gauge, queued);
    type Pick = fn(&tidegate_cache::remote::Counters) -> &AtomicU64;
    let counters: [(&str, &str, Pick); 10] = [
        ("cache_redis_hits", "Responses found in Redis", |c| &c.hits),
        ("cache_redis_misses", "Responses not found in Redis", |c| &c.misses),
        ("cache_redis_late", "Calls without an answer within the deadline", |c| &c.late),
        ("cache_redis_errors", "Calls answered with an error", |c| &c.errors),
        ("cache_redis_garbage", "Values that were not ours or not whole", |c| &c.garbage),
        ("cache_redis_shed", "Calls not made: too many were under way", |c| &c.shed),
        ("cache_redis_writes", "Values written", |c| &c.writes),
        ("cache_redis_dropped", "Writes dropped: the queue was full or Redis away", |c| &c.dropped),
        ("cache_redis_write_errors", "Writes refused or too late", |c| &c.write_errors),
        ("cache_redis_invalidations", "Changes heard of other nodes", |c| &c.invalidations),
    ];
    for (name, help, pick) in counters {
        let it = Arc::clone(cache);
        let read = move || {
            let value = it.remote().map(|remote| pick(&remote.counters).load(Ordering::Relaxed));
            value.map(plain).into_iter().collect()
        };
        telemetry.register(name, help, Kind::Counter, read);
    }
}
