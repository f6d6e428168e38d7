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

pub(super) fn models([moody, steady]: [SocketAddr; 2]) -> String {
    format!(
        "\
version: 1
consumers:
  - {{name: demo}}
providers:
  # Says 429 to every second call.
  - {{name: moody, kind: openai_compatible, url: \"http://{moody}\"}}
  - {{name: steady, kind: openai_compatible, url: \"http://{steady}\"}}
models:
  - name: demo
    deployments: [{{provider: moody, priority: 1}}, {{provider: steady}}]
    max_output: 200
limits:
  # Tokens in any minute for each key, whichever nodes its calls reach: reserved before a call, settled after it.
  - {{name: tokens, window: 1m, max: 1000, per: [key, model], cost: {{from: tokens}}}}
routes:
  - name: llm
    match: {{path: /*}}
    llm: {{models: [demo]}}
    auth: [key]
    limits: [tokens]
"
    )
}

/// What to try with models.
fn asks(key: &str, one: &str, last: &str) -> String {
    let call = |node: &str, path: &str, rest: &str| {
        let body = format!("{{\"model\":\"demo\",{rest}\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}");
        format!("curl -s -N http://{node}{path} -H 'x-api-key: {key}' -d '{body}'")
    };
    let whole = call(last, "/v1/chat/completions", "");
    format!(
        "  # word by word\n  {}\n\n  # the same model by Anthropic's API: `moody` says 429 to every second call, and `steady` answers instead\n  \
         for i in 1 2; do {}; echo; done\n\n  \
         # a budget of 1000 tokens a minute, counted once over all nodes: 200 until it is spent, then 429\n  \
         for i in $(seq 30); do {whole} -o /dev/null -w '%{{http_code}} '; done; echo\n\n  \
         # what a refusal says, and when it is over\n  {whole} -i; echo\n\n  \
         # any OpenAI SDK: base_url=http://{one}/v1 api_key={key}",
        call(one, "/v1/chat/completions", "\"stream\":true,"),
        call(one, "/v1/messages", "\"max_tokens\":100,"),
    )
}

pub(super) fn ready(nodes: &[Node], token: &str, key: Option<&str>, llm: bool) -> String {
    let mut text = String::from("\n  NODE  HTTP                    ADMIN\n");
    for node in nodes {
        let _infallible = writeln!(text, "  {:<4}  http://{:<16}  http://{}", node.id, node.http, node.admin);
    }
    let (one, last) = (&nodes[0], &nodes[nodes.len() - 1]);
    match (key, llm) {
        (Some(key), true) => drop(writeln!(text, "\nTry it:\n{}", asks(key, &one.http, &last.http))),
        _ => drop(writeln!(text, "\nTry it:\n  curl -i http://{}/open/hello", one.http)),
    }
    if let (Some(key), false) = (key, llm) {
        let (a, b) = (&one.http, &last.http);
        let _infallible = writeln!(
            text,
            "\n  # ten requests in any ten seconds, counted once over all nodes\n  \
             for i in $(seq 8); do for node in {a} {b}; do\n    \
             curl -s -o /dev/null -w '%{{http_code}} ' -H 'Authorization: Bearer {key}' http://$node/limited/hello\n  \
             done; done; echo"
        );
    }
    let me = invoked();
    let _infallible = writeln!(
        text,
        "\n  # for operators\n  export TIDEGATE_ADMIN=http://{} TIDEGATE_TOKEN={token}\n  {me} cluster status\n  {me} get",
        one.admin
    );
    if llm {
        let _infallible = writeln!(text, "  {me} model ls\n  {me} usage    # a few seconds after the calls");
    }
    text.push_str("\nCtrl-C stops everything.");
    text
}

/// As whoever reads this called it: it need not be where shells look.
fn invoked() -> String {
    let name = std::env::args().next().unwrap_or_default();
    let is_path = name.contains('/') && !name.contains([' ', '\'']);
    if is_path { name } else { "tidegate".to_owned() }
}
