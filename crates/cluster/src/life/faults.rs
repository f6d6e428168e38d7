//! What goes wrong in a life, and when, by the dice.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::TROUBLE;
use super::dice::Dice;
use super::disk::Lost;
use super::world::World;
use crate::replica::Machine;

/// For as long as there is trouble; everything is whole when it returns.
pub(super) async fn happen<M: Machine>(world: World<M>, mut dice: Dice) {
    let end = Instant::now() + TROUBLE;
    let mut next_number = world.nodes().last().copied().unwrap_or(0) + 1;
    while Instant::now() < end {
        sleep(dice.millis(200, 3_000)).await;
        let nodes = world.nodes();
        let Some(node) = dice.pick(&nodes).copied() else { continue };
        let fault = dice.below(12);
        world.judge().fault(|| format!("fault {fault} about node {node}"));
        match fault {
            0..=2 => {
                let lost = if dice.happens(500) { Lost::Some } else { Lost::Nothing };
                world.kill(node, lost, &mut dice);
                start_later(&world, node, dice.millis(100, 6_000));
            }
            3 => {
                // The power of the whole place.
                let lost = if dice.happens(300) { Lost::All } else { Lost::Some };
                for node in nodes {
                    world.kill(node, lost, &mut dice);
                    start_later(&world, node, dice.millis(500, 3_000));
                }
            }
            4 => cut_off(&world, &mut dice, node, true),
            5 => cut_off(&world, &mut dice, node, false),
            6 => {
                if let Some(leader) = world.leader() {
                    let both = dice.happens(500);
                    cut_off(&world, &mut dice, leader, both);
                }
            }
            7 => {
                world.net().lose(dice.below(300));
                heal_later(&world, dice.millis(500, 4_000));
            }
            8 => {
                world.slow_disk(node, dice.millis(20, 1_500));
                let (world, after) = (world.clone(), dice.millis(500, 4_000));
                tokio::spawn(async move {
                    sleep(after).await;
                    world.slow_disk(node, Duration::ZERO);
                });
            }
            9 => {
                if let Some((raft, _)) = world.leader().and_then(|leader| world.raft(leader)) {
                    _ = raft.trigger().transfer_leader(node).await;
                }
            }
            10 => world.compact(node).await,
            _ => {
                // Its machine burns down; one at a time, and only while the others are enough.
                if world.can_spare(node) {
                    world.kill(node, Lost::Some, &mut dice);
                    world.replace(node, next_number).await;
                    next_number += 1;
                }
            }
        }
    }
    sleep(Duration::from_secs(7)).await; // Whoever is to start later has.
    world.net().heal();
    for node in world.nodes() {
        world.slow_disk(node, Duration::ZERO);
        if !world.has_left(node) {
            world.start(node).await;
        }
    }
}

fn start_later<M: Machine>(world: &World<M>, node: u64, after: Duration) {
    let world = world.clone();
    tokio::spawn(async move {
        sleep(after).await;
        if !world.has_left(node) {
            world.start(node).await;
        }
    });
}

fn heal_later<M: Machine>(world: &World<M>, after: Duration) {
    let world = world.clone();
    tokio::spawn(async move {
        sleep(after).await;
        world.net().heal();
    });
}

/// Nobody hears it; `both`: and it hears nobody. Or the other way round.
fn cut_off<M: Machine>(world: &World<M>, dice: &mut Dice, node: u64, both: bool) {
    let hears = dice.happens(500);
    for other in world.nodes().into_iter().filter(|other| *other != node) {
        if both || hears {
            world.net().cut(node, other);
        }
        if both || !hears {
            world.net().cut(other, node);
        }
    }
    heal_later(world, dice.millis(300, 6_000));
}
