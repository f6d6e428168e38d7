//! What `tidegate dev` says, and the document it shows with.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::node::Node;

pub(super) fn starting(nodes: u16, data: &Path) -> String {
    let plural = if nodes == 1 { "node" } else { "nodes" };
    format!("starting {nodes} {plural}; data and logs in {}", data.display())
}

pub(super) fn document([a, b]: [SocketAddr; 2]) -> String {
    format!(
        "\
version: 1
consumers:
  - {{name: demo, plan: basic}}
plans:
  - {{name: basic, limits: [per-key]}}
limits:
  # Ten requests in any ten seconds for each key, whichever nodes they reach.
  - {{name: per-key, window: 10s, max: 10, per: [key]}}
upstreams:
  - name: echo
    endpoints: [{{url: \"http://{a}\"}}, {{url: \"http://{b}\"}}]
routes:
  - name: open
    match: {{path: /open/*}}
    to: [{{upstream: echo}}]
  - name: limited
    match: {{path: /limited/*}}
    to: [{{upstream: echo}}]
    auth: [key]
"
    )
}

pub(super) fn ready(nodes: &[Node], token: &str, key: Option<&str>) -> String {
    let mut text = String::from("\n  NODE  HTTP                    ADMIN\n");
    for node in nodes {
        let _infallible = writeln!(text, "  {:<4}  http://{:<16}  http://{}", node.id, node.http, node.admin);
    }
    let (one, last) = (&nodes[0], &nodes[nodes.len() - 1]);
    let _infallible = writeln!(text, "\nTry it:\n  curl -i http://{}/open/hello", one.http);
    if let Some(key) = key {
        let (a, b) = (&one.http, &last.http);
        let _infallible = writeln!(
            text,
            "\n  # ten requests in any ten seconds, counted once over all nodes\n  \
             for i in $(seq 8); do for node in {a} {b}; do\n    \
             curl -s -o /dev/null -w '%{{http_code}} ' -H 'Authorization: Bearer {key}' http://$node/limited/hello\n  \
             done; done; echo"
        );
    }
    let _infallible = writeln!(
        text,
        "\n  export TIDEGATE_ADMIN=http://{} TIDEGATE_TOKEN={token}\n  tidegate cluster status\n  tidegate get",
        one.admin
    );
    text.push_str("\nCtrl-C stops everything.");
    text
}
