//! A node that runs short of file descriptors or memory says no in time, to those who matter least, and recovers.

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::harness::{Backend, Client, Cluster, Origin, answer, eventually};

const DESCRIPTORS: u32 = 400;

async fn metric(cluster: &Cluster, name: &str) -> f64 {
    let text = cluster.metrics(0).await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

/// A connection that asks for something once, and then for nothing.
async fn idler(to: SocketAddr) -> Option<TcpStream> {
    let mut socket = TcpStream::connect(to).await.ok()?;
    socket.write_all(b"GET /idle HTTP/1.1\r\nhost: x\r\n\r\n").await.ok()?;
    let mut buffer = [0; 1_024];
    let read = timeout(Duration::from_secs(5), socket.read(&mut buffer)).await.ok()?.ok()?;
    buffer[..read].starts_with(b"HTTP/1.1 200").then_some(socket)
}

fn document(backend: &Backend) -> String {
    format!(
        "\
version: 1
providers: [{{name: p, kind: vllm, url: \"http://{0}/v1\"}}]
models: [{{name: m, deployments: [{{provider: p, model: m}}]}}]
upstreams: [{{name: plain, endpoints: [{{url: \"http://{0}\"}}]}}]
routes:
  - {{name: llm, match: {{path: /v1/*}}, llm: {{models: [m]}}, class: critical}}
  - {{name: all, match: {{path: /*}}, to: [{{upstream: plain}}]}}
",
        backend.address
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room_when_descriptors_run_short() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(1).await);
    cluster.apply(&document(&backend)).await;
    cluster.nodes[0].drain().await;
    cluster.nodes[0].descriptors = Some(DESCRIPTORS);
    cluster.nodes[0].spawn(None);
    cluster.nodes[0].wait_until_ready().await;
    let to = cluster.nodes[0].ready.as_ref().unwrap().http;
    let bound = metric(&cluster, "tidegate_descriptors_bound").await;
    assert!((200.0..f64::from(DESCRIPTORS)).contains(&bound), "{bound}");
    // More than there are, as fast as they come.
    let mut idlers = Vec::new();
    for _ in 0..DESCRIPTORS * 2 {
        idlers.extend(idler(to).await);
    }
    let opened = idlers.len();
    assert!(opened > 100, "{opened}");
    // The admin port, upstreams and the disk still have theirs.
    assert!(metric(&cluster, "process_open_fds").await < f64::from(DESCRIPTORS));
    cluster.apply(&format!("{}# again\n", document(&backend))).await;
    // Whoever comes is served, once those are gone who are idle.
    let url = cluster.nodes[0].url("/x");
    eventually("a stranger is served", Duration::from_secs(10), async || {
        Client::new().get(&url, &[]).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    let ended = metric(&cluster, "tidegate_connections_ended_total{reason=\"descriptors\"}").await;
    assert!(ended > 0.0);
    // With all of them taken by clients that are not idle long enough, nothing spins.
    let spent = || async { metric(&cluster, "process_cpu_seconds_total").await };
    let mut crowd = Vec::new();
    for _ in 0..DESCRIPTORS * 2 {
        crowd.extend(timeout(Duration::from_millis(200), TcpStream::connect(to)).await.ok().and_then(Result::ok));
    }
    let before = spent().await;
    sleep(Duration::from_secs(1)).await;
    let used = spent().await - before;
    assert!(used < 0.7, "{used} s of CPU in a second of nothing");
    drop((crowd, idlers));
    eventually("all is as it was", Duration::from_secs(10), async || {
        Client::new().get(&url, &[]).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    assert!(cluster.nodes[0].is_running());
}

/// Megabytes that are sent, and one byte that is not.
async fn upload(to: SocketAddr, bytes: usize) -> Option<TcpStream> {
    let mut socket = TcpStream::connect(to).await.ok()?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        bytes + 1
    );
    socket.write_all(head.as_bytes()).await.ok()?;
    let part = vec![b' '; 1 << 16];
    for _ in 0..bytes / part.len() {
        timeout(Duration::from_secs(5), socket.write_all(&part)).await.ok()?.ok()?;
    }
    Some(socket)
}

const CALL: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "hello"}]}"#;
const ANSWER: &str = r#"{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}"#;

/// A client of whose call one byte is to come: it is not idle, and nobody has been asked for it.
struct Caller(TcpStream);

impl Caller {
    async fn come(to: SocketAddr) -> Option<Self> {
        let mut socket = timeout(Duration::from_secs(5), TcpStream::connect(to)).await.ok()?.ok()?;
        let (begin, _) = CALL.split_at(CALL.len() - 1);
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length:";
        socket.write_all(format!("{head} {}\r\n\r\n{begin}", CALL.len()).as_bytes()).await.ok()?;
        Some(Self(socket))
    }

    async fn finish(mut self) -> String {
        let exchange = async {
            self.0.write_all(b"}").await.unwrap();
            let mut buffer = [0; 4_096];
            let read = self.0.read(&mut buffer).await.unwrap();
            String::from_utf8_lossy(&buffer[..read]).into_owned()
        };
        timeout(Duration::from_secs(20), exchange).await.expect("an answer")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_and_peers_have_descriptors_when_clients_took_all_theirs() {
    // Each call needs a connection of its own.
    let headers = [("content-type", "application/json"), ("connection", "close")];
    let model = Origin::start(move |_, _| async move { answer(&headers, ANSWER) }).await;
    let mut cluster = Cluster::start(3).await;
    let text = format!(
        "\
version: 1
providers: [{{name: p, kind: vllm, url: \"http://{}/v1\"}}]
models: [{{name: m, deployments: [{{provider: p, model: m}}]}}]
routes:
  - {{name: llm, match: {{path: /v1/*}}, llm: {{models: [m]}}}}
  - {{name: all, match: {{path: /*}}, respond: {{status: 200}}}}
",
        model.address
    );
    cluster.apply(&text).await;
    cluster.nodes[0].drain().await;
    cluster.nodes[0].descriptors = Some(DESCRIPTORS);
    cluster.nodes[0].spawn(None);
    cluster.nodes[0].wait_until_ready().await;
    let to = cluster.nodes[0].ready.as_ref().unwrap().http;
    let mut callers = VecDeque::new();
    for _ in 0..DESCRIPTORS / 2 {
        callers.push_back(Caller::come(to).await.expect("there is room"));
    }
    let mut crowd = Vec::new();
    eventually("clients have all that they may have", Duration::from_secs(30), async || {
        crowd.extend(Caller::come(to).await);
        idler(to).await.is_none()
    })
    .await;
    let mut calls = async || {
        for _ in 0..5 {
            let answer = callers.pop_front().unwrap().finish().await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            crowd.extend(Caller::come(to).await); // What came free is taken again.
        }
    };
    calls().await;
    // A peer that comes back, and a document that all three have to take, this one through its admin port.
    cluster.nodes[2].kill().await;
    cluster.nodes[2].spawn(None);
    cluster.nodes[2].wait_until_ready().await;
    calls().await;
    cluster.leader("control").await; // It may have been the one that was killed.
    cluster.apply(&format!("{text}# again\n")).await;
    cluster.wait_for_voters(3).await;
    calls().await;
    assert_eq!(model.asked("POST /v1/chat/completions"), 15);
    drop((callers, crowd));
    eventually("strangers are served", Duration::from_secs(10), async || idler(to).await.is_some()).await;
}

/// A cgroup of ours within that of this process, with so much memory; removed with everything in it.
struct Group(PathBuf);

impl Group {
    /// `Err`: why there can be none here.
    fn with(bytes: u64) -> Result<Self, String> {
        let text = fs::read_to_string("/proc/self/cgroup").map_err(|why| why.to_string())?;
        let path = |controllers: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
            lines.find_map(|(list, path)| list.split(',').any(|one| one == controllers).then_some(path))
        };
        let (own, limit) = match (path("memory"), path("")) {
            (Some(own), _) => (format!("/sys/fs/cgroup/memory{own}"), "memory.limit_in_bytes"),
            (None, Some(own)) => (format!("/sys/fs/cgroup{own}"), "memory.max"),
            (None, None) => return Err("no memory controller".to_owned()),
        };
        let at = Path::new(&own).join(format!("tidegate-spec-{}", std::process::id()));
        fs::create_dir(&at).map_err(|why| format!("{}: {why}", at.display()))?;
        let group = Self(at);
        fs::write(group.0.join(limit), bytes.to_string()).map_err(|why| format!("{limit}: {why}"))?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _still_in_use = fs::remove_dir(&self.0);
    }
}

/// Uploads until somebody is refused for want of memory; then they end, and all is well again.
async fn pressed(cluster: &Cluster, bound: f64) {
    let (url, to) = (cluster.nodes[0].url("/x"), cluster.nodes[0].ready.as_ref().unwrap().http);
    let each = 4 << 20;
    let mut uploads = Vec::new();
    eventually("somebody is refused", Duration::from_secs(30), async || {
        if (uploads.len() as f64) < bound / f64::from(each) + 10.0 {
            uploads.extend(upload(to, each as usize).await);
        }
        let Ok(answer) = Client::new().get(&url, &[]).await else { return false };
        answer.status == 503 && answer.json()["error"]["code"] == "overloaded"
    })
    .await;
    assert!(metric(cluster, "tidegate_memory_shedding").await >= 2.0);
    assert_eq!(cluster.client.get(&cluster.nodes[0].admin("/readyz"), &[]).await.unwrap().status, 200);
    drop(uploads);
    eventually("it serves again", Duration::from_secs(10), async || {
        Client::new().get(&url, &[]).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    assert!(cluster.nodes[0].is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_in_a_cgroup_keeps_to_its_limit_and_is_not_killed() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(1).await);
    cluster.apply(&document(&backend)).await;
    let used = metric(&cluster, "tidegate_memory_used_bytes").await;
    let bound = used * 1.5 + f64::from(64 << 20);
    let group = match Group::with(bound as u64) {
        Ok(group) => group,
        Err(why) => return eprintln!("SKIPPED: no cgroup can be made here: {why}"),
    };
    cluster.nodes[0].drain().await;
    cluster.nodes[0].group = Some(group.0.clone());
    cluster.nodes[0].spawn(None);
    cluster.nodes[0].wait_until_ready().await;
    let told = metric(&cluster, "tidegate_memory_bound_bytes").await;
    assert!((bound - told).abs() < 8192.0, "the group's limit: {told}, {bound} was set");
    pressed(&cluster, bound).await;
    cluster.nodes[0].drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_short_of_memory_refuses_the_lower_classes_and_comes_back() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(1).await);
    cluster.apply(&document(&backend)).await;
    let url = cluster.nodes[0].url("/x");
    assert_eq!(cluster.client.get(&url, &[]).await.unwrap().status, 200);
    let used = metric(&cluster, "tidegate_memory_used_bytes").await;
    // At rest two thirds of what it may have.
    let bound = used * 1.5;
    cluster.nodes[0].drain().await;
    cluster.nodes[0].extra.extend(["--memory-limit".to_owned(), format!("{}KiB", (bound / 1024.0) as u64)]);
    cluster.nodes[0].spawn(None);
    cluster.nodes[0].wait_until_ready().await;
    assert_eq!(Client::new().get(&url, &[]).await.unwrap().status, 200);
    pressed(&cluster, bound).await;
}
