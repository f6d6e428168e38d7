//! The cluster as a whole: leaders, votes, releases, documents, clocks.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_admin::wire::{ClusterStatus, Node, NodeRole};

use super::{Finding, Seen, Severity, is_in};

/// Entries that a node may be behind while it works.
const BEHIND: u64 = 1_000;
/// Certificates, tokens and calendar windows go by the wall clock.
const CLOCKS: Duration = Duration::from_secs(2);

pub(super) fn examine(seen: &Seen<'_>) -> Vec<Finding> {
    if !is_in(seen.status) {
        return [cut_off(seen), releases(seen), clocks(seen)].concat();
    }
    [leaders(seen), votes(seen), members(seen), releases(seen), clocks(seen), keys(seen)].concat()
}

fn cluster(severity: Severity, what: impl Into<String>, mend: &str) -> Finding {
    Finding { severity, node: None, what: what.into(), mend: mend.into() }
}

fn leaders(seen: &Seen<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    type Pick = fn(&ClusterStatus) -> Option<u64>;
    let groups: [(&str, &str, Pick); 2] = [
        (
            "control",
            "Nothing can be published, no node can join. Bring back voters until more than half of them run; if their \
                     disks are lost: `tidegate cluster recover`",
            |status| status.control.leader,
        ),
        (
            "quota",
            "Limits do what their on_unavailable says. Bring back voters until more than half of them run",
            |status| status.quota.leader,
        ),
    ];
    for (name, mend, pick) in groups {
        let known: BTreeSet<u64> = seen.told.iter().filter_map(|told| told.status.as_ref().and_then(pick)).collect();
        if known.is_empty() && pick(seen.status).is_none() {
            findings.push(cluster(Severity::Critical, format!("the {name} group has no leader"), mend));
        } else if known.len() > 1 {
            let what = format!("nodes believe in different leaders of the {name} group: {known:?}");
            let mend = "An election just now, or nodes that do not reach each other at their peer ports (UDP): ask again in a moment";
            findings.push(cluster(Severity::Warning, what, mend));
        }
    }
    findings
}

/// Nobody who was asked holds a lease: what they believe of leaders and of each other is old. Who answers is known, and no more.
fn cut_off(seen: &Seen<'_>) -> Vec<Finding> {
    let voters: Vec<&Node> = seen.status.nodes.iter().filter(|node| node.role == NodeRole::Voter).collect();
    let silent = |node: &Node| seen.told.iter().all(|told| told.id != node.id || told.status.is_none());
    let lost: Vec<&Node> = voters.iter().copied().filter(|node| silent(node)).collect();
    let answer = voters.len() - lost.len();
    if voters.len() / 2 < answer {
        let what = format!("{answer} of {} voters answer, and none has a leader that it hears", voters.len());
        let mend = "An election just now: ask again in a moment. If it stays so, they do not reach each other at their peer ports (UDP), or \
                    their disks do not take what they write: their logs say which";
        return vec![cluster(Severity::Critical, what, mend)];
    }
    let what =
        format!("the quorum is lost: {answer} of {} voters answer, {} are needed", voters.len(), voters.len() / 2 + 1);
    let mend = "Nothing can be changed, limits do what their on_unavailable says. Bring the others back, and nothing is lost; if their disks \
                are gone for good: `tidegate cluster recover` (docs/operations.md, Lose a quorum)";
    let mut findings = vec![cluster(Severity::Critical, what, mend)];
    for node in lost {
        let mend = format!("Start it, or look at the network between it and node {}", seen.status.node_id);
        let what = format!("{} votes and does not answer at {}", node.name, or_nowhere(&node.admin));
        findings.push(Finding { severity: Severity::Critical, node: Some(node.id), what, mend });
    }
    findings
}

fn or_nowhere(address: &str) -> &str {
    if address.is_empty() { "an admin port that it tells nobody" } else { address }
}

/// The one that seals everything secret, as each node sees it.
fn keys(seen: &Seen<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for status in seen.told.iter().filter_map(|told| told.status.as_ref()) {
        let Some(key) = status.cluster_key.as_ref().filter(|key| key.lacks) else { continue };
        findings.push(Finding {
            severity: Severity::Critical,
            node: Some(status.node_id),
            what: format!("it does not have the key that secrets are sealed with (generation {})", key.generation),
            mend: "It asks the others for it: they have to reach each other at their peer ports (UDP); its disk needs room".into(),
        });
    }
    let Some(key) = seen.status.cluster_key.as_ref().filter(|key| key.replacing) else { return findings };
    let waits_for: Vec<_> = key.waits_for.iter().map(u64::to_string).collect();
    let (what, mend) = if waits_for.is_empty() {
        ("the cluster's key is being replaced", "Nothing to do: `tidegate cluster status` tells when it is done")
    } else {
        (
            "the cluster's next key waits for live nodes that do not have it",
            "They ask for it by themselves; if it stays so, their logs say why: the disk, or the peer port (UDP)",
        )
    };
    let nodes = if waits_for.is_empty() { String::new() } else { format!(": {}", waits_for.join(", ")) };
    findings.push(cluster(Severity::Info, format!("{what}{nodes}"), mend));
    findings
}

