//! A life of the quota group: holders who spend what they are granted, leaders whose clocks run a little wrong, and a limit
//! that no window may pass.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::impls::ProgressResponder;
use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::Stamps;
use tidegate_quota::protocol::{
    Batch, Command, Entry, Item, Key, Kind, LEASE_TTL, Outcome, Policy, Verdict as Answered, holder_time,
};
use tokio::time::{Instant, sleep, timeout};

use super::dice::Dice;
use super::judge::{Judge, Watched};
use super::world::World;
use super::{PEACE, Verdict, faults};
use crate::codec;
use crate::quota::Quota;
use crate::raft::{LeaderId, Payload};
use crate::replica::Machine;
use crate::wire::GroupId;

type Life = World<Watched<Leases>>;

const WINDOW: Duration = Duration::from_secs(2);
const MAX: u64 = 100;
const HOLDERS: u64 = 4;

/// The shipped machine on one node, whose clock may run a little wrong.
struct Leases {
    quota: Quota,
    clock: Clock,
}

/// `CLOCK_MONOTONIC_RAW` of one machine: up to 1/1000 off.
#[derive(Clone, Copy)]
struct Clock {
    began: Instant,
    per_million: u64,
}

impl Clock {
    fn now(self) -> Nanos {
        let true_time = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Nanos(1_000_000_000 + true_time / 1_000_000 * self.per_million + true_time % 1_000_000)
    }
}

impl Machine for Leases {
    type Command = Entry;
    type Outcome = Outcome;

    fn apply(&mut self, index: u64, entry: Entry) -> Outcome {
        let outcome = self.quota.apply(index, entry);
        self.quota.applied_at = Some(self.clock.now());
        outcome
    }

    fn save(&self) -> Vec<u8> {
        self.quota.save()
    }

    fn hash(&self) -> [u8; 32] {
        self.quota.hash()
    }

    #[cfg(debug_assertions)]
    fn spoil(&mut self) {
        self.quota.spoil();
    }

    fn restore(&mut self, index: u64, bytes: &[u8]) -> Result<(), codec::Error> {
        self.quota.restore(index, bytes)?;
        self.quota.applied_at = Some(self.clock.now());
        Ok(())
    }
}

/// By node and process.
type AllStamps = BTreeMap<(u64, u64), Stamps<LeaderId>>;

/// What stamps the entries of each process that leads.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<AllStamps>>);

pub(super) async fn live(seed: u64, group: GroupId, judge: Judge) -> Verdict {
    let mut dice = Dice::new(seed);
    let (watch, began, drift) = (judge.clone(), Instant::now(), dice.next());
    let make = move |node| {
        let per_million = 999_000 + Dice::new(drift ^ node).below(2_000);
        let leases = Leases { quota: Quota::default(), clock: Clock { began, per_million } };
        Watched::new(node, leases, watch.clone())
    };
    let world = World::new(group, judge.clone(), Dice::new(dice.next()), make);
    world.form(if dice.happens(500) { 3 } else { 5 }).await;
    let desk = Desk::default();
    let policy = Policy {
        limit: LimitId(1),
        max: Permits(MAX),
        ttl: LEASE_TTL,
        kind: Kind::Sliding { window: Nanos(u64::try_from(WINDOW.as_nanos()).unwrap_or(u64::MAX)) },
    };
    let first = Command::SetPolicies { revision: Revision(1), policies: vec![policy] };
    while desk.enter(&world, first.clone()).await.is_none() {
        sleep(Duration::from_millis(50)).await;
    }
    let holder = |number| tokio::spawn(hold(world.clone(), desk.clone(), number, Dice::new(seed ^ number << 32)));
    let holders: Vec<_> = (1..=HOLDERS).map(holder).collect();
    faults::happen(world.clone(), Dice::new(dice.next())).await;
    sleep(PEACE / 2).await;
    for holder in holders {
        holder.abort();
    }
    world.converges().await;
    judge.check_windows(WINDOW, MAX);
    judge.verdict(seed)
}

impl Desk {
    /// On whoever leads: stamped, handed to Raft in the order of the stamps.
    async fn enter(&self, world: &Life, command: Command) -> Option<Outcome> {
        let node = world.leader()?;
        let leadership = world.leadership(node)?;
        let (raft, life) = world.raft(node)?;
        let (applied_at, now) =
            world.read(node, |watched| (watched.inner.quota.applied_at, watched.inner.clock.now()))?;
        let dt = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry((node, life)).or_default().next(leadership, applied_at, now)
        };
        let bytes = Bytes::from(codec::encode(&Entry { dt, command }));
        let (responder, outcome) = ProgressResponder::complete_only();
        let write = raft.write(Payload(bytes.clone())).with_leader(leadership).responder(responder);
        write.await.ok()?;
        let response = timeout(Duration::from_secs(2), outcome).await.ok()?.ok()?.ok()?;
        let index = response.log_id.index;
        let outcome = response.data.take::<Outcome>()?;
        world.judge().acknowledged(index, &bytes);
        Some(outcome)
    }
}

/// A node that spends at once whatever it is granted, in time.
async fn hold(world: Life, desk: Desk, number: u64, mut dice: Dice) {
    let key = Key { limit: LimitId(1), subject: Subject(7) };
    let (node, incarnation) = (NodeId(100 + number), Incarnation(number.into()));
    let (mut seq, mut epoch, mut spent) = (0, 1, 0);
    loop {
        sleep(dice.millis(20, 300)).await;
        seq += 1;
        let item = Item {
            key,
            epoch,
            spent: Permits(spent),
            have: Permits::ZERO,
            want: Permits(dice.below(60)),
            waiting: Permits(dice.below(3)),
            reserve: false,
            reserved: Permits::ZERO,
        };
        let sent = Instant::now();
        world.net().travel(0, 0).await;
        let batch = Batch { node, incarnation, seq, items: vec![item] };
        let Some(outcome) = desk.enter(&world, Command::Batches(vec![batch])).await else { continue };
        world.net().travel(0, 0).await;
        let Some(answer) = outcome.replies.first().and_then(|reply| reply.items.first()) else { continue };
        match answer.verdict {
            Answered::Lease { granted, ttl, .. } if answer.epoch == epoch => {
                let until = sent + Duration::from_nanos(holder_time(ttl).0);
                if granted != Permits::ZERO && Instant::now() < until {
                    world.judge().admitted(granted.0);
                    spent += granted.0;
                }
            }
            Answered::Reset => (epoch, spent) = (epoch + 1, 0),
            _ => {}
        }
    }
}
