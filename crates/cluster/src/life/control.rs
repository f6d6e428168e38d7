//! A life of the control group: writes that are asked again until they are acknowledged, and reads that may miss none.

use std::time::Duration;

use bytes::Bytes;
use openraft::raft::ReadPolicy;
use tidegate_model::Millis;
use tidegate_state::{Command, Outcome, Proposal, RequestId, Role};
use tokio::time::{sleep, timeout};

use super::dice::Dice;
use super::judge::{Judge, Watched};
use super::world::World;
use super::{PEACE, Verdict, faults};
use crate::codec;
use crate::control::Control;
use crate::raft::Payload;
use crate::wire::GroupId;

type Life = World<Watched<Control>>;

const CLIENTS: u64 = 3;

pub(super) async fn live(seed: u64, group: GroupId, judge: Judge) -> Verdict {
    let mut dice = Dice::new(seed);
    let world = world(group, &judge, Dice::new(dice.next()));
    world.form(if dice.happens(500) { 3 } else { 5 }).await;
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(ask(world.clone(), Dice::new(dice.next())))).collect();
    let reader = tokio::spawn(read(world.clone(), Dice::new(dice.next())));
    faults::happen(world.clone(), Dice::new(dice.next())).await;
    sleep(PEACE / 2).await;
    for client in clients {
        client.abort();
    }
    reader.abort();
    world.converges().await;
    judge.verdict(seed)
}

fn world(group: GroupId, judge: &Judge, dice: Dice) -> Life {
    let watch = judge.clone();
    let make = move |node| Watched::new(node, Control::new().0, watch.clone());
    World::new(group, judge.clone(), dice, make)
}

fn command(dice: &mut Dice) -> Command {
    let hash = [u8::try_from(dice.below(256)).unwrap_or(0); 32];
    match dice.below(5) {
        0 => Command::CreateJoinToken { hash, expires_at: None, uses: 1 },
        1 => Command::RevokeJoinToken { hash },
        2 => Command::CreateAdminToken { hash, name: "a".into(), role: Role::Reader, expires_at: None },
        3 => Command::RemoveSealed { name: format!("s{}", dice.below(5)) },
        _ => {
            let bytes = (0..=dice.below(2_000)).map(|n| u8::try_from(n % 251).unwrap_or(0)).collect();
            Command::PutSealed { name: format!("s{}", dice.below(5)), bytes }
        }
    }
}

/// One write after another, each until it is acknowledged; sometimes once more after that.
async fn ask(world: Life, mut dice: Dice) {
    loop {
        sleep(dice.millis(5, 120)).await;
        let request = RequestId(u128::from(dice.next()));
        let bytes = codec::encode(&Proposal { request, at: Millis(1), command: command(&mut dice), by: None });
        let outcome = write(&world, &mut dice, &bytes).await;
        if dice.happens(100) {
            let again = write(&world, &mut dice, &bytes).await;
            if again != outcome {
                world.judge().broken(format!("{request:?} came to {outcome:?}, and asked again to {again:?}"));
            }
        }
    }
}

async fn write(world: &Life, dice: &mut Dice, bytes: &[u8]) -> Outcome {
    loop {
        let nodes = world.running();
        let node = world.leader().filter(|_| dice.happens(900)).or_else(|| dice.pick(&nodes).copied());
        if let Some((raft, _)) = node.and_then(|node| world.raft(node)) {
            let payload = Payload(Bytes::copy_from_slice(bytes));
            if let Ok(Ok(response)) = timeout(Duration::from_secs(3), raft.client_write(payload)).await
                && let Some(outcome) = response.data.take::<Outcome>()
            {
                world.judge().acknowledged(response.log_id.index, bytes);
                return outcome;
            }
        }
        sleep(dice.millis(20, 200)).await;
    }
}

async fn read(world: Life, mut dice: Dice) {
    loop {
        sleep(dice.millis(5, 100)).await;
        let nodes = world.running();
        let Some((raft, _)) = dice.pick(&nodes).and_then(|node| world.raft(*node)) else { continue };
        let newest = world.judge().newest();
        if let Ok(Ok((read, _))) = timeout(Duration::from_secs(3), raft.get_read_log_id(ReadPolicy::ReadIndex)).await {
            world.judge().read(newest, read.index());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::life::disk::Lost;
    use crate::life::simulated;

    async fn write_some(world: &Life, dice: &mut Dice, count: usize) {
        for _ in 0..count {
            let proposal =
                Proposal { request: RequestId(dice.next().into()), at: Millis(1), command: command(dice), by: None };
            write(world, dice, &codec::encode(&proposal)).await;
        }
    }

    /// Its followers had fsynced them, so they were committed. openraft would let it lead on under its vote of before, with
    /// other entries under the ids of those.
    #[test]
    fn a_leader_that_lost_its_last_entries_with_the_power_does_not_write_others_in_their_place() {
        let verdict = simulated(1, async {
            let (judge, mut dice) = (Judge::new(false), Dice::new(1));
            let world = world(GroupId::Control, &judge, Dice::new(2));
            world.form(3).await;
            while world.voters() < 3 {
                sleep(Duration::from_millis(100)).await;
            }
            write_some(&world, &mut dice, 20).await;
            let leader = world.leader().expect("somebody took the writes");
            world.slow_disk(leader, Duration::from_secs(60));
            write_some(&world, &mut dice, 5).await;
            assert_eq!(world.leader(), Some(leader), "its pulse does not wait for its disk");
            for node in 1..=3 {
                world.kill(node, Lost::All, &mut dice);
                world.slow_disk(node, Duration::ZERO);
            }
            world.start(leader).await;
            sleep(Duration::from_millis(10)).await;
            for node in 1..=3 {
                world.start(node).await;
            }
            write_some(&world, &mut dice, 20).await;
            world.converges().await;
            judge.verdict(1)
        });
        assert!(verdict.broken.is_empty() && verdict.acknowledged == 45, "{verdict:#?}");
    }
}
