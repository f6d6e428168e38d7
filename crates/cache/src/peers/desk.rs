//! The owner's desk: who fetches which of his keys, and who waits for it. A turn whose holder says nothing for a second
//! goes to the next who asks. Kept within a bound; beyond it everybody fetches for himself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidegate_model::Millis;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use super::{Ask, Fill, LARGEST, Message, Outcome, Reply};
use crate::cache::Cache;
use crate::purge::Epoch;
use crate::remote::{codec, variant_of};
use crate::rules::control::RequestControl;
use crate::rules::key::UrlDigest;
use crate::rules::reuse::Reuse;
use crate::stored::Stored;

/// Turns at a time.
const TURNS: usize = 8_192;
/// Peers that wait here at a time.
const WAITERS: usize = 1_024;
/// A holder who is not heard of for so long is gone.
const LAPSE: Duration = Duration::from_secs(1);
/// The longest a peer may wait with one question.
const LONGEST: Duration = Duration::from_secs(5);
/// Longest message between nodes, with its envelope.
const MESSAGE: usize = (1 << 20) - 256;
/// Variants kept of a key, whatever a peer says.
const VARIANTS: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Desk {
    turns: Mutex<HashMap<Fill, Given, foldhash::fast::RandomState>>,
    waiters: Semaphore,
}

impl Default for Desk {
    fn default() -> Self {
        Self { turns: Mutex::default(), waiters: Semaphore::new(WAITERS) }
    }
}

/// A turn that was given.
#[derive(Debug)]
struct Given {
    token: u128,
    begun: Epoch,
    /// When its holder was last heard of. `None`: it is this node, which cannot die without us.
    heard: Option<Instant>,
    word: watch::Sender<Option<Word>>,
}

/// How it ended.
#[derive(Debug, Clone)]
enum Word {
    Stored(Bytes),
    Alone { all: bool },
}

enum Place {
    Yours,
    Wait(watch::Receiver<Option<Word>>),
    Full,
}

impl Given {
    fn is_over(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| heard + LAPSE <= now)
    }
}

impl Desk {
    fn turns(&self) -> MutexGuard<'_, HashMap<Fill, Given, foldhash::fast::RandomState>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, ask: &Ask, is_own: bool) -> Place {
        let now = Instant::now();
        let mut turns = self.turns();
        if let Some(given) = turns.get_mut(&ask.fill) {
            if given.token == ask.token {
                return Place::Yours;
            }
            if given.begun >= Epoch(ask.epoch) && !given.is_over(now) {
                return Place::Wait(given.word.subscribe());
            }
        } else if turns.len() >= TURNS {
            turns.retain(|_, given| !given.is_over(now));
            if turns.len() >= TURNS {
                return Place::Full;
            }
        }
        let heard = (!is_own).then_some(now);
        let word = watch::Sender::new(None);
        // Whoever waited for one that is over, or too old for this asker, looks again when its sender goes.
        turns.insert(ask.fill, Given { token: ask.token, begun: Epoch(ask.epoch), heard, word });
        Place::Yours
    }

    /// `false`: the turn is another's by now.
    fn still(&self, fill: &Fill, token: u128) -> bool {
        let mut turns = self.turns();
        let Some(given) = turns.get_mut(fill).filter(|given| given.token == token) else { return false };
        if let Some(heard) = &mut given.heard {
            *heard = Instant::now();
        }
        true
    }

    /// Ends a turn; `word` is for those who wait, if any do. `None`: the next may try.
    fn done(&self, fill: &Fill, token: u128, word: impl FnOnce() -> Option<Word>) {
        let given = {
            let mut turns = self.turns();
            if turns.get(fill).is_none_or(|given| given.token != token) {
                return;
            }
            turns.remove(fill)
        };
        let Some(given) = given.filter(|given| given.word.receiver_count() > 0) else { return };
        if let Some(word) = word() {
            given.word.send_replace(Some(word));
        }
    }
}

impl Cache {
    /// A peer says something. Answers at once, but for a question with patience.
    pub async fn heard(self: &Arc<Self>, from: u64, message: Message) -> Reply {
        let Some(fills) = self.fills().filter(|_| self.is_live()) else { return Reply::Away };
        match message {
            Message::Ask(ask) => self.asked(from, ask).await,
            Message::Still { fill, token } if fills.desk.still(&fill, token) => Reply::Heard,
            Message::Still { .. } => Reply::Away,
            Message::Done { fill, token, outcome } => {
                self.done(&fill, token, outcome);
                Reply::Heard
            }
            Message::Void(urls) => {
                for (url, at) in urls {
                    self.void_here(UrlDigest(url), Millis(at));
                }
                Reply::Heard
            }
        }
    }

