//! Whom a call goes to, and in which order the others are asked after it.

mod order;
mod scene;
mod sticky;

use std::collections::VecDeque;
use std::sync::Arc;

use http::HeaderMap;
use tidegate_llm::kept::Named;
use tidegate_policy::{ChoiceTo, Deployment, Model, Routing, Snapshot};
use tokio::time::Instant;

use super::fleet::{Fleet, Known};
use super::heard::Heard;
use super::needs::{Fit, Needs};
use super::told::No;
use crate::forward;
use crate::identify::Caller;
use crate::refusal::Refusal;

/// More are not asked for one call.
const MOST: usize = 32;

/// A deployment that may be asked.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    pub(super) model: &'a Model,
    pub(super) deployment: &'a Deployment,
    pub(super) known: Arc<Known>,
    pub(super) fit: Fit,
    /// 0: of the model that is asked; others are of fallbacks, in their order.
    pub(super) stage: usize,
    /// Tries of this call here.
    pub(super) tried: u32,
    /// A pause before the next try.
    pub(super) not_before: Option<Instant>,
}

pub(super) type Queue<'a> = VecDeque<Candidate<'a>>;

/// What a choice is made from.
#[derive(Clone, Copy)]
pub(super) struct Chooser<'v, 'a> {
    pub(super) fleet: &'v Fleet,
    pub(super) heard: &'v Heard<'v>,
    pub(super) headers: &'v HeaderMap,
    pub(super) caller: Option<&'v Caller<'a>>,
    pub(super) snapshot: &'v Snapshot,
    pub(super) needs: &'v Needs<'v>,
}

impl<'a> Chooser<'_, 'a> {
    /// All that may be asked for a model: its own deployments and those of its fallbacks, who rests behind who does not.
    ///
    /// # Errors
    /// None of them can take this call.
    pub(super) fn queue(&self, model: &'a Model) -> Result<Queue<'a>, No> {
        let alone =
            matches!((&*model.deployments, &*model.routing.fallbacks, &*model.routing.conditions), ([_alone], [], []));
        if alone && self.bound().is_none() {
            return self.own(model, None).map(Queue::from);
        }
        let (model, tags) = self.by_condition(model);
        let mut unmet = None;
        let (mut ready, mut resting) = (Queue::new(), Queue::new());
        let mut models: Vec<&'a Model> = vec![model];
        let mut stage = 0;
        while let Some(next) = models.get(stage).copied() {
            let tags = tags.filter(|_| stage == 0);
            match self.own(next, tags) {
                Ok(own) => {
                    for candidate in own {
                        let candidate = Candidate { stage, ..candidate };
                        if candidate.known.is_resting() { &mut resting } else { &mut ready }.push_back(candidate);
                    }
                }
                Err(no) => {
                    unmet.get_or_insert(no);
                }
            }
            let Routing { fallbacks, .. } = &next.routing;
            let place = stage + 1;
            for (nth, fallback) in fallbacks.iter().enumerate() {
                if !models.iter().any(|known| std::ptr::eq(*known, &**fallback)) {
                    models.insert((place + nth).min(models.len()), fallback);
                }
            }
            stage += 1;
        }
        ready.append(&mut resting);
        ready.truncate(MOST);
        if let Some(named) = self.bound().filter(|_| ready.is_empty() && unmet.is_none()) {
            return Err(nobody_keeps(named, &model.name));
        }
        match unmet {
            Some(no) if ready.is_empty() => Err(no),
            _ => Ok(ready),
        }
    }

    /// Those of a model that can take the call, as its strategy orders them.
    fn own(&self, model: &'a Model, tags: Option<&[Box<str>]>) -> Result<Vec<Candidate<'a>>, No> {
        let asked = &self.heard.peek.model;
        let (mut able, mut lacks, mut largest) = (Vec::with_capacity(model.deployments.len()), Vec::new(), None);
        let tagged = |deployment: &&Deployment| tags.is_none_or(|tags| tags.iter().all(|tag| deployment.has_tag(tag)));
        let keeps = |deployment: &Deployment, named: Option<&Named>| named.is_none_or(|it| it.tag == deployment.tag());
        let may = |deployment: &&Deployment| keeps(deployment, self.bound());
        for deployment in model.deployments.iter().filter(tagged).filter(may) {
            match self.needs.fit(deployment, asked) {
                Ok(fit) => {
                    let known = self.fleet.known(&deployment.id(asked));
                    able.push(Candidate { model, deployment, known, fit, stage: 0, tried: 0, not_before: None });
                }
                Err(lack) => {
                    lacks.push(lack);
                    largest = largest.max(self.needs.context(deployment, asked));
                }
            }
        }
        if able.is_empty() && lacks.is_empty() && self.bound().is_some() {
            return Ok(able);
        }
        // Who sealed its thoughts can open them, and others cannot.
        let named = self.heard.named.as_ref();
        if named.is_some() && able.iter().any(|candidate| keeps(candidate.deployment, named)) {
            able.retain(|candidate| keeps(candidate.deployment, named));
        }
        if able.is_empty() {
            return Err(self.needs.unmet(&model.name, &lacks, largest));
        }
        // Who may take it is asked only if nobody surely does, the largest first.
        let sure = able.iter().any(|candidate| candidate.fit.surely);
        able.retain(|candidate| candidate.fit.surely || !sure);
        let mut ordered = order::order(self, model, able, &mut forward::draw);
        if !sure {
            ordered.sort_by_key(|candidate| std::cmp::Reverse(candidate.fit.context));
        }
        Ok(ordered)
    }

    /// What the call names that one provider alone keeps.
    fn bound(&self) -> Option<&Named> {
        self.heard.named.as_ref().filter(|named| named.binds)
    }

    /// What the first condition that holds makes of a model; it may lead to another one, and that further.
    fn by_condition(&self, asked: &'a Model) -> (&'a Model, Option<&'a [Box<str>]>) {
        let (mut model, mut scene) = (asked, None);
        while !model.routing.conditions.is_empty() {
            let scene = scene.get_or_insert_with(|| scene::of(self));
            let holds = |choice: &&tidegate_policy::Choice| match choice.when.holds(scene) {
                Ok(holds) => holds,
                Err(why) => {
                    tracing::debug!(model = %model.name, condition = choice.when.text(), why, "a condition failed");
                    false
                }
            };
            match model.routing.conditions.iter().find(holds).map(|choice| &choice.to) {
                Some(ChoiceTo::Model(to)) => model = to,
                Some(ChoiceTo::Tags(tags)) => return (model, Some(tags)),
                None => break,
            }
        }
        (model, None)
    }
}

fn nobody_keeps(named: &Named, model: &str) -> No {
    let message = format!(
        "`{}` names what a provider keeps that serves the model `{model}` no more: begin anew, or ask the model that answered before",
        named.field
    );
    No::told(Refusal::CallInvalid, message, Some(named.field.to_owned()))
}
