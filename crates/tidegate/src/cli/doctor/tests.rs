use std::time::Duration;

use tidegate_admin::wire::{ClusterKeyState, Group, Node, NodeRole, Readiness};

use super::*;
use crate::cli::scrape::Metrics;

fn member(id: u64) -> Node {
    Node {
        id,
        name: format!("n{id}"),
        peer: format!("10.0.0.{id}:7081"),
        admin: format!("10.0.0.{id}:7080"),
        role: NodeRole::Voter,
        live: true,
        revision: Some(4),
        applied: Some(100),
        version: "0.1.0".into(),
        feature_level: Some(2),
        zone: None,
    }
}

fn group() -> Group {
    Group { leader: Some(1), term: 2, applied: 100, committed: 100 }
}

fn status(nodes: Vec<Node>) -> ClusterStatus {
    let (control, quota) = (group(), group());
    ClusterStatus {
        cluster_id: "c".into(),
        node_id: 1,
        readiness: Readiness::Ready,
        reasons: Vec::new(),
        revision: 4,
        control,
        quota,
        settled: true,
        nodes,
        alarms: Vec::new(),
        certificate: None,
        cluster_key: None,
    }
}

fn told(id: u64, status: &ClusterStatus, metrics: &str) -> Told {
    let date = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let (status, metrics) = (Some(status.clone()), Metrics::read(metrics));
    Told { id, name: format!("n{id}"), status, metrics, date, why: None }
}

fn look(status: &ClusterStatus, told: &[Told]) -> Vec<Finding> {
    examine(&Seen { status, told, now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) })
}

/// Of three nodes, the first with these metrics.
fn of_metrics(metrics: &str) -> Vec<Finding> {
    let status = status((1..=3).map(member).collect());
    let told = [told(1, &status, metrics), told(2, &status, ""), told(3, &status, "")];
    look(&status, &told)
}

#[track_caller]
fn only(findings: &[Finding], severity: Severity, node: Option<u64>, word: &str) {
    assert!(findings.len() == 1, "{findings:?}");
    let finding = &findings[0];
    assert!(finding.severity == severity && finding.node == node && finding.what.contains(word), "{finding:?}");
    assert!(!finding.mend.is_empty());
}

#[test]
fn three_nodes_that_are_well_have_nothing() {
    assert_eq!(of_metrics("tidegate_memory_used_bytes 10\ntidegate_memory_bound_bytes 100"), []);
}

#[test]
fn a_dead_voter_is_named_and_so_is_that_no_other_may_die() {
    let mut status = status((1..=3).map(member).collect());
    status.nodes[2].live = false;
    let silent = Told { id: 3, why: Some("refused".into()), ..Told::default() };
    let findings = look(&status, &[told(1, &status, ""), told(2, &status, ""), silent]);
    let words: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
    assert!(
        findings.len() == 2 && words[0].contains("2 of 3 voters live") && words[1].contains("n3 holds no node lease"),
        "{words:?}"
    );
    assert!(findings[1].mend.contains("tidegate cluster remove 3"));
}

/// As a node that is cut off sees it.
fn alone(id: u64) -> ClusterStatus {
    let mut status = status((1..=3).map(member).collect());
    status.node_id = id;
    status.nodes.iter_mut().for_each(|node| node.live = false);
    (status.settled, status.readiness, status.reasons) = (false, Readiness::Degraded, vec!["no node lease".into()]);
    status
}

#[test]
fn a_lost_quorum_is_called_so_though_the_survivor_still_believes_in_a_leader() {
    let status = alone(2);
    let silent = |id| Told { id, why: Some("refused".into()), ..Told::default() };
    let findings = look(&status, &[silent(1), told(2, &status, ""), silent(3)]);
    let words: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(
        words,
        [
            "the quorum is lost: 1 of 3 voters answer, 2 are needed",
            "n1 votes and does not answer at 10.0.0.1:7080",
            "n3 votes and does not answer at 10.0.0.3:7080",
            "is degraded: no node lease",
        ]
    );
    assert!(findings[0].mend.contains("cluster recover"), "{findings:?}");
    let findings = look(&status, &[told(1, &alone(1), ""), told(2, &status, ""), silent(3)]);
    assert!(findings[0].what.contains("none has a leader that it hears"), "{findings:?}");
}

#[test]
fn a_node_that_is_cut_off_is_not_believed_where_another_knows_better() {
    let (cut, well) = (alone(2), status((1..=3).map(member).collect()));
    let told = [told(1, &well, ""), told(2, &cut, "")];
    assert_eq!(best_view(&cut, &told).node_id, 1);
    assert_eq!(best_view(&cut, &told[1..]).node_id, 2);
    assert_eq!(best_view(&well, &told).node_id, 1);
}

#[test]
fn a_cluster_without_a_leader_or_with_two_says_so() {
    let mut status = status((1..=3).map(member).collect());
    let mut other = status.clone();
    other.quota.leader = Some(2);
    let findings = look(&status, &[told(1, &status, ""), told(2, &other, ""), told(3, &status, "")]);
    only(&findings, Severity::Warning, None, "different leaders of the quota group");
    status.control.leader = None;
    let findings = look(&status, &[told(1, &status, ""), told(2, &status, ""), told(3, &status, "")]);
    only(&findings, Severity::Critical, None, "control group has no leader");
}

