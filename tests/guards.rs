//! A node that runs short of file descriptors or memory says no in time, to those who matter least, and recovers.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::harness::{Backend, Client, Cluster, eventually};

const DESCRIPTORS: u32 = 400;

async fn metric(cluster: &Cluster, name: &str) -> f64 {
    let answer = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
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
    let to = cluster.nodes[0].ready.as_ref().unwrap().http;
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
    assert!(metric(&cluster, "tidegate_memory_shedding").await >= 2.0);
    assert_eq!(cluster.client.get(&cluster.nodes[0].admin("/readyz"), &[]).await.unwrap().status, 200);
    drop(uploads);
    eventually("it serves again", Duration::from_secs(10), async || {
        Client::new().get(&url, &[]).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    assert!(cluster.nodes[0].is_running());
}
