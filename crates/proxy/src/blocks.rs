//! Who is refused by an operator's order. `tidegate` fills it from what the cluster agreed on; a request looks only when
//! anybody is blocked at all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tidegate_limiter::Key;
use tidegate_model::{KeyId, Millis};
use tidegate_policy::Consumer;

/// Until when; `None`: until it is taken back.
type Until = Option<Millis>;

#[derive(Debug, Default)]
pub struct Blocks {
    any: AtomicBool,
    list: ArcSwap<List>,
}

#[derive(Debug, Default)]
struct List {
    keys: HashMap<KeyId, Until>,
    /// By tenant, then name.
    consumers: HashMap<String, HashMap<String, Until>>,
    counters: HashMap<Key, Until>,
}

/// One who is blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    Key(KeyId),
    Consumer {
        tenant: String,
        name: String,
    },
    /// All calls that this counter counts.
    Counter(Key),
}

impl Blocks {
    /// These, and nobody else. From the return on no request that begins passes.
    pub fn replace(&self, all: impl IntoIterator<Item = (Blocked, Option<Millis>)>) {
        let mut list = List::default();
        for (whom, until) in all {
            match whom {
                Blocked::Key(key) => drop(list.keys.insert(key, until)),
                Blocked::Consumer { tenant, name } => {
                    list.consumers.entry(tenant).or_default().insert(name, until);
                }
                Blocked::Counter(key) => drop(list.counters.insert(key, until)),
            }
        }
        let any = !(list.keys.is_empty() && list.consumers.is_empty() && list.counters.is_empty());
        self.list.store(list.into());
        self.any.store(any, Ordering::Release);
    }

    #[inline]
    #[must_use]
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    #[cold]
    pub(crate) fn blocks_caller(&self, key: Option<KeyId>, consumer: Option<&Consumer>) -> bool {
        let (list, now) = (self.list.load(), now());
        let of_consumer = consumer.and_then(|consumer| list.consumers.get(&consumer.tenant)?.get(&consumer.name));
        key.and_then(|key| list.keys.get(&key)).into_iter().chain(of_consumer).any(|until| holds(*until, now))
    }

    #[cold]
    pub(crate) fn blocks_counter(&self, key: Key) -> bool {
        self.list.load().counters.get(&key).is_some_and(|until| holds(*until, now()))
    }

    /// Is any counter blocked? Else subjects need not be looked for.
    #[cold]
    pub(crate) fn any_counter(&self) -> bool {
        !self.list.load().counters.is_empty()
    }
}

fn now() -> Millis {
    Millis(tidegate_clock::wall().0 / 1_000_000)
}

fn holds(until: Until, now: Millis) -> bool {
    until.is_none_or(|until| now < until)
}
