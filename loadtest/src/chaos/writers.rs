//! Operators on all nodes at once: keys are created, plans of keys set and read, the document replaced if it is still the one that was
//! seen. Each operation goes into a history, with the times between which it happened, if it did.
//!
//! A key is a register (its plan). Each lives for some seconds only, so that each history is short enough to be judged.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::admin::{self, Question, Said};
use super::dice::Dice;
use super::document;
use super::linear::{Event, Judged, judge};
use super::models::{Cas, Document, Read, Register};

const CLIENTS: usize = 5;
/// Registers at a time.
const AT_A_TIME: usize = 3;
/// A register's life.
const LIFE: Duration = Duration::from_secs(12);
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(120);

type Histories = BTreeMap<u64, Vec<Event<Register>>>;

/// What was done, and what was acknowledged.
#[derive(Default)]
pub(super) struct Done {
    pub(super) registers: Histories,
    pub(super) document: Vec<Event<Document>>,
    /// Acknowledged: keys by id, with their names.
    pub(super) keys: BTreeMap<u64, String>,
    /// Acknowledged: revisions, with what was written.
    pub(super) revisions: BTreeMap<u64, u64>,
    pub(super) unknown: u64,
    /// Answers that nobody should get, by what was asked.
    pub(super) strange: Vec<String>,
}

pub(super) struct Writers {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    began: Instant,
    token: String,
    nodes: usize,
    document: document::Terms,
    done: Mutex<Done>,
    next: AtomicU64,
    /// The registers in use, and since when.
    current: Mutex<(Option<Instant>, Vec<u64>)>,
    stop: AtomicBool,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().expect("no panic while locked")
    }

    fn ask(&self, at: usize, question: &Question<'_>) -> Said {
        admin::ask(at, &self.token, question, PATIENCE)
    }

    /// An answer other than those that are expected: `None` if it says that nothing was done.
    fn otherwise(&self, what: &str, status: u16, body: &Value) -> Option<()> {
        if (400..500).contains(&status) && status != 408 {
            let mut done = self.done();
            if done.strange.len() < 20 {
                done.strange.push(format!("{what}: {status} {body}"));
            }
            return None;
        }
        Some(())
    }
}

impl Writers {
    pub(super) fn start(token: &str, nodes: usize, document: document::Terms, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            token: token.to_owned(),
            nodes,
            document,
            done: Mutex::default(),
            next: AtomicU64::new(1),
            current: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let client = |nth: usize| {
            let (shared, dice) =
                (shared.clone(), Dice::new(seed ^ (nth as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03)));
            thread::spawn(move || client(&shared, nth, dice))
        };
        Self { clients: (0..CLIENTS).map(client).collect(), shared }
    }

    pub(super) fn operations(&self) -> usize {
        let done = self.shared.done();
        done.document.len() + done.registers.values().map(Vec::len).sum::<usize>()
    }

    /// Everybody reads once more, at every node, when all is well again.
    pub(super) fn finish(self) -> Done {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().expect("no client panics"));
        let shared = self.shared;
        let registers: Vec<u64> = shared.done().registers.keys().copied().collect();
        for at in 0..shared.nodes {
            registers.iter().for_each(|id| get(&shared, at, *id));
            read_document(&shared, at);
        }
        std::mem::take(&mut *shared.done())
    }
}

fn client(shared: &Shared, nth: usize, mut dice: Dice) {
    while !shared.stop.load(Ordering::Relaxed) {
        let at = dice.below(shared.nodes);
        if nth == 0 && dice.below(3) == 0 {
            publish(shared, at);
        } else if dice.below(20) == 0 {
            read_document(shared, at);
        } else if let Some(id) = register(shared, at, &mut dice) {
            if dice.below(2) == 0 { set(shared, at, id) } else { get(shared, at, id) }
        }
        thread::sleep(PAUSE);
    }
}

/// One that is in use, or a new one in place of all that are old.
fn register(shared: &Shared, at: usize, dice: &mut Dice) -> Option<u64> {
    let mut current = shared.current.lock().expect("no panic while locked");
    if current.0.is_none_or(|since| since.elapsed() > LIFE) {
        *current = (Some(Instant::now()), Vec::new());
    }
    if current.1.len() < AT_A_TIME {
        drop(current); // Others go on meanwhile.
        let name = format!("r{}", shared.next.fetch_add(1, Ordering::Relaxed));
        let body = json!({"consumer": "registers", "name": name}).to_string();
        let question = Question { method: "POST", path: "/v1/keys", headers: "", body: &body };
        if let Said::Answer(201, key) = shared.ask(at, &question) {
            let id = key["id"].as_u64()?;
            shared.done().keys.insert(id, name);
            let mut current = shared.current.lock().expect("no panic while locked");
            if current.1.len() < AT_A_TIME {
                current.1.push(id);
            }
        }
        return None;
    }
    Some(dice.of(&current.1))
}