fn votes(seen: &Seen<'_>) -> Vec<Finding> {
    let status = seen.status;
    let voters: Vec<_> = status.nodes.iter().filter(|node| node.role == NodeRole::Voter).collect();
    let live = voters.iter().filter(|node| node.live).count();
    let quorum = voters.len() / 2 + 1;
    let mut findings = Vec::new();
    if live < voters.len() && live == quorum {
        let what = format!("{live} of {} voters live: one more that fails stops the cluster", voters.len());
        findings.push(cluster(
            Severity::Critical,
            what,
            "Bring the dead voter back, or let another node join: it votes in its place after ten seconds",
        ));
    }
    if voters.len() == 1 && status.nodes.len() == 2 {
        let mend = "Let a third node join: three vote as soon as they are there";
        findings.push(cluster(Severity::Warning, "one of two nodes votes: the cluster ends with it", mend));
    } else if voters.len() == 1 {
        let mend = "Fine for trying out. Three nodes survive the loss of one";
        findings.push(cluster(Severity::Info, "one node votes: the cluster ends with its disk", mend));
    }
    if voters.len() % 2 == 0 {
        let what = format!("{} nodes vote: an even number survives no more than one less", voters.len());
        findings.push(cluster(
            Severity::Warning,
            what,
            "It is being changed: ask again in a moment. If it stays so, look at the leader's log",
        ));
    }
    findings.extend(zones(&voters));
    if !status.settled {
        let mend = "Wait with taking nodes away until it is over: a failure now may cost more than it seems";
        findings.push(cluster(Severity::Info, "who votes is being changed", mend));
    }
    findings
}

/// Of voters that all say where they are.
fn zones(voters: &[&Node]) -> Option<Finding> {
    let zones: Vec<&str> = voters.iter().map(|node| node.zone.as_deref()).collect::<Option<_>>()?;
    let count = |zone: &str| zones.iter().filter(|other| **other == zone).count();
    let full = zones.iter().find(|zone| 1 < zones.len() && zones.len() < 2 * count(zone))?;
    let what = format!("zone {full} has {} of {} votes: the cluster ends with it", count(full), zones.len());
    Some(cluster(
        Severity::Warning,
        what,
        "Put nodes into a third zone, two or more in all others: votes move there by themselves",
    ))
}

fn members(seen: &Seen<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let newest = seen.told.iter().filter_map(|told| told.status.as_ref()).map(|status| status.revision).max();
    let newest = newest.unwrap_or(seen.status.revision).max(seen.status.revision);
    for node in &seen.status.nodes {
        let of_node =
            |severity, what: String, mend: &str| Finding { severity, node: Some(node.id), what, mend: mend.into() };
        if !node.live {
            let what = format!("{} holds no node lease: it is down, or cut off from the control leader", node.name);
            let mend = format!(
                "Start it, or look at UDP between {} and the others. If it is gone for good: tidegate cluster remove {}",
                node.peer, node.id
            );
            findings.push(of_node(Severity::Critical, what, &mend));
            continue;
        }
        if node.revision.is_some_and(|revision| revision < newest) {
            let what = format!("serves document {}, the newest is {newest}", node.revision.unwrap_or_default());
            findings.push(of_node(
                Severity::Warning,
                what,
                "Its /readyz says why: often a file or variable that this machine lacks, or an older release",
            ));
        }
        if node.applied.is_some_and(|applied| applied + BEHIND < seen.status.control.committed) {
            let what =
                format!("is {} entries behind", seen.status.control.committed - node.applied.unwrap_or_default());
            findings.push(of_node(
                Severity::Warning,
                what,
                "A slow disk or a starved processor: compare it with the others (`tidegate top`)",
            ));
        }
    }
    findings
}

fn releases(seen: &Seen<'_>) -> Vec<Finding> {
    let versions: BTreeSet<&str> = seen
        .status
        .nodes
        .iter()
        .filter(|node| node.live && !node.version.is_empty())
        .map(|node| node.version.as_str())
        .collect();
    let levels: BTreeSet<u32> =
        seen.status.nodes.iter().filter(|node| node.live).filter_map(|node| node.feature_level).collect();
    if versions.len() < 2 && levels.len() < 2 {
        return Vec::new();
    }
    let versions: Vec<&str> = versions.into_iter().collect();
    let levels: Vec<String> = levels.iter().map(u32::to_string).collect();
    let what = format!("nodes run different releases: {} (feature levels {})", versions.join(", "), levels.join(", "));
    vec![cluster(
        Severity::Info,
        what,
        "Fine during an upgrade. What the older one does not know is refused until all are new",
    )]
}

fn clocks(seen: &Seen<'_>) -> Vec<Finding> {
    let mut dates: Vec<_> = seen.told.iter().filter_map(|told| told.date).collect();
    dates.sort_unstable();
    let Some(middle) = dates.get(dates.len() / 2).copied() else { return Vec::new() };
    let apart = |date: std::time::SystemTime| date.duration_since(middle).unwrap_or_else(|error| error.duration());
    // The header has whole seconds, and nodes are not asked at quite the same moment.
    let wrong = seen.told.iter().filter(|told| told.date.is_some_and(|date| CLOCKS < apart(date)));
    wrong
        .map(|told| Finding {
            severity: Severity::Warning,
            node: Some(told.id),
            what: format!(
                "its wall clock is about {} s away from the others'",
                told.date.map_or(0, |date| apart(date).as_secs())
            ),
            mend: "Limits do not mind; certificates, tokens and calendar windows do. Run an NTP client there".into(),
        })
        .collect()
}
