//! A decision log of any bytes: read, judged, and judged again the slow way. For the fuzzer and the replay
//! of its corpus (docs/fuzzing.md).

use tidegate_model::{Nanos, Permits};

use super::record::check;
use super::{Evidence, Learnt, MAGIC, RECORD_BYTES, Record, Rule};
use crate::protocol::{Key, LEASE_TTL, Rate};

/// The slow way is quadratic.
const MOST_RECORDS: usize = 320;

/// Whatever the bytes: no panic, and findings that hold.
///
/// # Panics
/// When they do not.
pub fn decision_log(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(RECORD_BYTES * MOST_RECORDS)];
    let mut evidence = Evidence::default();
    if evidence.read(bytes).is_ok() {
        agree(evidence);
    }
    // No fuzzer guesses checksums: the same with right ones.
    let mut file = bytes.to_vec();
    let Some((header, records)) = file.split_first_chunk_mut::<RECORD_BYTES>() else { return };
    header[..8].copy_from_slice(&MAGIC);
    for record in records.as_chunks_mut::<RECORD_BYTES>().0 {
        let sum = check(record);
        record[..8].copy_from_slice(&sum.to_le_bytes());
        if let Some(read) = Record::decode(record) {
            assert_eq!(Record::decode(&read.encode()), Some(read), "a record reads as it was written");
        }
    }
    let mut evidence = Evidence::default();
    evidence.read(&file).expect("it has the header of one");
    agree(evidence);
}

fn agree(evidence: Evidence) {
    others_agree(&evidence);
    let (mut evidence, policies) = (evidence.clone(), evidence.policies.clone());
    // What was settled for less counts for less, and what a bucket or a calendar judges is not in windows.
    let mut settled = evidence.permits.clone();
    _ = evidence.others.clone().judge(&mut settled, &evidence.names, &evidence.orders);
    let permits = settled;
    for finding in std::mem::take(&mut evidence).judge().into_iter().filter(|finding| finding.rule.is_none()) {
        let learnt = policies.get(&finding.limit).map_or(&[][..], Vec::as_slice);
        let of_limit = |key: &&Key| key.limit == finding.limit;
        let (mut worst, mut ratio) = (0, 0.0_f64);
        for key in permits.keys().filter(of_limit) {
            let (sum, over) = slowly(&permits[key], learnt, finding.window);
            (worst, ratio) = (worst.max(sum), ratio.max(over));
        }
        assert_eq!(u128::from(finding.worst.0), worst.min(u128::from(u64::MAX)), "the fullest window");
        assert_eq!(finding.worst_ratio.to_bits(), ratio.to_bits(), "its share of the maximum");
    }
}

/// Where nobody ordered anything: sums by tag, and every stretch of a bucket that was never another one.
fn others_agree(evidence: &Evidence) {
    let (mut others, mut permits) = (evidence.others.clone(), evidence.permits.clone());
    others.settle(&mut permits);
    let findings = if evidence.orders.is_empty() { evidence.clone().judge() } else { Vec::new() };
    for finding in findings {
        let learnt = others.rules.get(&finding.limit).map_or(&[][..], Vec::as_slice);
        let mut least = 0;
        match (finding.rule, learnt) {
            (Some(Rule::Dated { .. }), _) => {
                for (_, tagged) in others.dated.iter().filter(|(key, _)| key.limit == finding.limit) {
                    let sum = |window: u32| tagged.iter().filter(move |tagged| tagged.2 == window);
                    let sums = tagged.iter().map(|tagged| sum(tagged.2).map(|(_, cost, _)| u128::from(cost.0)).sum());
                    least = sums.fold(least, u128::max);
                }
            }
            (Some(Rule::Bucket(rate) | Rule::Smooth(rate)), [(since, ..)]) if *since <= LEASE_TTL => {
                for (_, taken) in permits.iter().filter(|(key, _)| key.limit == finding.limit) {
                    least = taken.iter().map(|(from, _)| deepest(taken, *from, rate)).fold(least, u128::max);
                }
            }
            _ => {}
        }
        assert!(u128::from(finding.worst.0) >= least.min(u128::from(u64::MAX)), "{finding:?} is {least} at least");
    }
}

/// The most that any stretch from there took beyond what came, in whole permits.
fn deepest(taken: &[(Nanos, Permits)], from: Nanos, rate: Rate) -> u128 {
    let ends = taken.iter().map(|(to, _)| *to).filter(|to| from <= *to);
    let beyond = ends.map(|to| {
        let inside = taken.iter().filter(|(at, _)| from <= *at && *at <= to);
        let came = u128::from(to.saturating_sub(from).0) * u128::from(rate.permits);
        // A permit that has begun to come may have been rounded up at each one before.
        let came = came.div_ceil(u128::from(rate.per.0.max(1))).saturating_add(1);
        inside.map(|(_, cost)| u128::from(cost.0)).sum::<u128>().saturating_sub(came)
    });
    beyond.max().unwrap_or(0)
}

/// The sum of every window that ends with a permit, from the definition.
fn slowly(permits: &[(Nanos, Permits)], learnt: &[Learnt], window: Nanos) -> (u128, f64) {
    let (mut worst, mut ratio) = (0, 0.0_f64);
    for (end, _) in permits {
        let inside =
            permits.iter().filter(|(at, _)| at <= end && u128::from(end.0) < u128::from(at.0) + u128::from(window.0));
        let sum = inside.map(|(_, cost)| u128::from(cost.0)).sum::<u128>();
        let max = largest(learnt, end.saturating_sub(window), *end);
        worst = worst.max(sum);
        ratio = ratio.max(if max == 0 { f64::INFINITY } else { sum as f64 / max as f64 });
    }
    (worst, ratio)
}