fn set(shared: &Shared, at: usize, id: u64) {
    // Each value at most once: who read it read this one.
    let value = {
        let mut done = shared.done();
        let history = done.registers.entry(id).or_default();
        let value = history.iter().filter(|event| matches!(event.operation, Register::Set(_))).count() as u64 + 1;
        if document::PLANS < value {
            return;
        }
        history.push(Event { called: shared.now(), returned: None, operation: Register::Set(value) });
        value
    };
    let body = json!({"plan": format!("p{value}")}).to_string();
    let said =
        shared.ask(at, &Question { method: "POST", path: &format!("/v1/keys/{id}/plan"), headers: "", body: &body });
    let returned = shared.now();
    let certain = match &said {
        Said::Answer(200, _) => Some(Some(returned)),
        Said::Answer(status, body) => shared.otherwise("set", *status, body).map(|()| None),
        Said::Unknown => Some(None),
        Said::NotAsked => None,
    };
    let mut done = shared.done();
    done.unknown += u64::from(certain == Some(None));
    let history = done.registers.entry(id).or_default();
    let own = history.iter().position(|event| event.operation == Register::Set(value)).expect("it was written down");
    match certain {
        Some(returned) => history[own].returned = returned,
        // Kept as a number that was used, in a place where it changes nothing.
        None => history[own] = Event { called: u64::MAX, returned: None, operation: Register::Set(value) },
    }
}

fn get(shared: &Shared, at: usize, id: u64) {
    let called = shared.now();
    let path = format!("/v1/keys?after={}&limit=1", id - 1);
    if let Said::Answer(200, body) = shared.ask(at, &Question::get(&path)) {
        let key = &body["keys"][0];
        let plan = key["plan"].as_str().map_or(Some(0), |plan| plan.strip_prefix('p')?.parse().ok());
        let returned = Some(shared.now());
        // A key that is not there has no plan that was ever set.
        let saw = if key["id"].as_u64() == Some(id) { plan.unwrap_or(u64::MAX) } else { u64::MAX };
        let event = Event { called, returned, operation: Register::Get(saw) };
        shared.done().registers.entry(id).or_default().push(event);
    }
}

fn read_document(shared: &Shared, at: usize) -> Option<Read> {
    let called = shared.now();
    let Said::Answer(200, body) = shared.ask(at, &Question::get("/v1/document")) else { return None };
    let read = Read { revision: body["revision"].as_u64()?, text: document::written(body["text"].as_str()?) };
    let returned = Some(shared.now());
    shared.done().document.push(Event { called, returned, operation: Document::Get(read) });
    Some(read)
}

fn publish(shared: &Shared, at: usize) {
    let Some(Read { revision, .. }) = read_document(shared, at) else { return };
    let text = shared.next.fetch_add(1, Ordering::Relaxed) + 1_000_000;
    let body = shared.document.text(text);
    let headers = format!("if-match: \"{revision}\"\r\n");
    let called = shared.now();
    let path = format!("/v1/document?note=w{text}");
    let said = shared.ask(at, &Question { method: "PUT", path: &path, headers: &headers, body: &body });
    let (was, returned) = match &said {
        Said::Answer(200, _) => (Cas::Done, Some(shared.now())),
        Said::Answer(412, _) => (Cas::Refused, Some(shared.now())),
        Said::Answer(status, body) => match shared.otherwise("publish", *status, body) {
            Some(()) => (Cas::Unknown, None),
            None => return,
        },
        Said::Unknown => (Cas::Unknown, None),
        Said::NotAsked => return,
    };
    let mut done = shared.done();
    done.unknown += u64::from(was == Cas::Unknown);
    if was == Cas::Done {
        done.revisions.insert(revision + 1, text);
    }
    done.document.push(Event { called, returned, operation: Document::Cas { expects: revision, text, was } });
}

impl Done {
    /// Histories that have no order, and those that were too long to tell.
    pub(super) fn illegal(&self, first: Read) -> (Vec<String>, Vec<String>) {
        let registers = self
            .registers
            .iter()
            .map(|(id, history)| (format!("the plan of key {id}"), judge::<Register>(&seen_then_done(history))));
        let begin = Document::Cas { expects: 0, text: first.text, was: Cas::Done };
        let mut document = vec![Event { called: 0, returned: Some(0), operation: begin }];
        document.extend(published(&self.document));
        let all: Vec<_> = registers.chain([("the document".to_owned(), judge::<Document>(&document))]).collect();
        let those = |wanted: Judged| all.iter().filter(|it| it.1 == wanted).map(|it| it.0.clone()).collect();
        (those(Judged::Illegal), those(Judged::Undecided))
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let mut text = String::new();
        for (id, history) in &self.registers {
            writeln!(text, "the plan of key {id}")?;
            history.iter().try_for_each(|event| writeln!(text, "  {event:?}"))?;
        }
        writeln!(text, "the document")?;
        self.document.iter().try_for_each(|event| writeln!(text, "  {event:?}"))?;
        Ok(fs::write(folder.join("histories.txt"), text)?)
    }
}

/// An unknown write that somebody saw had happened by then; one that nobody saw need not have happened.
fn seen_then_done(history: &[Event<Register>]) -> Vec<Event<Register>> {
    let seen = |value: u64| {
        let saw = history.iter().filter(|event| event.operation == Register::Get(value));
        saw.filter_map(|event| event.returned).min()
    };
    let settle = |event: &Event<Register>| match (event.operation, event.returned) {
        (Register::Set(value), None) => Some(Event { returned: Some(seen(value)?), ..event.clone() }),
        _ => Some(event.clone()),
    };
    history.iter().filter_map(settle).collect()
}

/// The same for publications: one that nobody saw may have happened.
fn published(history: &[Event<Document>]) -> Vec<Event<Document>> {
    let seen = |wanted: u64| {
        let saw = history.iter().filter(|event| matches!(&event.operation, Document::Get(read) if read.text == wanted));
        saw.filter_map(|event| event.returned).min()
    };
    let settle = |event: &Event<Document>| {
        let mut event = event.clone();
        if let Document::Cas { text, was: Cas::Unknown, .. } = event.operation {
            event.returned = seen(text);
        }
        event
    };
    history.iter().map(settle).collect()
}
