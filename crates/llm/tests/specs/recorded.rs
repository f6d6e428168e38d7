//! A→B→A over every recording: text, thoughts, calls with their arguments, usage classes and stop come home.

use std::collections::BTreeMap;

use tidegate_llm::bounds::Bounds;
use tidegate_llm::meaning::{Answer, Event};
use tidegate_llm::tap::Tap;
use tidegate_llm::{Dialect, Glance};

use crate::support::{check_promises, collect, decode, encode, kept, recordings, reply};

#[test]
fn an_answer_comes_home_from_every_dialect() {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut broken = Vec::new();
    for case in recordings("answers").iter().filter(|case| !case.stream && case.status == 200) {
        let first = match case.dialect.parse_answer(&case.body) {
            Ok(answer) => answer,
            Err(error) => {
                *counts.entry((case.dialect.name(), "error in a 200")).or_default() += 1;
                assert!(!error.message.is_empty(), "{}", case.name);
                continue;
            }
        };
        if case.dialect.glance(&case.body) != Ok(Glance::of(&first)) {
            broken.push(format!("{}: a glance sees {:?}", case.name, case.dialect.glance(&case.body)));
        }
        for through in Dialect::ALL {
            *counts.entry((case.dialect.name(), through.name())).or_default() += 1;
            let home = there_and_back(case.dialect, through, &first);
            if kept(&first) != kept(&home) {
                broken.push(format!("{} {through:?}\n {:?}\n {:?}", case.name, kept(&first), kept(&home)));
            }
        }
    }
    report("answers", &counts, &broken);
}

fn there_and_back(home: Dialect, through: Dialect, answer: &Answer) -> Answer {
    let there = through.render_answer(answer, &reply(true));
    let told = through.glance(&there);
    let there = through.parse_answer(&there).expect("what we wrote can be read");
    assert_eq!(told, Ok(Glance::of(&there)), "{through:?}");
    let back = home.render_answer(&there, &reply(true));
    home.parse_answer(&back).expect("what we wrote can be read")
}

#[test]
fn a_stream_comes_home_from_every_dialect() {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut broken = Vec::new();
    for case in recordings("streams").iter().filter(|case| case.stream && case.status == 200) {
        let events = decode(case.dialect, &case.body, usize::MAX);
        if let Err(why) = check_promises(&events) {
            broken.push(format!("{}: {why}", case.name));
        }
        if [1, 13].into_iter().any(|step| decode(case.dialect, &case.body, step) != events) {
            broken.push(format!("{}: other cuts, other events", case.name));
        }
        let Some(Ok(first)) = collect(case.dialect, &events) else {
            *counts.entry((case.dialect.name(), "ends in an error")).or_default() += 1;
            println!("ends in an error: {} {:?}", case.name, events.last());
            for through in Dialect::ALL {
                errors_too(case.dialect, through, &events, &case.name, &mut broken);
            }
            continue;
        };
        for through in Dialect::ALL {
            let gemini = [case.dialect, through].contains(&Dialect::Gemini);
            for sse in [true, false].into_iter().take(if gemini { 2 } else { 1 }) {
                *counts.entry((case.dialect.name(), through.name())).or_default() += 1;
                let there = decode(through, &encode(through, &events, sse), 1_000);
                let back = decode(case.dialect, &encode(case.dialect, &there, sse), 1_000);
                let home = collect(case.dialect, &back);
                let same = matches!(&home, Some(Ok(home)) if kept(&first) == kept(home));
                if !same || check_promises(&there).is_err() || check_promises(&back).is_err() {
                    broken.push(format!("{} {through:?}\n {:?}\n {:?}", case.name, kept(&first), home));
                }
            }
        }
    }
    report("streams", &counts, &broken);
}

#[test]
fn a_stream_that_passes_is_the_same_bytes_and_its_usage_is_known() {
    let mut broken = Vec::new();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for case in recordings("passing streams").iter().filter(|case| case.stream && case.status == 200) {
        let Some(Ok(answer)) = collect(case.dialect, &decode(case.dialect, &case.body, usize::MAX)) else { continue };
        *counts.entry((case.dialect.name(), "itself")).or_default() += 1;
        let mut tap = Tap::new(case.dialect, true, Bounds::default());
        let mut out = Vec::new();
        case.body.chunks(100).for_each(|piece| tap.push(piece, &mut out));
        tap.finish(&mut out);
        // Some files hold two answers, one after the other; a decoder stops at the first.
        let ends = String::from_utf8_lossy(&case.body);
        let ends = ends.matches("event: message_stop").count() + ends.matches("event: response.completed").count();
        if out != case.body || ends < 2 && tap.usage() != answer.usage {
            broken.push(format!("{}: {:?} {:?}", case.name, tap.usage(), answer.usage));
        }
    }
    report("passing streams", &counts, &broken);
}

#[test]
fn a_recorded_error_has_a_kind_and_is_told_in_every_dialect() {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut broken = Vec::new();
    for case in recordings("errors").iter().filter(|case| case.status >= 400) {
        let first = case.dialect.parse_error(case.status, &|_| None, &case.body);
        for through in Dialect::ALL {
            *counts.entry((case.dialect.name(), through.name())).or_default() += 1;
            let body = through.render_error(&first);
            let home = through.parse_error(first.status(), &|_| None, &body);
            if home.message != first.message || home.status() != first.status() || first.message.starts_with('{') {
                broken.push(format!("{} {through:?} {first:?} {home:?}", case.name));
            }
        }
    }
    report("errors", &counts, &broken);
}

fn errors_too(home: Dialect, through: Dialect, events: &[Event], name: &str, broken: &mut Vec<String>) {
    let there = decode(through, &encode(through, events, true), 1_000);
    let back = decode(home, &encode(home, &there, true), 1_000);
    let (Some(Event::Error(first)), Some(Event::Error(last))) = (events.last(), back.last()) else {
        return broken.push(format!("{name} {through:?}: the error was lost: {:?}", back.last()));
    };
    if first.message != last.message {
        broken.push(format!("{name} {through:?}: {} became {}", first.message, last.message));
    }
}

pub(crate) fn report(what: &str, counts: &BTreeMap<(&str, &str), usize>, broken: &[String]) {
    let total: usize = counts.values().sum();
    println!("{what}: {total} cases ran");
    for ((from, through), count) in counts {
        println!("  {from:18} → {through:18} {count:6}");
    }
    for line in broken.iter().take(8) {
        println!("BROKEN {}", &line.chars().take(900).collect::<String>());
    }
    assert!(broken.is_empty(), "{} of {total} {what} did not come home", broken.len());
}
