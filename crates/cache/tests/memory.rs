//! The memory tier keeps its bound by its own count at every moment, and keeps the right things.

#[path = "common/responses.rs"]
mod responses;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;
use tidegate_cache::memory::{Found, Memory};
use tidegate_cache::purge::Epoch;
use tidegate_cache::rules::vary::Selector;
use tidegate_cache::stored::{Fields, Stored};
use tidegate_model::Millis;

use responses::{TERMS, asks, key, response};

#[test]
fn what_is_asked_for_outlives_a_scan() {
    let memory = Memory::new(4 << 20);
    for round in 0..3 {
        for n in 0..200 {
            if round == 0 {
                memory.insert(response(n, 1_000, None), 4);
            }
            assert!(matches!(memory.find(&key(n), &HeaderMap::new(), Millis(0)), Found::This(_)));
        }
    }
    for n in 1_000..20_000 {
        memory.insert(response(n, 1_000, None), 4);
    }
    let left =
        (0..200).filter(|&n| matches!(memory.find(&key(n), &HeaderMap::new(), Millis(0)), Found::This(_))).count();
    assert!(left > 190, "{left} of 200 are left");
}

#[test]
fn variants_are_bounded_and_the_newest_stay() {
    let memory = Memory::new(4 << 20);
    for v in 0..10 {
        assert!(memory.insert(response_of(1, v), 4));
    }
    for v in 0..10 {
        let found = matches!(memory.find(&key(1), &asks(Some(v)), Millis(0)), Found::This(_));
        assert_eq!(found, v >= 6, "variant {v}");
    }
    assert!(matches!(memory.find(&key(1), &asks(None), Millis(0)), Found::Others));
    assert!(matches!(memory.find(&key(2), &asks(None), Millis(0)), Found::Nothing));
    assert_eq!(memory.remove_url(key(1).url), [key(1).key]);
    assert_eq!(memory.facts().bytes, 0);
}

fn response_of(n: u64, v: u8) -> Arc<Stored> {
    response(n, 10, Some(v))
}

#[test]
fn a_slow_fetch_does_not_replace_a_later_one() {
    let memory = Memory::new(1 << 20);
    let later = Arc::new({
        let one = response(1, 10, None);
        Stored::new(Fields {
            key: one.key,
            tenant: one.tenant.clone(),
            url: one.url.clone(),
            status: one.status,
            headers: one.headers.clone(),
            body: Bytes::from_static(b"later"),
            terms: TERMS,
            selector: Selector::default(),
            tags: Vec::new(),
            epoch: Epoch::default(),
            asked: Millis(500),
            answered: Millis(501),
        })
    });
    assert!(memory.insert(later, 4));
    assert!(!memory.insert(response(1, 10, None), 4));
    let Found::This(found) = memory.find(&key(1), &HeaderMap::new(), Millis(0)) else { panic!("it is there") };
    assert_eq!(found.body, "later");
}

#[test]
fn many_threads_keep_the_bound_together() {
    let memory = Arc::new(Memory::new(1 << 20));
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let memory = Arc::clone(&memory);
            std::thread::spawn(move || {
                for n in 0..5_000 {
                    memory.insert(response(worker * 100_000 + n, (n % 7_000) as usize, None), 4);
                    let facts = memory.facts().bytes;
                    assert!(facts <= 1 << 20, "{facts}");
                    if n % 16 == 0 {
                        memory.remove_url(key(worker * 100_000 + n / 2).url);
                    }
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().expect("no worker failed"));
    memory.clear();
    assert_eq!(memory.facts().bytes, 0);
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u64, usize, Option<u8>),
    Find(u64, Option<u8>),
    RemoveUrl(u64),
    Remove(u64),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let variant = || prop_oneof![Just(None), (0..6_u8).prop_map(Some)];
    prop_oneof![
        10 => (0..60_u64, 0..20_000_usize, variant()).prop_map(|(n, body, v)| Step::Insert(n, body, v)),
        6 => (0..60_u64, variant()).prop_map(|(n, v)| Step::Find(n, v)),
        1 => (0..60_u64).prop_map(Step::RemoveUrl),
        1 => (0..60_u64).prop_map(Step::Remove),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_count_is_within_the_bound_and_true(steps in proptest::collection::vec(step(), 1..300)) {
        const BOUND: usize = 100_000;
        let memory = Memory::new(BOUND);
        for step in steps {
            match step {
                Step::Insert(n, body, v) => drop(memory.insert(response(n, body, v), 3)),
                Step::Find(n, v) => {
                    if let Found::This(found) = memory.find(&key(n), &asks(v), Millis(0)) {
                        prop_assert_eq!(found.key, key(n));
                        prop_assert!(found.selector.matches(&asks(v)));
                    }
                }
                Step::RemoveUrl(n) => drop(memory.remove_url(key(n).url)),
                Step::Remove(n) => memory.remove(&key(n)),
                Step::Clear => memory.clear(),
            }
            prop_assert!(memory.facts().bytes <= BOUND);
        }
        let held: usize = (0..60).flat_map(|n| memory.of_url(key(n).url)).map(|stored| stored.weight() + 512).sum();
        prop_assert_eq!(memory.facts().bytes, held);
        memory.clear();
        prop_assert_eq!(memory.facts().bytes, 0);
    }
}
