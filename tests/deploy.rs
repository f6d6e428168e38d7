//! What `deploy/` has for those who watch a cluster: dashboards and alerts ask for what nodes tell, and each alert fires.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::Cluster;

/// What Prometheus makes of a histogram or counter.
const SUFFIXES: [&str; 4] = ["_total", "_bucket", "_count", "_sum"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

/// Names of metrics in a text.
fn asked_for(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("tidegate_") || word.starts_with("process_")).collect()
}

fn plain(name: &str) -> &str {
    SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// By the judgement of its own tool, where that is installed: names, types, help.
fn told_as_prometheus_wants_it(metrics: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut promtool) = command.spawn() else { return };
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let judged = promtool.wait_with_output().unwrap();
    assert!(judged.status.success(), "{judged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_alerts_doctor_and_top_ask_for_nothing_that_no_node_tells() {
    let cluster = Cluster::start(1).await;
    let told = cluster.metrics(0).await;
    told_as_prometheus_wants_it(&told);
    let told: BTreeSet<&str> =
        told.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(plain).collect();
    let mut files = vec![deploy().join("prometheus/alerts.yaml")];
    files.extend(std::fs::read_dir(deploy().join("grafana")).unwrap().map(|file| file.unwrap().path()));
    assert_eq!(files.len(), 4, "{files:?}");
    files.extend(["doctor/nodes.rs", "top.rs"].map(|name| deploy().join("../crates/tidegate/src/cli").join(name)));
    let mut seen = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        if file.extension().is_some_and(|name| name == "json") {
            let board: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(board["panels"].as_array().is_some_and(|panels| panels.len() > 5), "{}", file.display());
        }
        let is_code = file.extension().is_some_and(|name| name == "rs");
        let text = if is_code { text.split('"').skip(1).step_by(2).collect::<Vec<_>>().join(" ") } else { text };
        for name in asked_for(&text) {
            assert!(told.contains(plain(name)), "{} asks for {name}, which no node tells", file.display());
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen}: something was read");
}

#[test]
fn prometheus_takes_the_alerts_and_each_fires_when_it_should() {
    let promtool = |words: &[&str]| {
        Command::new("promtool").args(words).current_dir(deploy().join("prometheus")).output().map(|done| {
            let said = [done.stdout, done.stderr].concat();
            (done.status.success(), String::from_utf8_lossy(&said).into_owned())
        })
    };
    if promtool(&["--version"]).is_err() {
        assert!(std::env::var_os("CI").is_none(), "promtool is not installed: Debian's package prometheus has it");
        eprintln!("skipped: promtool is not installed (Debian's package prometheus)");
        return;
    }
    for words in [
        &["check", "rules", "alerts.yaml"][..],
        // The token and the authority are files of whoever uses it.
        &["check", "config", "--syntax-only", "prometheus.yaml"],
        &["test", "rules", "alerts-test.yaml"],
    ] {
        let (went_well, said) = promtool(words).unwrap();
        assert!(went_well, "{said}");
    }
    // No alert without a test.
    let read = |name: &str| std::fs::read_to_string(deploy().join("prometheus").join(name)).unwrap();
    let (alerts, tests) = (read("alerts.yaml"), read("alerts-test.yaml"));
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("- name: {name}\n")), "{name} has no test");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_when_a_node_serves_and_when_it_is_on_its_way_out() {
    let mut cluster = Cluster::told_the_same(1, 1).await;
    let path = cluster.write("notify", "");
    std::fs::remove_file(&path).unwrap();
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    cluster.nodes[0].environment.push(("NOTIFY_SOCKET".to_owned(), path.display().to_string()));
    let heard = async |what: &str| {
        let mut buffer = [0; 1_024];
        let ends = tokio::time::Instant::now() + Duration::from_secs(40);
        loop {
            let read = tokio::time::timeout_at(ends, socket.recv(&mut buffer)).await.expect(what).unwrap();
            if String::from_utf8_lossy(&buffer[..read]).lines().any(|line| line == what) {
                return;
            }
        }
    };
    cluster.nodes[0].spawn(None);
    heard("READY=1").await;
    cluster.nodes[0].wait_until_ready().await;
    let ended = tokio::join!(cluster.nodes[0].drain(), heard("STOPPING=1")).0;
    assert_eq!(ended, Some(0));
}
