//! A thousand clients want the same thing at the same instant and nobody has it: how often is the origin asked?
//!
//! The clients are spread evenly over three nodes, their connections are open already. The origin takes 200 ms.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::origin::Origin;
use super::redis::Redis;
use super::report::Section;
use super::{Site, document};
use crate::http;
use crate::matrix::report::millis;
use crate::node::{Cluster, Manner};

const CLIENTS: usize = 1_000;
const NODES: usize = 3;
const BYTES: usize = 1 << 10;
const SLOW: Duration = Duration::from_millis(200);

struct Herd {
    /// Of the origin, in each round.
    asked: Vec<u64>,
    /// Of all clients of all rounds, sorted.
    took: Vec<Duration>,
}

pub(super) fn measure(site: &Site<'_>) -> Result<Section> {
    let rounds = if site.quick { 5 } else { 20 };
    let how = format!(
        "{CLIENTS} clients ask {NODES} nodes for the same cold key at once, {rounds} times; the origin takes {} ms. Latencies \
         of the clients from the instant all are let go.",
        SLOW.as_millis()
    );
    let columns: &[&str] = &["", "origin requests, median", "most", "p50 ms", "p99 ms", "slowest ms"];
    let mut section = Section::new("A thundering herd", how, columns);
    for shared in [true, false] {
        let name = if shared { "with Redis" } else { "without Redis" };
        eprintln!("  {name}");
        let redis = if shared { Some(Redis::start(site.folder)?) } else { None };
        let herd = run(site, redis.as_ref(), rounds)?;
        let mut asked = herd.asked.clone();
        asked.sort_unstable();
        let at = |share: usize| millis(herd.took[(herd.took.len() * share / 100).min(herd.took.len() - 1)]);
        let (middle, most) = (asked[asked.len() / 2], asked[asked.len() - 1]);
        let ms = |time: f64| format!("{time:.0}");
        section.row(
            vec![name.to_owned(), middle.to_string(), most.to_string(), ms(at(50)), ms(at(99)), ms(at(100))],
            json!({
                "redis": shared, "origin_requests": herd.asked,
                "p50_ms": at(50), "p99_ms": at(99), "slowest_ms": at(100),
            }),
        );
    }
    Ok(section)
}

fn run(site: &Site<'_>, redis: Option<&Redis>, rounds: usize) -> Result<Herd> {
    let origin = Origin::start()?;
    let manner = Manner { more: redis.map(Redis::arguments).unwrap_or_default(), ..Manner::default() };
    let cluster = Cluster::start(site.binary, site.folder, NODES, manner)?;
    cluster.apply(&document(&origin.address.to_string(), json!({}), json!({"cache": {}})))?;
    let nodes: Vec<SocketAddr> = cluster.nodes.iter().map(|node| node.http).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for nth in 0..CLIENTS {
            let mut client = Client::connect(nodes[nth % NODES]).await?;
            client.get("/1024/warm").await?;
            clients.push(client);
        }
        origin.set_delay(SLOW);
        let mut herd = Herd { asked: Vec::new(), took: Vec::new() };
        for round in 0..rounds {
            let before = origin.asked();
            clients = stampede(clients, &format!("/{BYTES}/cold-{round}"), &mut herd.took).await?;
            herd.asked.push(origin.asked() - before);
        }
        herd.took.sort_unstable();
        Ok(herd)
    })
}

/// All at once; returns when all have their answers.
async fn stampede(clients: Vec<Client>, path: &str, took: &mut Vec<Duration>) -> Result<Vec<Client>> {
    let barrier = Arc::new(Barrier::new(clients.len() + 1));
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let (barrier, path) = (Arc::clone(&barrier), path.to_owned());
        tasks.spawn(async move {
            barrier.wait().await;
            client.get(&path).await.map(|()| (client, Instant::now()))
        });
    }
    barrier.wait().await;
    let began = Instant::now();
    let mut back = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (client, ended) = done??;
        took.push(ended.saturating_duration_since(began));
        back.push(client);
    }
    Ok(back)
}

/// A kept-alive connection that wants 200 and so many bytes.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    async fn get(&mut self, path: &str) -> Result<()> {
        let request = http::get_request("herd.test", path, &[]);
        let exchange = async {
            self.stream.write_all(&request).await?;
            self.buffer.clear();
            while !self.is_whole()? {
                ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
            }
            Ok(())
        };
        tokio::time::timeout(Duration::from_secs(20), exchange).await.context("no answer in 20 s")?
    }

    fn is_whole(&self) -> Result<bool> {
        let Some(head) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
        let fine = self.buffer.starts_with(b"HTTP/1.1 200 ");
        ensure!(fine, "the answer was {}", String::from_utf8_lossy(&self.buffer[..head.min(40)]));
        Ok(self.buffer.len() >= head + 4 + BYTES)
    }
}
