//! The soak: three nodes under all kinds of traffic at once, in front of backends that misbehave, while documents, purges,
//! joins and leaves go on. Nothing may pile up, and nothing may come back that is not on the list (`listed`).

mod ask;
mod backend;
mod crowd;
mod document;
mod judge;
mod line;
mod listed;
mod memory;
mod operator;
mod part;
mod pattern;
mod rooms;
mod rough;
mod stage;
mod tally;
mod upload;
mod verdict;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::runtime::Runtime;

use crate::linux;
use crate::node::Binary;
pub(crate) use part::Part;

use crowd::{Crowd, World};
use memory::Held;
use operator::Operator;
use stage::{STEADY, Stage};
use verdict::Story;

const TICK: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Looks at rest, a second apart, that make one figure.
const AT_REST: u32 = 3;

pub(crate) struct Options {
    /// Under load, warm-up and rest apart.
    pub(crate) seconds: u64,
    /// Short requests per second.
    pub(crate) rate: f64,
    /// Empty: all.
    pub(crate) only: Vec<Part>,
    pub(crate) binary: Binary,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    linux::note_signals();
    linux::open_many_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (mut stage, world) = Stage::set(&options.binary, &runtime)?;
    let story = play(options, &mut stage, &runtime, &world);
    let broken = match story {
        Ok(story) => story.tell(),
        Err(why) => {
            eprintln!("kept: {}", stage.keep(&[world.tally.failures(), world.tally.seldom()].concat()));
            return Err(why);
        }
    };
    if !broken.is_empty() {
        eprintln!("kept: {}", stage.keep(&[world.tally.failures(), world.tally.seldom()].concat()));
        bail!("{} bounds are broken; the first: {}", broken.len(), broken[0]);
    }
    Ok(())
}

/// Warm up, rest, load, rest. Warm is who has all the history that it keeps: a hundred documents, of which one comes each second.
fn play(options: &Options, stage: &mut Stage, runtime: &Runtime, world: &Arc<World>) -> Result<Story> {
    let total = Duration::from_secs(options.seconds);
    let rest = (total / 10).clamp(Duration::from_secs(15), Duration::from_secs(60));
    let warming = (total / 5).clamp(Duration::from_secs(15), Duration::from_secs(120));
    eprintln!("warming up for {} s", warming.as_secs());
    let warm = load(options, warming, 1, stage, runtime, world)?;
    let before = at_rest(rest, stage)?;
    eprintln!("under load for {} s", total.as_secs());
    stage.begin_anew();
    let loaded = load(options, total, 1_000, stage, runtime, world)?;
    let after = at_rest(rest.max(Duration::from_secs(30)), stage)?;
    Ok(Story {
        asked_for: total,
        partly: !options.only.is_empty(),
        before,
        after,
        looks: loaded.looks,
        counts: world.tally.counts(),
        failures: world.tally.failures(),
        requests: world.tally.all(),
        unlisted: world.tally.unlisted(),
        documents: loaded.documents,
        purges: loaded.purges,
        joins: stage.joins,
        leaves: stage.leaves,
        deaths: stage.deaths,
        seen: stage::seen(&stage.seen),
        stuck: warm.stuck || loaded.stuck,
    })
}

struct Loaded {
    looks: Vec<(Duration, [Held; STEADY])>,
    documents: usize,
    purges: usize,
    stuck: bool,
}

fn load(
    options: &Options,
    total: Duration,
    seed: u64,
    stage: &mut Stage,
    runtime: &Runtime,
    world: &Arc<World>,
) -> Result<Loaded> {
    let crowd = Crowd::start(runtime, world, options.rate, seed, &options.only);
    let mut operator = Operator::start(world, stage.admins(), stage.token(), &stage.places, &options.only);
    let (began, mut looks) = (Instant::now(), Vec::new());
    let mut next_look = LOOK_EVERY;
    while began.elapsed() < total {
        ensure!(!linux::asked_to_stop(), "stopped");
        stage.turn(runtime, world, &options.only)?;
        if began.elapsed() >= next_look {
            let held = stage.held()?;
            looks.push((began.elapsed(), held));
            show(world, &held, &operator, stage);
            next_look += LOOK_EVERY;
        }
        thread::sleep(TICK);
    }
    operator.stop();
    let all_went = crowd.send_home(runtime);
    stage.calm_down(runtime, world)?;
    Ok(Loaded { looks, documents: operator.documents(), purges: operator.purges(), stuck: !all_went })
}

/// What is held when nothing has happened for so long.
fn at_rest(rest: Duration, stage: &mut Stage) -> Result<[Held; STEADY]> {
    eprintln!("at rest for {} s", rest.as_secs());
    let until = Instant::now() + rest.saturating_sub(Duration::from_secs(1) * AT_REST);
    while Instant::now() < until {
        ensure!(!linux::asked_to_stop(), "stopped");
        thread::sleep(TICK);
    }
    let mut sum = [Held::default(); STEADY];
    for _ in 0..AT_REST {
        thread::sleep(Duration::from_secs(1));
        for (sum, held) in sum.iter_mut().zip(stage.held()?) {
            sum.rss += held.rss / u64::from(AT_REST);
            sum.anonymous += held.anonymous / u64::from(AT_REST);
            // Of descriptors and threads the fewest: what stays, not what a check opens in passing.
            sum.descriptors =
                if sum.descriptors == 0 { held.descriptors } else { sum.descriptors.min(held.descriptors) };
            sum.threads = if sum.threads == 0 { held.threads } else { sum.threads.min(held.threads) };
        }
    }
    Ok(sum)
}

#[expect(clippy::cast_precision_loss, reason = "megabytes")]
fn show(world: &World, held: &[Held; STEADY], operator: &Operator, stage: &Stage) {
    let node = |held: &Held| format!("{:.1} MB {} fds", held.rss as f64 / 1e6, held.descriptors);
    let nodes: Vec<String> = held.iter().map(node).collect();
    eprintln!(
        "{:4} s  {} requests, {} not listed; {} documents, {} joins, {} leaves; {}",
        world.tally.since_the_beginning().as_secs(),
        world.tally.all(),
        world.tally.unlisted(),
        operator.documents(),
        stage.joins,
        stage.leaves,
        nodes.join(" | "),
    );
}
