//! What each endpoint lets pass: breakers, then the cap on them, then checks, panic and slow start.

use tidegate_policy::Upstream;

use super::{Inner, Patient};
use crate::breaker::circuit::Pass;

impl Inner {
    pub(super) fn passes(&mut self, upstream: &Upstream, now: u64) -> Vec<Pass> {
        let mut passes: Vec<Pass> = match &upstream.breaker {
            Some(rules) => self.patients.iter().map(|patient| patient.circuit.pass(rules, now)).collect(),
            None => vec![Pass::All; self.patients.len()],
        };
        let shut = |pass: Pass| matches!(pass, Pass::Nothing | Pass::One);
        for (patient, pass) in self.patients.iter_mut().zip(&passes) {
            match (shut(*pass), patient.shut_since) {
                (true, None) => {
                    patient.shut_since = Some(now);
                    patient.ejections += 1;
                }
                (false, Some(_)) => patient.shut_since = None,
                _ => {}
            }
        }
        let used = || self.patients.iter().enumerate().filter(|(_, patient)| patient.weight > 0).map(|(i, _)| i);
        let (all, mut out): (usize, Vec<usize>) = (used().count(), used().filter(|i| shut(passes[*i])).collect());
        self.shut_until = None;
        if out.len() == all {
            let until = self.patients.iter().filter_map(|patient| patient.circuit.open_until());
            self.shut_until = until.min();
        } else if let Some(rules) = &upstream.breaker {
            let most = at_most(rules.max_ejected, all);
            out.sort_by_key(|i| self.patients[*i].shut_since);
            for over in out.into_iter().skip(most) {
                passes[over] = Pass::All;
            }
        }
        self.health(upstream, &mut passes, now);
        passes
    }

    /// Checks take out what breakers left in, unless too few would be left; what came back warms up beside the others.
    fn health(&mut self, upstream: &Upstream, passes: &mut [Pass], now: u64) {
        let Some(health) = &upstream.health else {
            self.panics = false;
            return;
        };
        let used: Vec<usize> = (0..passes.len()).filter(|i| self.patients[*i].weight > 0).collect();
        let sick: Vec<bool> = self.patients.iter().map(Patient::is_sick).collect();
        let well = |i: usize| !sick[i];
        let healthy = used.iter().filter(|i| well(**i)).count();
        let usable = used.iter().any(|i| well(*i) && passes[*i] != Pass::Nothing);
        let panic = healthy * 100 < health.panic_below as usize * used.len();
        self.panic(upstream, healthy, used.len(), healthy < used.len() && (!usable || panic));
        if usable && !panic {
            for i in &used {
                if !well(*i) {
                    passes[*i] = Pass::Nothing;
                }
            }
        }
        let slow_start = u64::try_from(health.slow_start.as_millis()).unwrap_or(u64::MAX);
        for patient in &mut self.patients {
            if patient.warming_since.is_some_and(|since| now >= since.saturating_add(slow_start)) {
                patient.warming_since = None;
            }
        }
        let warm = used.iter().any(|i| passes[*i] == Pass::All && self.patients[*i].warming_since.is_none());
        for i in used {
            if let (true, Pass::All, Some(since)) = (warm, passes[i], self.patients[i].warming_since) {
                let percent = now.saturating_sub(since) * 100 / slow_start.max(1);
                passes[i] = Pass::Share(u32::try_from(percent.clamp(10, 99)).unwrap_or(99));
            }
        }
    }

    /// One line in the log when so few are well that sick ones are used too, and one when that is over.
    fn panic(&mut self, upstream: &Upstream, well: usize, all: usize, panics: bool) {
        if std::mem::replace(&mut self.panics, panics) == panics {
            return;
        }
        let upstream = &*upstream.id;
        if panics {
            tracing::warn!(upstream, well, all, "too few endpoints are well: sick ones are used too");
        } else {
            tracing::info!(upstream, well, all, "enough endpoints are well: sick ones are left out again");
        }
    }
}

/// How many of so many endpoints may be out while others work: at least one, never all.
fn at_most(share: f64, all: usize) -> usize {
    #[expect(clippy::cast_precision_loss, reason = "an upstream has a thousand endpoints at most")]
    let most = share * all as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the count")]
    let most = most as usize;
    most.clamp(1, all.saturating_sub(1).max(1))
}
