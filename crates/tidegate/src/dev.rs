//! `tidegate dev`: a real cluster of child processes on this machine, with demo backends, a document and a key, for
//! trying out and for programs that test against one. Ends them all when it ends.

mod backend;
mod model;
mod node;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use self::node::Node;

/// How long the nodes may take to end by themselves.
const GRACE: Duration = Duration::from_millis(1_500);

/// Run a whole cluster on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=32))]
    nodes: u16,
    /// Keep the nodes' data here; default: a folder that is deleted at the end
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A document to publish instead of the demonstration's
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// Demonstrate language models: two providers that are none, streams, a fallback, a budget of tokens; needs no keys
    #[arg(long, conflicts_with = "document")]
    llm: bool,
    /// First port of the nodes' HTTP listeners; taken ones are replaced by free ones
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    port: u16,
}

/// Runs until a signal comes.
///
/// # Errors
/// A node did not start; its log says why.
pub(crate) fn run(args: &Args, json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let end = runtime.block_on(End::watch())?;
    let data = Data::open(args.data.as_deref())?;
    match whole(args, json, &runtime, &data, &end) {
        // Told to end before it was whole.
        Err(_) if end.has_come() => Ok(()),
        ended => ended,
    }
}

/// The cluster from its first node to its end.
fn whole(args: &Args, json: bool, runtime: &Runtime, data: &Data, end: &End) -> anyhow::Result<()> {
    let backends = runtime.block_on(async {
        match args.llm {
            false => (backend::start("a").await, backend::start("b").await),
            true => (model::start("moody", true).await, model::start("steady", false).await),
        }
    });
    let (a, b) = (backends.0?, backends.1?);
    let mut cluster = Cluster { nodes: Vec::new() };
    // Children are started by this thread, which lives as long as the process: they are told to end with it.
    cluster.nodes.push(Node::start(&data.path, 1, args.port, None, end)?);
    let first = &cluster.nodes[0];
    let token =
        std::fs::read_to_string(first.data.join("admin.token")).context("reading the first node's admin token")?;
    let token = token.trim().to_owned();
    let first_admin = first.admin.clone();
    if !json {
        crate::say(&words::starting(args.nodes, &data.path));
    }
    for id in 2..=args.nodes {
        let join: Value = node::ask(&["cluster", "token"], &first_admin, &token)?;
        let join = (cluster.nodes[0].peer.clone(), text(&join, "token")?);
        cluster.nodes.push(Node::start(&data.path, id, args.port, Some(join), end)?);
    }
    let key = publish(args, &data.path, [a, b], &first_admin, &token)?;
    if json {
        let nodes: Vec<_> = cluster.nodes.iter().map(Node::as_json).collect();
        let ready = json!({"nodes": nodes, "admin_token": token, "data": data.path, "key": key, "backends": [a, b]});
        crate::say(&ready.to_string());
    } else {
        crate::say(&words::ready(&cluster.nodes, &token, key.as_deref(), args.llm));
    }
    runtime.block_on(wait_for_the_end(&mut cluster, end));
    Ok(())
}

/// The demonstration's document and a key for it, or the one that was given.
fn publish(
    args: &Args,
    data: &Path,
    backends: [std::net::SocketAddr; 2],
    admin: &str,
    token: &str,
) -> anyhow::Result<Option<String>> {
    let path = match &args.document {
        Some(path) => path.clone(),
        None => {
            let path = data.join("demo.yaml");
            let text = if args.llm { words::models(backends) } else { words::document(backends) };
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            path
        }
    };
    let path = path.to_str().context("the document's path is not UTF-8")?;
    node::ask(&["apply", path, "--wait"], admin, token)?;
    if args.document.is_some() {
        return Ok(None);
    }
    let key = node::ask(&["key", "create", "demo"], admin, token)?;
    Ok(Some(text(&key, "secret").or_else(|_| text(&key, "key"))?))
}

fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    value.get(field).and_then(Value::as_str).map(str::to_owned).with_context(|| format!("no {field} in {value}"))
}

async fn wait_for_the_end(cluster: &mut Cluster, end: &End) {
    let mut look = tokio::time::interval(Duration::from_millis(100));
    while !end.has_come() {
        look.tick().await;
        cluster.nodes.iter_mut().for_each(Node::report_if_ended);
    }
}

/// Whether a signal told us to end. Watched from the start, so that nothing is left behind by one that comes early.
#[derive(Debug, Clone)]
struct End(Arc<AtomicBool>);

impl End {
    async fn watch() -> anyhow::Result<Self> {
        let end = Self(Arc::default());
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let (mut came, end) = (signal(kind)?, end.clone());
            tokio::spawn(async move {
                came.recv().await;
                end.0.store(true, Ordering::Relaxed);
            });
        }
        Ok(end)
    }

    fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ends its nodes when dropped, however that comes about.
struct Cluster {
    nodes: Vec<Node>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.ask_to_end();
        }
        // Told all at once they cannot hand over to each other; what they agreed on is on their disks.
        let patience = Instant::now() + GRACE;
        for node in &mut self.nodes {
            node.wait_or_kill(patience);
        }
    }
}

struct Data {
    path: PathBuf,
    temporary: bool,
}

impl Data {
    fn open(given: Option<&Path>) -> anyhow::Result<Self> {
        let temporary = given.is_none();
        let path = match given {
            Some(path) => std::path::absolute(path)?,
            None => std::env::temp_dir().join(format!("tidegate-dev-{}", std::process::id())),
        };
        std::fs::create_dir_all(&path).with_context(|| format!("making the folder {}", path.display()))?;
        Ok(Self { path, temporary })
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if self.temporary {
            let _left_behind = std::fs::remove_dir_all(&self.path);
        }
    }
}
