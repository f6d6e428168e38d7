//! The demo: three nodes and a balancer under steady load; a spike in which two nodes join; the leader killed and
//! back; the two drained away. One limit holds over all of it, and the decision logs prove it afterwards.

mod stage;
mod summary;
mod view;
mod window;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::balancer::Kind;
use crate::generator::{Load, Plan};
use crate::http;
use crate::linux;
use crate::node::Binary;
use stage::{Stage, WINDOW};
use view::View;
use window::Window;

const CONNECTIONS: usize = 64;
const TICK: Duration = Duration::from_millis(20);
/// Joins and drains that the last second still waits for.
const OVERTIME: Duration = Duration::from_secs(30);

pub(crate) struct Options {
    pub(crate) seconds: u64,
    /// Requests per second outside the spike.
    pub(crate) rate: f64,
    pub(crate) balancer: Kind,
    pub(crate) binary: Binary,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    SpikeBegins,
    TwoNodesJoin,
    SpikeEnds,
    LeaderDies,
    LeaderReturns,
    TwoNodesLeave,
}

/// What happens, and after what share of the time.
const SCRIPT: [(f64, Act); 6] = [
    (0.18, Act::SpikeBegins),
    (0.22, Act::TwoNodesJoin),
    (0.45, Act::SpikeEnds),
    (0.52, Act::LeaderDies),
    (0.60, Act::LeaderReturns),
    (0.74, Act::TwoNodesLeave),
];

pub(crate) fn run(options: &Options) -> Result<()> {
    linux::note_signals();
    // Two thirds of what is asked for: the limit always has to say no.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the rate is a small positive number")]
    let max = (options.rate * WINDOW.as_secs_f64() * 2.0 / 3.0).round() as u64;
    let mut stage = Stage::set(&options.binary, options.balancer, max)?;
    let played = play(options, &mut stage);
    match played.and_then(|story| summary::tell(&story, stage)) {
        Ok(true) => Ok(()),
        Ok(false) => bail!("a window holds more permits than the limit allows, or a request went by the limit"),
        Err(why) => Err(why),
    }
}

/// What is known when the load has ended.
pub(crate) struct Story {
    load: Load,
    window: Window,
    took: Duration,
    max: u64,
}

fn play(options: &Options, stage: &mut Stage) -> Result<Story> {
    let mut load = Load::start(Plan {
        target: stage.balancer.address,
        request: http::get_request("demo.test", "/hello", &[]),
        connections: CONNECTIONS,
        rate: options.rate,
        nodes: stage.cluster.nodes.iter().map(|node| node.name.clone()).collect(),
    });
    let total = Duration::from_secs(options.seconds);
    let began = Instant::now();
    let mut window = Window::new(WINDOW);
    let mut view = View::new(total, stage.max);
    let mut script = SCRIPT.iter().peekable();
    loop {
        let now = began.elapsed();
        if now >= total && (!stage.is_busy() || now >= total + OVERTIME) {
            break;
        }
        if linux::asked_to_stop() {
            view.close();
            bail!("stopped");
        }
        while let Some((_, act)) = script.next_if(|(share, _)| now >= total.mul_f64(*share)) {
            perform(*act, stage, &load, options.rate)?;
        }
        stage.look()?;
        window.sample(load.counts());
        view.draw(now, stage, &load, &window);
        thread::sleep(TICK);
    }
    load.stop();
    view.close();
    Ok(Story { took: began.elapsed(), load, window, max: stage.max })
}

fn perform(act: Act, stage: &mut Stage, load: &Load, rate: f64) -> Result<()> {
    match act {
        Act::SpikeBegins => {
            load.set_rate(rate * 2.0);
            stage.say("spike: twice the requests");
        }
        Act::TwoNodesJoin => return stage.join_two(),
        Act::SpikeEnds => {
            load.set_rate(rate);
            stage.say("the spike is over");
        }
        Act::LeaderDies => return stage.kill_the_leader(),
        Act::LeaderReturns => return stage.restart_the_killed(),
        Act::TwoNodesLeave => return stage.drain_two(),
    }
    Ok(())
}
