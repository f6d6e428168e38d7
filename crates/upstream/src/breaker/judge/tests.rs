use proptest::prelude::*;

use super::*;

const LIVE: [u64; 5] = [1, 2, 3, 4, 5];

fn place() -> Place {
    Place { upstream: "users".into(), endpoint: "10.0.0.5:8000".into() }
}

fn timing(_: &Place, round: u32) -> Option<Timing> {
    Some(Timing { open_for: 5_000 << round, probe_for: 8_000, relapse: 30_000 })
}

fn failing(streak: u32) -> Evidence {
    Evidence { failed: streak, streak, alone: 20, opened: streak >= 20, busy: 5, ..Evidence::default() }
}

fn well() -> Evidence {
    Evidence { ok: 50, ok_since: 50, alone: 50, busy: 50, ..Evidence::default() }
}

/// A leader with nodes that answer when asked, and a log that takes what is ruled.
#[derive(Default)]
struct Court {
    judge: Judge,
    nodes: BTreeMap<u64, Evidence>,
    ruling: Ruling,
    now: u64,
    polls: usize,
}

impl Court {
    fn tell(&mut self, node: u64, evidence: Evidence) -> Stand {
        self.nodes.insert(node, evidence.clone());
        self.judge.hear(node, vec![(place(), evidence)], self.now);
        self.run(0)
    }

    /// Lets time pass, and the leader look at it.
    fn run(&mut self, millis: u64) -> Stand {
        self.now += millis;
        for _ in 0..4 {
            for act in self.judge.step(&LIVE, &timing, self.now) {
                self.act(act);
            }
        }
        self.ruling.stand
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Poll(places) => {
                self.polls += 1;
                for (node, evidence) in &self.nodes {
                    self.judge.hear(*node, vec![(place(), evidence.clone())], self.now);
                }
                self.judge.polled(&places);
            }
            Act::Rule(verdicts) => {
                for verdict in verdicts {
                    assert_eq!(verdict.replaces, self.ruling.epoch);
                    self.ruling.epoch += 1;
                    match verdict.what {
                        What::Open { round } => self.ruling.stand = Stand::Open { round },
                        What::Probe { round, node } => self.ruling.stand = Stand::HalfOpen { round, node },
                        What::Close => self.ruling.stand = Stand::Closed,
                        What::Unhealthy => self.ruling.unhealthy = true,
                        What::Healthy => self.ruling.unhealthy = false,
                    }
                    self.judge.ruled(&place(), self.ruling, self.now);
                }
            }
        }
    }
}

#[test]
fn one_node_spends_what_it_needs_and_two_failures_elsewhere_open_it_for_all() {
    let mut court = Court { now: 1_000, ..Court::default() };
    assert_eq!(court.tell(1, failing(20)), Stand::Closed, "alone, it opens nothing for others");
    assert_eq!(court.tell(2, failing(1)), Stand::Closed);
    assert_eq!(court.tell(3, failing(1)), Stand::Open { round: 0 });
}

#[test]
fn failures_spread_over_all_nodes_count_together() {
    let mut court = Court { now: 1_000, ..Court::default() };
    for streak in 1..=3 {
        for node in LIVE {
            assert_eq!(court.tell(node, failing(streak)), Stand::Closed);
        }
    }
    for node in 1..=4 {
        assert_eq!(court.tell(node, failing(4)), Stand::Closed);
    }
    assert_eq!(court.tell(5, failing(4)), Stand::Open { round: 0 }, "twenty together");
}

#[test]
fn a_broken_link_of_one_node_or_of_the_fewer_opens_nothing() {
    let mut court = Court { now: 1_000, ..Court::default() };
    court.nodes = (3..=5).map(|node| (node, well())).collect();
    for streak in 1..=50 {
        assert_eq!(court.tell(1, failing(streak)), Stand::Closed);
        assert_eq!(court.tell(2, failing(streak)), Stand::Closed, "three of five say that it is well");
        court.run(300);
    }
}

#[test]
fn healthy_evidence_nobody_sent_is_asked_for() {
    let mut court = Court { now: 1_000, ..Court::default() };
    court.nodes = (3..=5).map(|node| (node, well())).collect();
    assert_eq!(court.tell(1, failing(30)), Stand::Closed);
    assert_eq!(court.tell(2, failing(30)), Stand::Closed);
    assert!(court.polls > 0);
}

#[test]
fn one_node_probes_and_its_answer_decides() {
    let mut court = Court { now: 1_000, ..Court::default() };
    court.tell(1, failing(20));
    court.tell(2, failing(20));
    assert_eq!(court.run(4_900), Stand::Open { round: 0 });
    let Stand::HalfOpen { round: 0, node: first } = court.run(300) else { panic!("{:?}", court.ruling) };
    let bad = Evidence { probed: Some((court.ruling.epoch, false)), ..failing(20) };
    assert_eq!(court.tell(first, bad), Stand::Open { round: 1 });
    assert_eq!(court.run(9_500), Stand::Open { round: 1 });
    court.tell(1, failing(20));
    court.tell(2, failing(20));
    let Stand::HalfOpen { round: 1, node: second } = court.run(600) else { panic!("{:?}", court.ruling) };
    assert_ne!(first, second, "in turn");
    let old = Evidence { probed: Some((1, true)), ..failing(20) };
    assert!(matches!(court.tell(second, old), Stand::HalfOpen { .. }), "the answer to an older permit");
    let good = Evidence { probed: Some((court.ruling.epoch, true)), ..failing(20) };
    assert_eq!(court.tell(second, good), Stand::Closed);
}

