//! The cluster, and what can be done to it.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::admin::{Question, Said, ask, text};
use super::document::Terms;
use super::faults::Fault;
use super::member::{Member, Told};
use super::world::World;
use crate::linux;
use crate::node::Binary;

/// For all nodes to be ready again, and the same. A machine under full load may need seconds to start a process.
const HEALED: Duration = Duration::from_secs(60);
const ASK: Duration = Duration::from_secs(3);

pub(super) struct Stage {
    pub(super) world: World,
    pub(super) members: Vec<Member>,
    pub(super) told: Told,
    began: Instant,
}

impl Stage {
    pub(super) fn set(folder: &Path, binary: &Binary, count: usize) -> Result<Self> {
        let world = World::make(count)?;
        let told = Told::prepare(folder, binary, count)?;
        let members = (0..count).map(|at| Member::new(at, &told)).collect::<Result<_>>()?;
        let mut stage = Self { world, members, told, began: Instant::now() };
        (0..count).try_for_each(|at| stage.start(at))?;
        stage.wait_until_ready()?;
        stage.wait_for_voters(count.min(if count >= 5 { 5 } else { 3 }))?;
        Ok(stage)
    }

    pub(super) fn say(&self, fault: Fault, what: &str) {
        let name = clap::ValueEnum::to_possible_value(&fault).map(|value| value.get_name().to_owned());
        self.tell(&format!("{:<12} {what}", name.unwrap_or_default()));
    }

