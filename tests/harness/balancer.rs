//! A real HAProxy before the nodes, as `deploy/haproxy.cfg` has it: it asks `/readyz`, and gives requests that no node has begun on
//! to another one.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::node::Ready;
use super::{Client, eventually};

pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    _child: Child,
}

impl Balancer {
    pub(crate) async fn start(folder: &Path, nodes: &[&Ready]) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut text = format!(
            "\
global
    maxconn 2000
defaults
    mode http
    timeout connect 1s
    timeout check 2s
    timeout client 60s
    timeout server 60s
    http-reuse safe
frontend gate
    bind {address}
    default_backend nodes
backend nodes
    balance leastconn
    option httpchk GET /readyz
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response
    default-server inter 50ms fastinter 20ms downinter 50ms rise 1 fall 2
"
        );
        for node in nodes {
            writeln!(text, "    server n{} {} check port {}", node.id, node.http, node.admin.port()).unwrap();
        }
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.kill_on_drop(true).spawn().expect("haproxy: Debian's package haproxy has it");
        let balancer = Self { address, _child: child };
        let (client, url) = (Client::new(), balancer.url("/open/x"));
        eventually("the balancer found a node", Duration::from_secs(20), async || {
            client.get(&url, &[]).await.is_ok_and(|answer| answer.status != 503)
        })
        .await;
        balancer
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