fn largest(learnt: &[Learnt], from: Nanos, to: Nanos) -> u64 {
    let mut learnt = learnt.to_vec();
    learnt.sort_unstable();
    let in_force = |(at, (since, max, _)): &(usize, &Learnt)| {
        let replaced = learnt[*at..].iter().find(|(_, other, _)| other != max);
        let until = replaced.map_or(u128::MAX, |(later, ..)| u128::from(later.0) + u128::from(LEASE_TTL.0));
        u128::from(since.0) <= u128::from(to.0) + u128::from(LEASE_TTL.0) && u128::from(from.0) <= until
    };
    learnt.iter().enumerate().filter(in_force).map(|(_, (_, max, _))| max.0).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tidegate_model::{Incarnation, LimitId, NodeId, Subject};

    use super::super::{RequestMark, header, short_name};
    use super::*;

    /// What the fuzzer starts from: `TIDEGATE_WRITE_SEEDS=tests/fuzz/corpus cargo test -p tidegate-quota seeds`.
    fn seeds() -> Vec<Vec<u8>> {
        let limit = LimitId(3);
        let name = Record::Name { at: Nanos(1), limit, name: short_name("per-key") };
        let policy =
            |at, max, window| Record::Policy { at: Nanos(at), limit, max: Permits(max), window: Nanos(window) };
        let permit = |at, subject, cost| Record::Permit {
            at: Nanos(at),
            key: Key { limit, subject: Subject(subject) },
            cost: Permits(cost),
            request: RequestMark(u128::from(at)),
        };
        let (key, rate) = (Key { limit, subject: Subject(1) }, Rate { permits: 3, per: Nanos(20) });
        let bucket = |max| Record::Rule { at: Nanos(0), limit, max: Permits(max), rule: Rule::Bucket(rate) };
        let rule = Rule::Dated { carry: Permits(3), period: Nanos::from_secs(3_600) };
        let dated = Record::Rule { at: Nanos(0), limit, max: Permits(9), rule };
        let tagged =
            |at, cost, window| Record::taken(Nanos(at), key, Permits(cost), RequestMark(1 << 64), Some(window));
        let extra = |permits| Record::Extra { at: Nanos(92), key, permits: Permits(permits), id: 4 };
        let settled = Record::Settled { at: Nanos(90), key, used: Permits(7), reserved: Permits(4) };
        let steady: Vec<Record> = (0..12).map(|at| permit(at * 25, u128::from(at % 2), 1)).collect();
        let logs = [
            vec![],
            [vec![name, policy(0, 2, 100)], steady].concat(),
            vec![policy(0, 5, 100), policy(250, 3, 100), permit(90, 1, 4), permit(250, 1, 3), permit(251, 1, 9)],
            vec![policy(5, 7, u64::MAX), permit(u64::MAX, 1, u64::MAX), permit(0, 1, u64::MAX), permit(9, 1, 8)],
            vec![permit(7, 1, 1)],
            vec![bucket(5), permit(90, 1, 4), permit(100, 1, 2), permit(190, 1, 9), settled],
            vec![Record::Rated { at: Nanos(9), key, rate }, bucket(2), permit(u64::MAX, 1, 9), permit(50, 1, 3)],
            vec![dated, tagged(90, 4, 60), tagged(95, 4, 60), tagged(99, 9, 120), extra(7), extra(0), settled],
            // More than 64 bits hold.
            (0..300).map(|at| permit(at, 1, u64::MAX)).chain([policy(0, 5, 1_000)]).collect(),
        ];
        let file = |log: &Vec<Record>| {
            let mut bytes = header(NodeId(1), Incarnation(2)).to_vec();
            log.iter().for_each(|record| bytes.extend(record.encode()));
            bytes.extend([0; RECORD_BYTES]);
            bytes
        };
        logs.iter().map(file).collect()
    }

    #[test]
    fn the_judge_agrees_with_the_definition_on_every_seed() {
        for (number, seed) in seeds().iter().enumerate() {
            decision_log(seed);
            if let Some(corpus) = std::env::var_os("TIDEGATE_WRITE_SEEDS") {
                let folder = Path::new(&corpus).join("decision_log");
                fs::create_dir_all(&folder).expect("a writable folder");
                fs::write(folder.join(format!("seed-{number:02}")), seed).expect("a writable folder");
            }
        }
    }

    #[test]
    fn more_than_any_number_holds_is_too_much_all_the_same() {
        let key = Key { limit: LimitId(1), subject: Subject(1) };
        let mut evidence = Evidence::default();
        evidence.add(Record::Policy { at: Nanos(0), limit: key.limit, max: Permits(9), window: Nanos(100) });
        for (at, cost) in [(1, u64::MAX), (2, u64::MAX), (150, 3), (u64::MAX, 1)] {
            let request = RequestMark(u128::from(at));
            evidence.add(Record::Permit { at: Nanos(at), key, cost: Permits(cost), request });
        }
        let findings = evidence.judge();
        assert_eq!(findings[0].worst, Permits(u64::MAX));
        assert!(findings[0].worst_ratio > 1.0);
    }
}