    pub(super) fn tell(&self, what: &str) {
        println!("{:>6.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    pub(super) fn start(&mut self, at: usize) -> Result<()> {
        self.members[at].start(&self.told)
    }

    /// Sleeps, unless it is time to go.
    #[expect(clippy::unused_self, reason = "it is the stage that rests")]
    pub(super) fn rest(&self, time: Duration) -> Result<()> {
        let ends = Instant::now() + time;
        while Instant::now() < ends {
            if linux::asked_to_stop() {
                bail!("stopped");
            }
            thread::sleep(Duration::from_millis(20).min(ends.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    pub(super) fn status(&self, at: usize) -> Option<Value> {
        match ask(at, &self.told.token, &Question::get("/v1/cluster"), ASK) {
            Said::Answer(200, status) => Some(status),
            _ => None,
        }
    }

    /// Position of the node that leads a group, as far as anybody knows.
    pub(super) fn leader(&self, group: &str) -> Option<usize> {
        (0..self.members.len()).find_map(|at| {
            let status = self.status(at)?;
            let leader = status[group]["leader"].as_u64()?;
            let nodes = status["nodes"].as_array()?;
            let name = nodes.iter().find(|node| node["id"].as_u64() == Some(leader))?["name"].as_str()?;
            self.members.iter().position(|member| member.name() == name)
        })
    }

    /// All of them; how long it took.
    pub(super) fn wait_until_ready(&mut self) -> Result<Duration> {
        let began = Instant::now();
        loop {
            if let Some(dead) = self.members.iter_mut().find_map(|member| member.has_died().then_some(member)) {
                bail!("{} ended by itself:\n{}", dead.name(), dead.last_words());
            }
            let Some(late) = self.members.iter().find(|member| !member.is_ready()) else { return Ok(began.elapsed()) };
            if began.elapsed() > HEALED {
                let Said::Answer(_, why) = ask(late.at, "", &Question::get("/readyz"), ASK) else {
                    bail!("not converged: {} does not answer after {HEALED:?}:\n{}", late.name(), late.last_words());
                };
                bail!("not converged: {} is not ready after {HEALED:?}: {why}", late.name());
            }
            self.rest(Duration::from_millis(50))?;
        }
    }

    fn wait_for_voters(&self, count: usize) -> Result<()> {
        let ends = Instant::now() + HEALED;
        loop {
            let nodes = self.status(0).and_then(|status| status["nodes"].as_array().cloned()).unwrap_or_default();
            if count <= nodes.iter().filter(|node| node["role"] == "voter").count() {
                return Ok(());
            }
            if ends < Instant::now() {
                bail!("there are no {count} voters after {HEALED:?}: {nodes:?}");
            }
            self.rest(Duration::from_millis(50))?;
        }
    }

    /// All serve the same document and have applied the same entries, twice the same.
    pub(super) fn converge(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.wait_until_ready()?;
        loop {
            let told: Option<Vec<_>> = (0..self.members.len())
                .map(|at| {
                    self.status(at).map(|status| (status["revision"].clone(), status["control"]["applied"].clone()))
                })
                .collect();
            if told.as_ref().is_some_and(|told| told.windows(2).all(|pair| pair[0] == pair[1])) {
                self.compared(&told.unwrap_or_default()[0].1, began)?;
                return Ok(began.elapsed());
            }
            if began.elapsed() > HEALED {
                bail!("not converged: revisions and entries are {told:?} after {HEALED:?}");
            }
            self.rest(Duration::from_millis(100))?;
        }
    }

    /// The nodes themselves compare their states, of both groups, some seconds apart: as of this control entry or a later one they
    /// have to be the same at all.
    fn compared(&self, entry: &Value, began: Instant) -> Result<()> {
        let ends = began + HEALED;
        let count = format!("{}", self.members.len());
        loop {
            let told = text(0, "/metrics");
            let value = |name: &str, group: &str| {
                let line = format!("tidegate_{name}{{group=\"{group}\"}} ");
                told.lines().find_map(|it| it.strip_prefix(&line)).and_then(|it| it.parse::<f64>().ok()).unwrap_or(0.0)
            };
            let alarmed = self.alarmed();
            if let Some((name, alarms)) = &alarmed
                && (ends < Instant::now() || !alarms.iter().all(is_of_a_disk))
            {
                bail!("not converged: {name} says {alarms:?}");
            }
            let all = |group: &str| format!("{}", value("state_compared_nodes", group)) == count;
            let is_new = entry.as_f64().is_some_and(|entry| entry <= value("state_compared_index", "control"));
            let same = self.members.len() == 1 || (all("control") && all("quota") && is_new);
            if same && alarmed.is_none() {
                return Ok(());
            }
            if ends < Instant::now() {
                bail!("not converged: the states of all nodes were not compared within {HEALED:?}");
            }
            self.rest(Duration::from_millis(500))?;
        }
    }

    /// The first member with alarms, and these.
    fn alarmed(&self) -> Option<(String, Vec<Value>)> {
        self.members.iter().find_map(|member| {
            let alarms = self.status(member.at)?["alarms"].as_array()?.clone();
            (!alarms.is_empty()).then(|| (member.name(), alarms))
        })
    }

    /// The first document, and the key that requests carry.
    pub(super) fn tell_what_to_do(&self, terms: &Terms) -> Result<String> {
        let put = Question {
            method: "PUT",
            path: "/v1/document?wait=30s&note=w1",
            headers: "if-match: \"0\"\r\n",
            body: &terms.text(1),
        };
        let patience = Duration::from_secs(40);
        match ask(0, &self.told.token, &put, patience) {
            Said::Answer(200, _) => {}
            Said::Answer(status, why) => bail!("the document is refused: {status} {why}"),
            Said::NotAsked | Said::Unknown => bail!("the document was not taken"),
        }
        let body = json!({"consumer": "load"}).to_string();
        let post = Question { method: "POST", path: "/v1/keys", headers: "", body: &body };
        match ask(0, &self.told.token, &post, patience) {
            Said::Answer(201, key) => key["secret"].as_str().map(str::to_owned).context("a key has a secret"),
            _ => bail!("no key was made"),
        }
    }
}

/// Of a disk that was slow or full this is told for a while after it is well again: it has to end, but not at once.
fn is_of_a_disk(alarm: &Value) -> bool {
    alarm.as_str().is_some_and(|alarm| alarm.starts_with("the disk of this node is "))
}
