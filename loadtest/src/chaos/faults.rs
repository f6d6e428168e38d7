//! What goes wrong, one thing after another, each mended before the next.

use std::time::Duration;

use anyhow::Result;

use super::dice::Dice;
use super::stage::Stage;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// kill −9 of a node.
    Kill,
    /// The same, again and again as it comes up.
    KillLoop,
    /// kill −9 of whoever leads the quota group.
    KillLeader,
    /// kill −9 of all nodes at once.
    Power,
    /// SIGSTOP, and SIGCONT later.
    Pause,
    /// A node and the others do not hear each other.
    Partition,
    /// The others do not hear a node, or it does not hear them.
    OneWay,
    /// Two nodes do not hear each other; a third one hears both.
    Split,
    /// Each node loses a part of what others send.
    Loss,
    /// No room on a node's disk.
    FullDisk,
    /// Each fsync of a node takes long.
    SlowDisk,
    /// A node's wall clock is wrong, and right again later.
    Clock,
    /// Each node is drained and started again.
    Rolling,
}

impl Fault {
    pub(super) const ALL: [Self; 13] = [
        Self::Kill,
        Self::KillLoop,
        Self::KillLeader,
        Self::Power,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::Split,
        Self::Loss,
        Self::FullDisk,
        Self::SlowDisk,
        Self::Clock,
        Self::Rolling,
    ];
}

fn seconds(dice: &mut Dice, least: u64, most: u64) -> Duration {
    Duration::from_millis(dice.between(least * 1_000, most * 1_000))
}

/// Does it, for as long as it takes, and mends it.
pub(super) fn strike(fault: Fault, stage: &mut Stage, dice: &mut Dice) -> Result<()> {
    let victim = dice.below(stage.members.len());
    match fault {
        Fault::Kill => killed(stage, fault, &[victim], seconds(dice, 1, 4)),
        Fault::KillLoop => {
            for _ in 0..dice.between(3, 5) {
                killed(stage, fault, &[victim], seconds(dice, 0, 1))?;
                // Often before it is up again.
                stage.rest(seconds(dice, 0, 3))?;
            }
            Ok(())
        }
        Fault::KillLeader => {
            let leader = stage.leader("quota").unwrap_or(victim);
            killed(stage, fault, &[leader], seconds(dice, 1, 4))
        }
        Fault::Power => {
            let all: Vec<_> = (0..stage.members.len()).collect();
            killed(stage, fault, &all, seconds(dice, 0, 2))
        }
        Fault::Pause => {
            let time = seconds(dice, 1, 7);
            stage.say(fault, &format!("n{} for {time:.1?}", victim + 1));
            stage.members[victim].signal(libc::SIGSTOP)?;
            stage.rest(time)?;
            stage.members[victim].signal(libc::SIGCONT)
        }
        Fault::Partition | Fault::OneWay | Fault::Split | Fault::Loss => network(fault, stage, dice, victim),
        Fault::FullDisk => {
            let time = seconds(dice, 3, 8);
            stage.say(fault, &format!("n{} for {time:.1?}", victim + 1));
            stage.members[victim].fill_disk()?;
            stage.rest(time)?;
            stage.members[victim].free_disk()
        }
        Fault::SlowDisk => {
            let (time, sync) = (seconds(dice, 4, 9), Duration::from_millis(dice.between(300, 1_500)));
            let victim = if dice.below(2) == 0 { stage.leader("quota").unwrap_or(victim) } else { victim };
            stage.say(fault, &format!("n{}: each fsync takes {sync:?} longer, for {time:.1?}", victim + 1));
            stage.members[victim].slow_disk(sync)?;
            stage.rest(time)?;
            stage.members[victim].slow_disk(Duration::ZERO)
        }
        Fault::Clock => {
            let (time, step) =
                (seconds(dice, 3, 9), dice.of(&[-86_400_000, -3_600_000, -5_000, 1_500, 30_000, 3_600_000]));
            stage.say(fault, &format!("n{}: {step} ms for {time:.1?}", victim + 1));
            stage.members[victim].shift_wall(step)?;
            stage.rest(time)?;
            stage.members[victim].shift_wall(0)
        }
        Fault::Rolling => {
            stage.say(fault, "all, one after the other");
            for at in 0..stage.members.len() {
                stage.members[at].drain()?;
                stage.start(at)?;
                stage.wait_until_ready()?;
            }
            Ok(())
        }
    }
}

fn killed(stage: &mut Stage, fault: Fault, victims: &[usize], away: Duration) -> Result<()> {
    let names: Vec<_> = victims.iter().map(|at| format!("n{}", at + 1)).collect();
    stage.say(fault, &format!("{}, back after {away:.1?}", names.join(" ")));
    victims.iter().try_for_each(|at| stage.members[*at].kill())?;
    stage.rest(away)?;
    victims.iter().try_for_each(|at| stage.start(*at))
}

fn network(fault: Fault, stage: &mut Stage, dice: &mut Dice, victim: usize) -> Result<()> {
    let (count, time) = (stage.members.len(), seconds(dice, 2, 9));
    let others: Vec<_> = (0..count).filter(|at| *at != victim).collect();
    match fault {
        Fault::Partition => {
            stage.say(fault, &format!("n{} alone for {time:.1?}", victim + 1));
            for other in others {
                stage.world.deafen(victim, other)?;
                stage.world.deafen(other, victim)?;
            }
        }
        Fault::OneWay => {
            let deaf = dice.below(2) == 0;
            let how = if deaf { "hears nobody" } else { "is heard by nobody" };
            stage.say(fault, &format!("n{} {how} for {time:.1?}", victim + 1));
            for other in others {
                if deaf { stage.world.deafen(victim, other)? } else { stage.world.deafen(other, victim)? }
            }
        }
        Fault::Split if count > 1 => {
            let other = dice.of(&others);
            stage.say(fault, &format!("n{} and n{} for {time:.1?}", victim + 1, other + 1));
            stage.world.deafen(victim, other)?;
            stage.world.deafen(other, victim)?;
        }
        _ => {
            let part = dice.between(5, 35);
            stage.say(fault, &format!("{part} % everywhere for {time:.1?}"));
            (0..count).try_for_each(|at| stage.world.lose(at, part as f64 / 100.0))?;
        }
    }
    stage.rest(time)?;
    stage.world.mend()
}
