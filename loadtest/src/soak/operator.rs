//! The operator: a new document each second, and purges by URL, prefix and tag, through each node in turn, by the admin API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::crowd::World;
use super::document::{Places, TAG, document};
use super::line::HOST;
use super::listed::Kind;
use super::part::Part;
use crate::http::Connection;

const EVERY: Duration = Duration::from_secs(1);
/// Longer than the cluster itself waits for a node.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stops when told, or when dropped.
pub(super) struct Operator {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    world: Arc<World>,
    nodes: Vec<(String, SocketAddr)>,
    token: String,
    places: Places,
    only: Vec<Part>,
    documents: AtomicUsize,
    purges: AtomicUsize,
    stop: AtomicBool,
}

impl Operator {
    /// `nodes`: names and admin ports.
    pub(super) fn start(
        world: &Arc<World>,
        nodes: Vec<(String, SocketAddr)>,
        token: &str,
        places: &Places,
        only: &[Part],
    ) -> Self {
        let shared = Arc::new(Shared {
            world: Arc::clone(world),
            nodes,
            token: token.to_owned(),
            places: places.clone(),
            only: only.to_vec(),
            documents: AtomicUsize::new(0),
            purges: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let works = Arc::clone(&shared);
        Self { shared, thread: Some(thread::spawn(move || works.work())) }
    }

    pub(super) fn documents(&self) -> usize {
        self.shared.documents.load(Relaxed)
    }

    pub(super) fn purges(&self) -> usize {
        self.shared.purges.load(Relaxed)
    }

    /// Waits for what is under way.
    pub(super) fn stop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn work(&self) {
        let mut due = Instant::now();
        for nth in 1.. {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due = (due + EVERY).max(Instant::now() - EVERY);
            if self.stop.load(Relaxed) {
                return;
            }
            let document = document(nth, &self.places);
            if Part::Documents.is_among(&self.only) && self.ask(Kind::Documents, nth, "PUT", "/v1/document", &document)
            {
                self.documents.fetch_add(1, Relaxed);
            }
            let purge = match nth % 3 {
                0 => json!({"tags": [TAG]}),
                1 => json!({"urls": [format!("http://{HOST}/kept/{}", nth % 240)]}),
                _ => json!({"prefixes": [format!("{HOST}/kept/{}", nth % 10)]}),
            };
            if Part::Purges.is_among(&self.only) && self.ask(Kind::Purges, nth, "POST", "/v1/cache/purge", &purge) {
                self.purges.fetch_add(1, Relaxed);
            }
        }
    }

    /// Notes what came of it; did it go well?
    fn ask(&self, kind: Kind, nth: usize, method: &str, path: &str, body: &Value) -> bool {
        let (name, admin) = &self.nodes[nth % self.nodes.len()];
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {admin}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        let began = Instant::now();
        let answer =
            Connection::open(*admin, PATIENCE).map_err(Into::into).and_then(|mut to| to.exchange(request.as_bytes()));
        let (outcome, detail) = match answer {
            Err(broken) => ("cut".to_owned(), broken.why.to_string()),
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                match text.contains("\"complete\":false") {
                    true => (format!("{} incomplete", answer.status), text),
                    false => (answer.status.to_string(), text),
                }
            }
        };
        let whole = outcome == "200";
        self.world.tally.note(kind, name, &outcome, || {
            format!("{method} {path}, after {} ms: {detail}", began.elapsed().as_millis())
        });
        whole
    }
}
