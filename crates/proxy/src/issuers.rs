//! The issuers of tokens as this node knows them: their keys, and tokens seen lately. `tidegate` tells of new documents and
//! fetches keys; requests look, and wait for a fetch that is under way, for a while.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tidegate_auth::token::{Invalid, Memo, Ring, RingFacts, Token, Unproven};
use tidegate_policy::{Issuer, Keys};
use tokio::sync::Notify;

/// So long a request waits for keys that are being fetched.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many wait for one issuer; others are refused at once.
const MOST_WAITING: usize = 256;

/// Concurrent: a request takes no lock but one of sixteen of the memo's.
#[derive(Debug, Default)]
pub struct Issuers {
    rings: papaya::HashMap<Arc<str>, Arc<Line>>,
    memo: Memo,
}

/// What is known of one issuer's keys, and who waits for more.
#[derive(Debug)]
pub struct Line {
    pub ring: Ring,
    /// A token names a key that is not known.
    asked: Notify,
    done: Notify,
    /// Somebody was told that a fetch is under way.
    wanted: AtomicBool,
    waiting: AtomicUsize,
}

/// For metrics and people.
#[derive(Debug, Clone)]
pub struct IssuerFacts {
    pub name: Arc<str>,
    /// Are its keys fetched, and not the document's own?
    pub fetched: bool,
    /// May its keys be used now?
    pub usable: bool,
    pub ring: RingFacts,
}

/// What became of a token.
pub(crate) enum Proof {
    Good(Arc<Token>),
    Bad(Invalid),
    /// Keys are on their way: ask again when this ends.
    Soon(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Issuers {
    /// These, and no others; keys stay known where their source stays. Returns those to fetch keys for.
    ///
    /// # Errors
    /// A document's own keys cannot be used; nothing has changed then.
    pub fn follow(&self, issuers: &[Arc<Issuer>]) -> Result<Vec<Arc<Line>>, String> {
        let map = self.rings.pin();
        let mut lines = Vec::new();
        for issuer in issuers {
            let known = map.get(&issuer.name).filter(|line| line.ring.source == issuer.keys).map(Arc::clone);
            let line = match known {
                Some(line) => line,
                None => {
                    let ring =
                        Ring::new(&issuer.keys).map_err(|why| format!("issuer `{}`: its keys: {why}", issuer.name))?;
                    let (asked, done, wanted) = (Notify::new(), Notify::new(), AtomicBool::new(false));
                    Arc::new(Line { ring, asked, done, wanted, waiting: AtomicUsize::new(0) })
                }
            };
            lines.push((Arc::clone(&issuer.name), line));
        }
        map.retain(|name, _| lines.iter().any(|(known, _)| known == name));
        for (name, line) in &lines {
            map.insert(Arc::clone(name), Arc::clone(line));
        }
        // What is remembered is of the document before.
        self.memo.clear();
        let fetched = lines.into_iter().map(|(_, line)| line).filter(|line| line.is_fetched());
        Ok(fetched.collect())
    }

    #[must_use]
    pub fn facts(&self) -> Vec<IssuerFacts> {
        let now = boot_millis();
        let facts = |(name, line): (&Arc<str>, &Arc<Line>)| IssuerFacts {
            name: Arc::clone(name),
            fetched: line.is_fetched(),
            usable: line.ring.keys(now).is_some(),
            ring: line.ring.facts(now),
        };
        let mut all: Vec<_> = self.rings.pin().iter().map(facts).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Tokens remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.memo.len()
    }

    /// By the first of `issuers` that takes it. `last`: nobody waits any more.
    pub(crate) fn prove<'i>(&self, text: &str, issuers: impl Iterator<Item = &'i Arc<Issuer>>, last: bool) -> Proof {
        let (now, seconds) = (boot_millis(), tidegate_clock::wall().0 / 1_000_000_000);
        let map = self.rings.pin();
        let mut worst = Invalid::Issuer;
        for issuer in issuers {
            let line = map.get(&issuer.name).filter(|line| line.is_of(&issuer.keys));
            // Before the keys: a fetch that ends from here on is one that was waited for.
            let rounds = line.map_or(0, |line| line.ring.rounds());
            let known = line.and_then(|line| Some((line, line.ring.keys(now)?)));
            if let Some((_, keys)) = &known
                && let Some(token) = self.memo.find(text, issuer, keys.1, seconds)
            {
                return Proof::Good(token);
            }
            let unproven = match Unproven::read(text) {
                Ok(unproven) => unproven,
                Err(why) => return Proof::Bad(why),
            };
            if !unproven.is_of(issuer) {
                continue;
            }
            worst = match known {
                None => Invalid::NoKeys,
                Some((_, keys)) => match unproven.prove(issuer, &keys.0, seconds) {
                    Ok(token) => {
                        let token = Arc::new(token);
                        self.memo.keep(text, &token, keys.1);
                        return Proof::Good(token);
                    }
                    Err(why) => why,
                },
            };
            if let (Some(line), Invalid::NoKeys | Invalid::UnknownKey, false) = (line, &worst, last)
                && let Some(soon) = Line::wait(line, now, rounds)
            {
                return Proof::Soon(soon);
            }
        }
        Proof::Bad(worst)
    }
}

impl Line {
    fn is_fetched(&self) -> bool {
        matches!(*self.ring.source, Keys::Url { .. })
    }

    /// A request may see a document that is not, or no longer, the newest.
    fn is_of(&self, keys: &Arc<Keys>) -> bool {
        Arc::ptr_eq(&self.ring.source, keys) || self.ring.source == *keys
    }

    /// Has the keys fetched, and ends when they are. `None`: that was done often enough, or too many wait.
    #[cold]
    fn wait(line: &Arc<Self>, now: u64, rounds: u64) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        if !line.is_fetched() {
            return None;
        }
        let waiting = Waiting::of(line)?;
        // Whoever comes while others wait waits for the same fetch; and one may just have ended.
        if line.ring.rounds() == rounds && !line.wanted.load(Ordering::Acquire) {
            if !line.ring.may_fetch(now) {
                return None;
            }
            line.wanted.store(true, Ordering::Release);
            line.asked.notify_one();
        }
        Some(Box::pin(async move {
            let line = &waiting.line;
            let done = async {
                loop {
                    let mut done = std::pin::pin!(line.done.notified());
                    done.as_mut().enable();
                    if line.ring.rounds() != rounds {
                        return;
                    }
                    done.await;
                }
            };
            let _in_vain = tokio::time::timeout(PATIENCE, done).await;
        }))
    }

    /// For who fetches: a fetch has ended.
    pub fn tell(&self) {
        self.wanted.store(false, Ordering::Release);
        self.done.notify_waiters();
    }

    /// For who fetches: somebody wants newer keys. Who asked while a fetch ran got what that one brought.
    pub async fn asked(&self) {
        loop {
            self.asked.notified().await;
            if self.wanted.load(Ordering::Acquire) {
                return;
            }
        }
    }
}

/// One who waits.
struct Waiting {
    line: Arc<Line>,
}

impl Waiting {
    fn of(line: &Arc<Line>) -> Option<Self> {
        let before = line.waiting.fetch_add(1, Ordering::AcqRel);
        let waiting = Self { line: Arc::clone(line) };
        (before < MOST_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.line.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

fn boot_millis() -> u64 {
    tidegate_clock::boot().0 / 1_000_000
}
