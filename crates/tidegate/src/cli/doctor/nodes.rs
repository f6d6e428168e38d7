//! Each node by itself: what it says of its readiness, and what its metrics say.

use std::time::UNIX_EPOCH;

use tidegate_admin::wire::Readiness;

use super::{Finding, Seen, Severity};
use crate::cli::scrape::{Metrics, Told};

const DAY: f64 = 86_400.0;

pub(super) fn examine(seen: &Seen<'_>) -> Vec<Finding> {
    let now = seen.now.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    seen.told.iter().flat_map(|told| node(told, seen, now)).collect()
}

fn node(told: &Told, seen: &Seen<'_>, now: f64) -> Vec<Finding> {
    let of_node =
        |(severity, what, mend): (Severity, String, String)| Finding { severity, node: Some(told.id), what, mend };
    let Some(status) = &told.status else {
        // Who is known to be dead is a finding already.
        let live = seen.status.nodes.iter().any(|node| node.id == told.id && node.live);
        let why = told.why.as_deref().unwrap_or_default();
        let mend = "It lives, but its admin port is not reached from here: ask on that machine, or open the port with --admin-cert and --admin-key";
        return if live {
            vec![of_node((Severity::Info, format!("could not be asked: {why}"), mend.into()))]
        } else {
            Vec::new()
        };
    };
    let mut found = Vec::new();
    if status.readiness != Readiness::Ready {
        let severity = if status.readiness.takes_traffic() { Severity::Warning } else { Severity::Critical };
        let what = format!("is {}: {}", status.readiness.as_str(), status.reasons.join("; "));
        found.push((
            severity,
            what,
            "What it says is what to mend; a node that starts or drains needs a moment".into(),
        ));
    }
    found.extend(resources(&told.metrics));
    found.extend(states(&told.metrics));
    found.extend(disk(&told.metrics));
    found.extend(limits(&told.metrics));
    found.extend(certificates(&told.metrics, now));
    found.extend(own_certificate(&told.metrics, now));
    found.extend(admin_certificate(&told.metrics, now));
    found.extend(neighbours(&told.metrics));
    found.extend(backups(&told.metrics));
    found.into_iter().map(of_node).collect()
}

type Found = Vec<(Severity, String, String)>;

/// The one it shows to other nodes: it is renewed 30 days before its end, so that one with less than 20 is overdue.
fn own_certificate(metrics: &Metrics, now: f64) -> Found {
    let left =
        metrics.sum("tidegate_node_certificate_expires_seconds").filter(|ends| *ends > 0.0).map(|ends| ends - now);
    let Some(left) = left.filter(|left| *left < 20.0 * DAY) else { return Vec::new() };
    let severity = if left < 0.0 { Severity::Critical } else { Severity::Warning };
    let what = format!("its certificate among nodes ends in {:.0} days, and is not renewed", left / DAY);
    vec![(
        severity,
        what,
        "Its log says why: the disk, or the clock of the machine. A restart renews it as well".into(),
    )]
}

/// The one that its admin port shows, if it shows one.
fn admin_certificate(metrics: &Metrics, now: f64) -> Found {
    let ends = metrics.sum("tidegate_admin_certificate_expires_seconds").filter(|ends| *ends > 0.0);
    let Some(left) = ends.map(|ends| ends - now).filter(|left| *left < 14.0 * DAY) else { return Vec::new() };
    let mend =
        "Put a newer one in the place of --admin-cert and --admin-key: they are looked at every two seconds".into();
    if left <= 0.0 {
        return vec![(Severity::Critical, "the certificate of its admin port has ended".into(), mend)];
    }
    vec![(Severity::Warning, format!("the certificate of its admin port ends in {:.0} days", left / DAY), mend)]
}

fn percent(part: f64, of: f64) -> String {
    format!("{:.0} %", part / of * 100.0)
}

/// Two nodes that applied the same entries have the same state, or one of them is broken.
fn states(metrics: &Metrics) -> Found {
    if metrics.sum("tidegate_state_diverged").is_none_or(|groups| groups == 0.0) {
        return Vec::new();
    }
    vec![(
        Severity::Critical,
        "has another state than the majority after the same entry".into(),
        "Remove it (`tidegate cluster remove ID` on another node), keep its data folder for whoever looks for the cause, and \
         join it anew with an empty one. If there is no majority, `cluster status` says so: restore a backup, or keep the node \
         whose documents and keys are right"
            .into(),
    )]
}

fn disk(metrics: &Metrics) -> Found {
    let is = |name: &str| metrics.sum(name).is_some_and(|groups| groups > 0.0);
    if !is("tidegate_disk_full") {
        if !is("tidegate_disk_slow") {
            return Vec::new();
        }
        return vec![(
            Severity::Warning,
            "has a slow disk: a commit to a log took more than half a second".into(),
            "Whoever needs its vote waits for it. Give voters a disk that they share with nothing that writes a lot, or let another \
             node vote (`tidegate cluster remove ID`, and join it again)"
                .into(),
        )];
    }
    vec![(
        Severity::Critical,
        "has no room on its disk: it stores nothing, leads nothing and is not ready".into(),
        "Make room on the disk of its data folder; it goes on by itself, within a second or two".into(),
    )]
}