#[test]
fn a_relapse_goes_on_where_it_was() {
    let mut court = Court { now: 1_000, ..Court::default() };
    court.ruling = Ruling { epoch: 7, stand: Stand::HalfOpen { round: 3, node: 1 }, ..Ruling::default() };
    court.judge.ruled(&place(), court.ruling, court.now);
    let good = Evidence { probed: Some((7, true)), ..failing(0) };
    assert_eq!(court.tell(1, good), Stand::Closed);
    court.run(1_000);
    court.tell(1, failing(20));
    assert_eq!(court.tell(2, failing(20)), Stand::Open { round: 4 });
}

#[test]
fn a_permit_whose_holder_is_idle_or_gone_goes_to_another() {
    let mut court = Court { now: 1_000, ..Court::default() };
    court.tell(1, failing(20));
    court.tell(2, failing(20));
    let Stand::HalfOpen { node: holder, .. } = court.run(5_100) else { panic!("{:?}", court.ruling) };
    court.nodes.get_mut(&holder).unwrap().busy = 0;
    let Stand::HalfOpen { node: other, .. } = court.run(1_300) else { panic!("{:?}", court.ruling) };
    assert_ne!(holder, other);
}

#[test]
fn nobody_with_requests_nobody_probes() {
    let mut court = Court { now: 1_000, ..Court::default() };
    court.tell(1, failing(20));
    court.tell(2, failing(20));
    court.nodes.values_mut().for_each(|told| told.busy = 0);
    for _ in 0..20 {
        assert_eq!(court.run(1_000), Stand::Open { round: 0 });
    }
    court.nodes.get_mut(&2).unwrap().busy = 1;
    assert!(matches!(court.run(1_000), Stand::HalfOpen { node: 2, .. }));
}

#[test]
fn two_of_three_that_check_it_decide_about_health() {
    let says = |healthy| Evidence { healthy: Some(healthy), ..Evidence::default() };
    let mut court = Court { now: 1_000, ..Court::default() };
    court.tell(1, says(false));
    assert!(!court.ruling.unhealthy, "one alone");
    court.tell(2, says(true));
    assert!(!court.ruling.unhealthy);
    court.tell(3, says(false));
    assert!(court.ruling.unhealthy);
    court.tell(1, says(true));
    assert!(!court.ruling.unhealthy);
}

fn any_evidence() -> impl Strategy<Value = Evidence> {
    (any::<[u32; 7]>(), any::<[bool; 3]>(), any::<Option<(u64, bool)>>()).prop_map(|(numbers, flags, probed)| {
        Evidence {
            ok: numbers[0],
            failed: numbers[1],
            slow: numbers[2],
            streak: numbers[3],
            alone: numbers[4],
            opened: flags[0],
            ok_since: numbers[5],
            vetoes: flags[1],
            busy: numbers[6],
            probing: flags[2],
            probed,
            healthy: None,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_node_opens_nothing_for_others_whatever_it_tells(
        lies in prop::collection::vec((1_u64..=5, any_evidence(), 0_u64..3_000), 1..60),
        liar in 1_u64..=5,
        others_ask in any::<bool>(),
    ) {
        let mut court = Court { now: 1_000, ..Court::default() };
        if others_ask {
            court.nodes = LIVE.into_iter().filter(|node| *node != liar).map(|node| (node, well())).collect();
        }
        for (_, lie, pause) in lies {
            prop_assert_eq!(court.tell(liar, lie), Stand::Closed);
            prop_assert_eq!(court.run(pause), Stand::Closed);
        }
    }

    #[test]
    fn fewer_than_the_healthy_open_nothing(
        told in prop::collection::vec((1_u64..=2, any_evidence(), 0_u64..3_000), 1..60),
    ) {
        let mut court = Court { now: 1_000, ..Court::default() };
        court.nodes = (3..=5).map(|node| (node, well())).collect();
        for (node, evidence, pause) in told {
            prop_assert_eq!(court.tell(node, evidence), Stand::Closed);
            prop_assert_eq!(court.run(pause), Stand::Closed);
        }
    }

    /// Entries in the log are few, whatever is told: a flapping endpoint costs rounds, not a storm.
    #[test]
    fn whatever_is_told_the_log_stays_quiet(
        told in prop::collection::vec((1_u64..=5, any_evidence()), 1..300),
    ) {
        let mut court = Court { now: 1_000, ..Court::default() };
        let asked = told.len() as u64;
        for (node, evidence) in told {
            let evidence = Evidence { probed: None, ..evidence };
            court.tell(node, evidence);
            court.run(100);
        }
        prop_assert!(court.ruling.epoch <= 2 + asked / 10, "{} entries in {} s", court.ruling.epoch, asked / 10);
        prop_assert!(court.polls as u64 <= 2 + asked, "{} polls", court.polls);
    }
}
