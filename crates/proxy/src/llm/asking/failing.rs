//! A deployment that failed: what its try cost, and who is asked next.

use std::time::Duration;

use tidegate_policy::{Reaction, Then};
use tokio::time::Instant;

use super::Asking;
use crate::charge::Charge;
use crate::llm::account::Lost;
use crate::llm::attempt::Failed;
use crate::llm::choose::Candidate;
use crate::llm::trouble::Trouble;
use crate::relay::Observer;

/// Between tries at one deployment; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);

impl<'a> Asking<'_, 'a, '_> {
    /// True: the caller is told.
    pub(super) fn failed(
        &mut self,
        failed: Box<Failed>,
        candidate: Candidate<'a>,
        (charge, guess): (Option<Box<Charge>>, Lost),
        observer: &mut Observer,
    ) -> bool {
        if failed.answered {
            // Of two that ran beside each other one costs nothing.
            let free = if self.running.is_empty() { None } else { self.beside.pop() };
            if let Some((mut free, _)) = free {
                free.used((0, 0));
                self.elsewhere(observer);
            }
        } else {
            self.lost = (self.lost.0.saturating_add(guess.0), self.lost.1.saturating_add(guess.1));
        }
        if let Some(mut charge) = charge {
            charge.used(if failed.answered { (0, 0) } else { guess });
        }
        self.stands(observer);
        let Some(trouble) = failed.trouble else {
            self.last = Some(failed);
            return true;
        };
        // What befalls a caller's own key is nobody else's business.
        let theirs = self.call.own.with(&candidate.deployment.provider).flatten().is_some();
        if !theirs || !matches!(trouble, Trouble::Throttled | Trouble::Auth) {
            self.call.visit.gate.fleet.failed(&candidate.known, trouble, &failed.error);
        }
        let told = failed.error.retry_after.map(Duration::from_millis);
        self.last = Some(failed);
        self.react(trouble, candidate, told);
        false
    }

    /// What others pay of what is lost.
    pub(super) fn elsewhere(&self, observer: &mut Observer) {
        if let Some(charge) = &mut observer.charge {
            let all = self.beside.iter().map(|(_, guess)| guess);
            charge.pays_elsewhere(all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1.saturating_add(one.1))));
        }
    }

    /// Who is asked next.
    pub(super) fn react(&mut self, trouble: Trouble, failed: Candidate<'a>, told: Option<Duration>) {
        let Reaction { then, retries, wait } = trouble.reaction(&failed.model.routing.on_error);
        let pause = told.unwrap_or(PAUSE.saturating_mul(1 << failed.tried.min(6)));
        let again = failed.tried < *retries && pause <= *wait && trouble != Trouble::Context;
        if again {
            let not_before = Some(Instant::now() + pause);
            self.queue.push_front(Candidate { tried: failed.tried + 1, not_before, ..failed });
            return;
        }
        match then {
            Then::Next if trouble == Trouble::Context => {
                let small = failed.fit.context.unwrap_or(0);
                self.queue.retain(|next| next.fit.context.is_none_or(|context| context > small));
            }
            Then::Next => {}
            Then::Fallbacks => self.queue.retain(|next| next.stage > failed.stage),
            Then::Fail => self.queue.clear(),
            Then::Model(model) => match self.call.chooser.queue(model) {
                Ok(queue) => self.queue = queue,
                Err(_cannot) => self.queue.clear(),
            },
        }
    }
}