fn resources(metrics: &Metrics) -> Found {
    let mut found = Vec::new();
    let get = |name: &str| metrics.sum(name);
    if get("tidegate_memory_shedding").is_some_and(|sheds| sheds > 0.0) {
        found.push((
            Severity::Critical,
            "refuses requests because its memory is used up".into(),
            "Give it more (--memory-limit, its cgroup), or add a node".into(),
        ));
    } else if let (Some(used), Some(bound)) = (get("tidegate_memory_used_bytes"), get("tidegate_memory_bound_bytes"))
        && used > bound * 0.75
    {
        found.push((
            Severity::Warning,
            format!("uses {} of its memory", percent(used, bound)),
            "Above 80 % the lowest classes of requests are refused: give it more, or add a node".into(),
        ));
    }
    if let (Some(open), Some(bound)) = (get("process_open_fds"), get("tidegate_descriptors_bound"))
        && open > bound * 0.8
    {
        found.push((
            Severity::Warning,
            format!("has {} of its descriptors open", percent(open, bound)),
            "Raise LimitNOFILE (ulimit -n), or add a node".into(),
        ));
    }
    if let Some(dropped) = get("tidegate_access_log_dropped_total").filter(|dropped| *dropped > 0.0) {
        found.push((
            Severity::Info,
            format!("dropped {dropped} lines of its access log since it started"),
            "Who reads it was too slow: write to a file on a faster disk, or log less".into(),
        ));
    }
    if let Some(dropped) = get("tidegate_otlp_dropped_spans_total").filter(|dropped| *dropped > 0.0) {
        found.push((
            Severity::Info,
            format!("dropped {dropped} spans since it started"),
            "The collector was down or too slow (docs/telemetry.md)".into(),
        ));
    }
    if let Some(dropped) = get("tidegate_otlp_dropped_log_records_total").filter(|dropped| *dropped > 0.0) {
        found.push((
            Severity::Info,
            format!("dropped {dropped} lines of its log on their way to the collector since it started"),
            "The collector was down, too slow, or takes no logs (docs/telemetry.md); standard error has them all"
                .into(),
        ));
    }
    found
}

fn limits(metrics: &Metrics) -> Found {
    let mut found = Vec::new();
    if let Some(silent) = metrics.sum("tidegate_quota_silent_seconds").filter(|silent| *silent > 2.0) {
        found.push((
            Severity::Critical,
            format!("has not heard from the quota leader for {silent} s"),
            "Limits here do what their on_unavailable says. Look at UDP between this node and the quota leader".into(),
        ));
    }
    if let (Some(keys), Some(bound)) = (metrics.sum("tidegate_limit_keys"), metrics.sum("tidegate_limit_keys_bound"))
        && keys > bound * 0.9
    {
        found.push((
            Severity::Warning,
            format!("holds {} of the counters it may hold", percent(keys, bound)),
            "Beyond that callers wait for a free one: raise --limit-keys, or limit per something with fewer values"
                .into(),
        ));
    }
    if let Some(count) = metrics.sum("tidegate_limit_allowed_unsafely_total").filter(|count| *count > 0.0) {
        found.push((
            Severity::Info,
            format!("served {count} requests without a permit since it started"),
            "Their limits say on_unavailable: allow, and the quota leader did not answer".into(),
        ));
    }
    found
}

fn certificates(metrics: &Metrics, now: f64) -> Found {
    let mut found = Vec::new();
    for sample in metrics.of("tidegate_certificate_not_after_seconds") {
        let (name, left) = (sample.label("certificate"), sample.value - now);
        let mend =
            "tidegate cert ls; a new one: `tidegate cert import`, a new file, or `tidegate cert renew` for ACME's";
        if left <= 0.0 {
            found.push((Severity::Critical, format!("certificate {name} has ended"), mend.into()));
        } else if left < 14.0 * DAY {
            found.push((Severity::Warning, format!("certificate {name} ends in {:.0} days", left / DAY), mend.into()));
        }
    }
    for sample in metrics.of("tidegate_acme_failures").filter(|sample| sample.value > 0.0) {
        let what = format!("certificate {} was asked for {} times in vain", sample.label("certificate"), sample.value);
        found.push((Severity::Warning, what, "The node's log has the authority's words (`tidegate cert ls`)".into()));
    }
    found
}

/// The leader's are in time, or it says so.
fn backups(metrics: &Metrics) -> Found {
    if metrics.sum("tidegate_backup_overdue").is_none_or(|overdue| overdue == 0.0) {
        return Vec::new();
    }
    vec![(
        Severity::Critical,
        "leads, and the newest backup that it knows of is older than twice `backups.every`".into(),
        "Its log says why: the folder or store (`backups.to`), its credentials, its room. `tidegate cluster backup` makes one by hand"
            .into(),
    )]
}

fn neighbours(metrics: &Metrics) -> Found {
    let mut found = Vec::new();
    for sample in metrics.of("tidegate_upstream_panic").filter(|sample| sample.value > 0.0) {
        let what = format!("believes no endpoint of upstream {} to be well", sample.label("upstream"));
        found.push((
            Severity::Critical,
            what,
            "All of them are asked again: `tidegate upstream ls` says what is known of each".into(),
        ));
    }
    for sample in metrics.of("tidegate_breaker_open").filter(|sample| sample.value > 0.0) {
        let what = format!("keeps requests from {} of upstream {}", sample.label("endpoint"), sample.label("upstream"));
        found.push((Severity::Warning, what, "It failed, and its probes fail: `tidegate upstream ls`".into()));
    }
    for sample in metrics.of("tidegate_issuer_usable").filter(|sample| sample.value < 1.0) {
        let what = format!("cannot check tokens of issuer {}", sample.label("issuer"));
        found.push((
            Severity::Critical,
            what,
            "Its keys could not be fetched: is jwks_uri reached from this machine?".into(),
        ));
    }
    if metrics.sum("tidegate_cache_redis_up").is_some_and(|up| up < 1.0) {
        found.push((
            Severity::Warning,
            "does not reach Redis".into(),
            "Requests go on without it, each node with its own memory. Look at the Redis, and at its URL".into(),
        ));
    }
    found
}
