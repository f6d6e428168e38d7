//! A call's turn: the berth that is waited for before anything is sent, told what came of each try, and given to the answer,
//! which keeps it for as long as the upstream works on it.

use std::sync::{Arc, OnceLock};

use http::StatusCode;
use tidegate_policy::{Balance, Upstream};
use tokio::time::Instant;

use super::{Failed, Run};
use crate::berths::{Berth, Guest};
use crate::endpoint::Endpoint;
use crate::{Answer, CallFailed, Phase, Whom};

/// Who was asked first, and when: for who may ask another beside him.
pub(super) type Asked = Arc<OnceLock<(Arc<Endpoint>, Instant)>>;

/// What most calls do without.
#[derive(Default)]
pub(crate) struct Turn {
    guest: Guest,
    pub(super) berth: Option<Berth>,
    /// When it was let through to the upstream. `None`: at once.
    pub(super) begun: Option<Instant>,
    pub(super) asked: Option<Asked>,
    /// It is the second try beside a late one.
    pub(super) beside: bool,
    /// Connections are made for somebody, and carry nobody else's requests.
    whom: Option<Arc<Whom>>,
}

impl Turn {
    /// `None`: the upstream takes what comes, and once.
    pub(crate) fn of(upstream: &Upstream, guest: Option<Guest>, whom: Option<Arc<Whom>>) -> Option<Box<Self>> {
        let wanted = upstream.overload.is_some() || upstream.hedge.is_some() || whom.is_some();
        wanted.then(|| Box::new(Self { guest: guest.unwrap_or_default(), whom, ..Self::default() }))
    }

    /// Of a second try for the same client.
    pub(super) fn for_whom(whom: Option<Arc<Whom>>) -> Box<Self> {
        Box::new(Self { whom, ..Self::default() })
    }

    #[cold]
    pub(super) fn asks(&self, endpoint: &Arc<Endpoint>) {
        if let Some(asked) = &self.asked {
            asked.get_or_init(|| (Arc::clone(endpoint), self.begun.unwrap_or_else(Instant::now)));
        }
    }
}

impl Run<'_> {
    /// For whom connections are made. `None`: for anybody.
    pub(super) fn whom(&self) -> Option<&Arc<Whom>> {
        self.turn.as_ref()?.whom.as_ref()
    }

    /// When it was let through to the upstream.
    pub(crate) fn begun(&self) -> Instant {
        self.turn.as_ref().and_then(|turn| turn.begun).unwrap_or(self.started)
    }

    /// A second try takes nobody's turn: in turn with two endpoints, the slow one would always be asked first.
    pub(crate) fn balance(&self) -> Balance {
        let beside = self.turn.as_ref().is_some_and(|turn| turn.beside);
        if beside { Balance::Random } else { self.upstream.balance }
    }

    pub(crate) fn spent_until(&mut self, now: Instant) {
        let spent = now.saturating_duration_since(self.started).as_micros();
        self.spent = u32::try_from(spent).unwrap_or(u32::MAX);
    }

    /// It has one, or needs none; or takes one that is free.
    pub(super) fn has_berth(&mut self) -> bool {
        let Some(turn) = &mut self.turn else { return true };
        if self.upstream.overload.is_none() || turn.berth.is_some() {
            return true;
        }
        turn.berth = self.live.berths.try_enter(self.started);
        turn.berth.is_some()
    }

    #[cold]
    pub(super) async fn wait_for_berth(&mut self) -> Result<(), CallFailed> {
        let until = self.total_at();
        let (Some(rules), Some(turn)) = (&self.upstream.overload, &mut self.turn) else { return Ok(()) };
        let berth = self.live.berths.enter(turn.guest, rules, until).await.map_err(CallFailed::Shed)?;
        let begun = berth.began;
        (turn.begun, turn.berth) = (Some(begun), Some(berth));
        // What the breaker hears of as slow is the upstream alone.
        self.spent_until(begun);
        Ok(())
    }

    /// How long the answer took, or that none came.
    pub(super) fn teach(&self, turn: &Turn, tried: &Result<Answer, Failed>) {
        let Some(berth) = &turn.berth else { return };
        match tried {
            Ok(answer) => {
                berth.answered(answer.response.status(), answer.response.headers(), self.asked_at(answer));
            }
            Err(failed) => {
                if matches!(failed.as_ref(), CallFailed::Timeout(Phase::FirstByte | Phase::Total | Phase::Connect)) {
                    berth.late();
                }
            }
        }
    }

    /// Since when the upstream had all of the request. `None`: it has not, or it is not the first try.
    fn asked_at(&self, answer: &Answer) -> Option<Instant> {
        let sent = self.begun() + answer.connect.unwrap_or_default();
        match self.content.source().map(|source| source.progress()) {
            _ if self.attempts > 1 => None,
            None => Some(sent),
            Some(body) => body.ended.then(|| body.moved.max(sent)),
        }
    }

    /// A tunnel needs none; what else is answered may.
    pub(super) fn berthed(&mut self, mut answer: Answer) -> Answer {
        if let Some(berth) = self.turn.as_mut().and_then(|turn| turn.berth.take())
            && answer.response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            answer.response.body_mut().hold(berth);
        }
        answer
    }
}