    /// What is there for the asker: here, or with who fetches.
    pub(crate) async fn asked(self: &Arc<Self>, from: u64, ask: Ask) -> Reply {
        let Some(fills) = self.fills() else { return Reply::Away };
        let is_own = fills.is_me(from);
        let ends = Instant::now() + Duration::from_millis(ask.patience.into()).min(LONGEST);
        let mut _waits = None;
        loop {
            if self.flights.is_unshared(&ask.fill.key(), self.now()) {
                return Reply::Alone { all: true };
            }
            if let Some(reply) = self.offer(&ask) {
                return reply;
            }
            let mut word = match fills.desk.place(&ask, is_own) {
                Place::Yours => return Reply::Yours,
                Place::Full => return Reply::Alone { all: false },
                Place::Wait(word) => word,
            };
            if !is_own && _waits.is_none() {
                let Ok(waits) = fills.desk.waiters.try_acquire() else { return Reply::Alone { all: false } };
                _waits = Some(waits);
            }
            let now = Instant::now();
            if ends <= now {
                return Reply::Theirs;
            }
            // Looks up now and then whether the holder is heard of.
            let told = timeout_at(ends.min(now + LAPSE / 4), word.wait_for(Option::is_some)).await;
            if let Ok(Ok(word)) = told
                && let Some(word) = &*word
            {
                return match word {
                    Word::Stored(response) => Reply::Stored(response.clone()),
                    Word::Alone { all } => Reply::Alone { all: *all },
                };
            }
        }
    }

    /// What memory has for him. `None`: nothing.
    fn offer(&self, ask: &Ask) -> Option<Reply> {
        let key = ask.fill.key();
        let now = self.now();
        let all = self.memory().of_key(&key);
        let fresh = |stored: &Stored| stored.terms.reuse(&RequestControl::default(), now) == Reuse::Fresh;
        let fits = |stored: &Stored| stored.asked.0 > ask.after && variant_of(&stored.selector) == ask.fill.variant;
        let found = all.iter().rev().find(|stored| fits(stored) && fresh(stored) && self.still_holds(stored));
        match found {
            Some(stored) => Some(match packed(stored) {
                Some(response) => Reply::Stored(response),
                None => Reply::Alone { all: false },
            }),
            None if ask.fill.variant == 0 => {
                let newest = all.last().filter(|stored| !stored.selector.is_empty() && self.still_holds(stored))?;
                Some(Reply::Varies(newest.selector.fields().iter().map(|(name, _)| name.to_string()).collect()))
            }
            None => None,
        }
    }

    /// Whose turn it was is done: what he has is ours as well, before those hear of it who wait.
    pub(crate) fn done(&self, fill: &Fill, token: u128, outcome: Outcome) {
        let Some(fills) = self.fills() else { return };
        match outcome {
            Outcome::Stored { response, variants } => {
                let variants = usize::try_from(variants).unwrap_or(VARIANTS).clamp(1, VARIANTS);
                let adopted = unpacked(&response, fill).and_then(|stored| self.adopt(stored, variants));
                // Void here is void for who waits here; he finds out himself otherwise.
                fills.desk.done(fill, token, || adopted.map(|_| Word::Stored(response)));
            }
            Outcome::Alone { all } => {
                if all {
                    self.flights.note_unshared(&fill.key(), self.now());
                }
                fills.desk.done(fill, token, || Some(Word::Alone { all }));
            }
            Outcome::Failed => fills.desk.done(fill, token, || None),
        }
    }

    /// The same for this node's own fetch, which is stored here already.
    pub(crate) fn done_here(&self, fill: &Fill, token: u128, stored: &Stored) {
        let word = || Some(packed(stored).map_or(Word::Alone { all: false }, Word::Stored));
        if let Some(fills) = self.fills() {
            fills.desk.done(fill, token, word);
        }
    }
}

/// As it goes to another node. `None`: it is too large.
pub(crate) fn packed(stored: &Stored) -> Option<Bytes> {
    let response = (stored.body.len() <= LARGEST).then(|| codec::response(stored))?;
    (response.len() <= MESSAGE).then(|| response.into())
}

/// `None`: not whole, or of another key.
pub(crate) fn unpacked(response: &[u8], fill: &Fill) -> Option<Stored> {
    match codec::read(response, &fill.key(), LARGEST)? {
        codec::Value::Response(stored) => Some(*stored),
        codec::Value::Varies(_) => None,
    }
}
