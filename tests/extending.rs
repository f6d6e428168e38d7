//! Calls that run long and come to more than was reserved for them: what they use is seen everywhere while they use it, what they do
//! not use comes back, and a limit may say that they end where there is no more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::{Client, Cluster, eventually};

const PACE: Duration = Duration::from_millis(20);

/// A backend that takes its time: `/BYTES/BYTES_A_SECOND`, with `/chunked` at its end without a length; `/socket` switches protocols
/// and sends until it is cut off.
async fn slow() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                while let Some(head) = head_of(&mut socket).await {
                    if answer(&mut socket, &head).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn head_of(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn answer(socket: &mut TcpStream, head: &str) -> std::io::Result<()> {
    let path = head.split_whitespace().nth(1).unwrap_or_default();
    let mut words = path.split('/').skip(1);
    let first = words.next().unwrap_or_default();
    let is_socket = first == "socket";
    let bytes: usize = if is_socket { usize::MAX } else { first.parse().unwrap() };
    let a_second: usize = words.next().map_or(400_000, |word| word.parse().unwrap());
    let is_chunked = words.next() == Some("chunked");
    socket.set_nodelay(true)?;
    let framing = match (is_socket, is_chunked) {
        (true, _) => "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".to_owned(),
        (_, true) => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
        _ => format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n"),
    };
    socket.write_all(framing.as_bytes()).await?;
    let (piece, mut left) = (vec![b'x'; (a_second / 50).max(1)], bytes);
    while left > 0 {
        let now = &piece[..piece.len().min(left)];
        if is_chunked {
            socket.write_all(format!("{:x}\r\n", now.len()).as_bytes()).await?;
        }
        socket.write_all(now).await?;
        if is_chunked {
            socket.write_all(b"\r\n").await?;
        }
        left -= now.len();
        if left > 0 {
            tokio::time::sleep(PACE).await;
        }
    }
    if is_chunked {
        socket.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}

/// Somebody who downloads; dropped, he hangs up.
struct Download {
    /// Of the body, with what frames it.
    got: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    /// The head, and the last bytes that came.
    work: JoinHandle<(String, Vec<u8>)>,
}

impl Drop for Download {
    fn drop(&mut self) {
        self.work.abort();
    }
}

async fn download(cluster: &Cluster, node: usize, path: &str, also: &str) -> Download {
    let url: http::Uri = cluster.nodes[node].url(path).parse().unwrap();
    let mut socket = TcpStream::connect(url.authority().unwrap().as_str()).await.unwrap();
    let request = format!("GET {} HTTP/1.1\r\nhost: api\r\n{also}\r\n", url.path());
    socket.write_all(request.as_bytes()).await.unwrap();
    let (got, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, ended) = (Arc::clone(&got), Arc::clone(&over));
    let work = tokio::spawn(async move {
        let head = head_of(&mut socket).await.unwrap_or_default();
        let (mut last, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        while let Ok(read @ 1..) = socket.read(&mut buffer).await {
            counted.fetch_add(read as u64, Ordering::Relaxed);
            last.extend_from_slice(&buffer[..read]);
            last.drain(..last.len().saturating_sub(64));
        }
        ended.store(true, Ordering::Relaxed);
        (head, last)
    });
    Download { got, over, work }
}

impl Download {
    fn got(&self) -> u64 {
        self.got.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn has(&self, bytes: u64) {
        eventually("so much came", Duration::from_secs(20), async || self.got() >= bytes).await;
    }

    async fn ends(&mut self) -> (String, Vec<u8>) {
        tokio::time::timeout(Duration::from_secs(30), &mut self.work).await.expect("it ends").unwrap()
    }
}

fn document(cluster: &Cluster, origin: SocketAddr, limit: &str) -> String {
    let log = cluster.write("access.log", "");
    format!(
        "\
version: 1
telemetry: {{access_log: {{format: json, file: \"{}\"}}}}
limits:
  - {{name: egress, {limit}}}
upstreams: [{{name: origin, endpoints: [{{url: \"http://{origin}\"}}]}}]
routes: [{{name: files, match: {{path: /*}}, to: [{{upstream: origin}}], upgrade: true, limits: [egress], timeouts: {{total: 60s}}}}]
",
        log.display()
    )
}

async fn owed(cluster: &Cluster) -> u64 {
    let mut sum = 0;
    for node in cluster.nodes.iter().filter(|node| node.is_running()) {
        let page = cluster.client.get(&node.admin("/metrics"), &[]).await.unwrap();
        let page = String::from_utf8_lossy(&page.body).into_owned();
        let owed = page.lines().find_map(|line| line.strip_prefix("tidegate_limit_owed_permits_total "));
        sum += owed.map_or(0, |owed| owed.parse::<f64>().unwrap() as u64);
    }
    sum
}

async fn asks(cluster: &Cluster, node: usize, path: &str) -> u16 {
    Client::new().get(&cluster.nodes[node].url(path), &[]).await.unwrap().status.as_u16()
}

/// No limit was exceeded, by the decision logs of all nodes; of one limit: what is owed.
async fn judged(cluster: &Cluster) -> u64 {
    let verdict = cluster.verify(&[]).await;
    let limit = &verdict["limits"][0];
    assert!(limit["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    limit["debt"].as_u64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_refused_while_a_long_download_uses_what_there_is_and_not_only_at_its_end() {
    let origin = slow().await;
    let cluster = Cluster::start(3).await;
    let limit = "window: 10m, max: 1000000, cost: {from: response_bytes, estimate: 20000}";
    cluster.apply(&document(&cluster, origin, limit)).await;
    assert_eq!(asks(&cluster, 1, "/1000/100000").await, 200);
    let mut long = download(&cluster, 0, "/2500000/500000", "connection: close\r\n").await;
    long.has(300_000).await;
    assert_eq!(asks(&cluster, 2, "/1000/100000").await, 200, "most of it is free");
    long.has(1_250_000).await;
    for node in 0..3 {
        assert_eq!(asks(&cluster, node, "/1000/100000").await, 429, "node {node}: all of it is in use");
    }
    let told = cluster.cli(&["quota", "get", "egress"]).await.expect("a counter");
    assert!(told["spent"].as_u64().unwrap() > 700_000, "it is spent as it is used: {told}");
    assert!(!long.is_over());
    let (head, _) = long.ends().await;
    assert!(
        head.starts_with("HTTP/1.1 200") && long.got() == 2_500_000,
        "it goes on to its end: {head} {}",
        long.got()
    );
    // Beyond the million are what it sent, and twice a thousand of the others.
    eventually("the rest is owed", Duration::from_secs(5), async || owed(&cluster).await > 0).await;
    let owes = owed(&cluster).await;
    assert!((1_502_000..=1_560_000).contains(&owes), "{owes}");
    assert_eq!(judged(&cluster).await, owes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_up_pays_for_what_was_sent_and_the_rest_is_there_for_others() {
    let origin = slow().await;
    let cluster = Cluster::start(3).await;
    let limit = "budget: {tokens: 4000000, per: total}, cost: {from: response_bytes, estimate: 20000}";
    cluster.apply(&document(&cluster, origin, limit)).await;
    let long = download(&cluster, 0, "/50000000/500000", "").await;
    long.has(800_000).await;
    drop(long);
    // As much as is left, at once, on another node: all of it is met.
    let mut next = download(&cluster, 1, "/2500000/1500000", "connection: close\r\n").await;
    next.ends().await;
    assert_eq!((next.got(), owed(&cluster).await), (2_500_000, 0));
    // What lies in buffers between us and him was sent. It is told a moment after its end.
    eventually("all that was sent is counted", Duration::from_secs(5), async || {
        let told = cluster.cli(&["quota", "get", "egress"]).await.expect("a counter");
        (3_300_000..4_000_000).contains(&told["spent"].as_u64().unwrap())
    })
    .await;
    assert_eq!(judged(&cluster).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_says_so_cuts_what_comes_beyond_it_and_never_ends_it_cleanly() {
    let origin = slow().await;
    let cluster = Cluster::start(3).await;
    let limit = "budget: {tokens: 1000000, per: total}, cost: {from: response_bytes, estimate: 20000, beyond: cut}";
    cluster.apply(&document(&cluster, origin, limit)).await;
    let mut sized = download(&cluster, 0, "/450000/900000", "connection: close\r\n").await;
    sized.ends().await;
    assert_eq!(sized.got(), 450_000, "what is there is served whole");
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGVzdHRlc3R0ZXN0dGVzdA==\r\n";
    let mut socket = download(&cluster, 1, "/socket/300000", upgrade).await;
    socket.has(150_000).await;
    let mut chunked = download(&cluster, 2, "/3000000/600000/chunked", "").await;
    let (head, last) = chunked.ends().await;
    let (switched, _) = socket.ends().await;
    assert!(switched.starts_with("HTTP/1.1 101"), "{switched}");
    assert!(head.contains("transfer-encoding: chunked") && !last.ends_with(b"0\r\n\r\n"), "{head} {last:?}");
    // With the framing of its chunks.
    let sum = 450_000 + socket.got() + chunked.got();
    assert!((930_000..=1_010_000).contains(&sum), "{sum}: the last permits may lie on another node");
    let mut late = download(&cluster, 0, "/3000000/600000", "connection: close\r\n").await;
    let (head, _) = late.ends().await;
    assert!(head.starts_with("HTTP/1.1 429") || late.got() < 70_000, "{head} {}", late.got());
    assert_eq!((owed(&cluster).await, judged(&cluster).await), (0, 0));
    let log = std::fs::read_to_string(cluster.nodes[0].folder.join("access.log")).unwrap();
    let cut = log.lines().filter(|line| line.contains("\"cut\":\"limit\"")).count();
    assert!(cut >= 2, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_downloads_at_once_use_a_window_to_the_last_and_a_node_that_is_killed_among_them_breaks_nothing() {
    let origin = slow().await;
    let mut cluster = Cluster::start(3).await;
    let limit = "window: 2s, max: 2000000, cost: {from: response_bytes, estimate: 5000, beyond: cut}";
    cluster.apply(&document(&cluster, origin, limit)).await;
    let mut all = Vec::new();
    for n in 0..150 {
        all.push(download(&cluster, n % 3, "/400000/100000", "connection: close\r\n").await);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let leader = cluster.leader("quota").await;
    cluster.nodes[leader].kill().await;
    for download in &mut all {
        download.ends().await;
    }
    let sum: u64 = all.iter().map(Download::got).sum();
    assert!(sum > 1_500_000, "{sum}");
    assert_eq!(judged(&cluster).await, 0);
}