#[test]
fn a_node_without_the_key_that_secrets_are_sealed_with_is_named_and_so_is_whom_the_next_one_waits_for() {
    let mut status = status((1..=3).map(member).collect());
    let key = ClusterKeyState { generation: 2, replacing: false, waits_for: Vec::new(), older: 0, lacks: false };
    status.cluster_key = Some(key.clone());
    assert_eq!(look(&status, &[told(1, &status, "")]), []);
    status.cluster_key = Some(ClusterKeyState { replacing: true, waits_for: vec![3], ..key.clone() });
    only(&look(&status, &[]), Severity::Info, None, "waits for live nodes that do not have it: 3");
    status.cluster_key = Some(ClusterKeyState { replacing: true, older: 1, ..key.clone() });
    only(&look(&status, &[]), Severity::Info, None, "is being replaced");
    status.cluster_key = Some(key.clone());
    let mut third = status.clone();
    (third.node_id, third.cluster_key) = (3, Some(ClusterKeyState { replacing: true, lacks: true, ..key }));
    only(&look(&status, &[told(3, &third, "")]), Severity::Critical, Some(3), "does not have the key");
}

#[test]
fn what_lags_differs_or_goes_wrong_by_the_clock_is_named() {
    let mut status = status((1..=3).map(member).collect());
    status.control.committed = 5_000;
    for node in &mut status.nodes {
        node.applied = Some(5_000);
    }
    status.nodes[1].applied = Some(10);
    only(&look(&status, &[]), Severity::Warning, Some(2), "4990 entries behind");
    status.nodes[1].applied = Some(5_000);
    status.nodes[2].revision = Some(3);
    only(&look(&status, &[]), Severity::Warning, Some(3), "serves document 3, the newest is 4");
    status.nodes[2].revision = Some(4);
    status.nodes[2].version = "0.2.0".into();
    only(&look(&status, &[]), Severity::Info, None, "0.1.0, 0.2.0");
    status.nodes[2].version = "0.1.0".into();
    let mut told = [told(1, &status, ""), told(2, &status, ""), told(3, &status, "")];
    told[1].date = told[1].date.map(|date| date - Duration::from_secs(60));
    only(&look(&status, &told), Severity::Warning, Some(2), "60 s away");
}

#[test]
fn votes_that_survive_nothing_are_named() {
    let mut two = status(vec![member(1), member(2)]);
    two.nodes[1].role = NodeRole::Learner;
    only(&look(&two, &[]), Severity::Warning, None, "one of two nodes votes");
    only(&look(&status(vec![member(1)]), &[]), Severity::Info, None, "one node votes");
}

#[test]
fn a_node_that_is_not_ready_or_not_reached_says_why() {
    let healthy = status((1..=3).map(member).collect());
    let mut degraded = healthy.clone();
    (degraded.readiness, degraded.reasons) = (Readiness::Degraded, vec!["no lease".into()]);
    let silent = Told { id: 3, why: Some("connection refused".into()), ..Told::default() };
    let findings = look(&healthy, &[told(1, &healthy, ""), told(2, &degraded, ""), silent]);
    let words: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(words, ["is degraded: no lease", "could not be asked: connection refused"]);
}

#[test]
fn each_metric_that_is_out_of_bounds_is_a_finding() {
    for (metrics, severity, word) in [
        ("tidegate_memory_shedding 1", Severity::Critical, "memory is used up"),
        ("tidegate_memory_used_bytes 80\ntidegate_memory_bound_bytes 100", Severity::Warning, "80 % of its memory"),
        ("process_open_fds 90\ntidegate_descriptors_bound 100", Severity::Warning, "90 % of its descriptors"),
        ("tidegate_limit_keys 95\ntidegate_limit_keys_bound 100", Severity::Warning, "95 % of the counters"),
        ("tidegate_quota_silent_seconds 9", Severity::Critical, "quota leader for 9 s"),
        ("tidegate_limit_allowed_unsafely_total 3", Severity::Info, "3 requests without a permit"),
        ("tidegate_certificate_not_after_seconds{certificate=\"api\"} 999000", Severity::Critical, "api has ended"),
        (
            "tidegate_certificate_not_after_seconds{certificate=\"api\"} 1259200",
            Severity::Warning,
            "api ends in 3 days",
        ),
        ("tidegate_acme_failures{certificate=\"api\"} 2", Severity::Warning, "api was asked for 2 times"),
        ("tidegate_upstream_panic{upstream=\"u\"} 1", Severity::Critical, "no endpoint of upstream u"),
        ("tidegate_breaker_open{upstream=\"u\",endpoint=\"e:1\"} 1", Severity::Warning, "from e:1 of upstream u"),
        ("tidegate_issuer_usable{issuer=\"i\"} 0", Severity::Critical, "issuer i"),
        ("tidegate_cache_redis_up 0", Severity::Warning, "Redis"),
        ("tidegate_access_log_dropped_total 7", Severity::Info, "7 lines"),
        ("tidegate_admin_certificate_expires_seconds 1259200", Severity::Warning, "admin port ends in 3 days"),
        ("tidegate_admin_certificate_expires_seconds 999000", Severity::Critical, "admin port has ended"),
        ("tidegate_backup_overdue 1", Severity::Critical, "older than twice"),
        ("tidegate_otlp_dropped_spans_total 7", Severity::Info, "7 spans"),
        ("tidegate_otlp_dropped_log_records_total 7", Severity::Info, "7 lines of its log"),
    ] {
        only(&of_metrics(metrics), severity, Some(1), word);
    }
}
