//! What a call's limits charge for as long as it runs: places, and costs that are known when it has ended.

use std::task::{Context, Poll};

use http::HeaderMap;
use tidegate_limiter::{Ask, Running};
use tidegate_model::Permits;
use tidegate_policy::Cost;

use crate::limits::Few;

/// Rides with the observer of the exchange. Its drop ends it.
#[derive(Debug)]
pub(crate) struct Charge {
    running: Box<Running>,
    /// By the place of their limit among those that were asked.
    costs: Few<(usize, Cost)>,
    /// Of the deployment that answers: what it takes of its own limits.
    also: Option<Box<Charge>>,
    /// Tokens and nano-dollars that others pay.
    elsewhere: (u64, u64),
}

impl Charge {
    pub(crate) fn of(running: Option<Box<Running>>, asks: &[Ask<'_>]) -> Option<Box<Self>> {
        let running = running?;
        let costs = asks.iter().enumerate().filter(|(_, ask)| !matches!(ask.limit.cost, Cost::Fixed(_)));
        let costs = costs.map(|(at, ask)| (at, ask.limit.cost.clone())).collect();
        Some(Box::new(Self { running, costs, also: None, elsewhere: (0, 0) }))
    }

    /// The upstream's answer: a header of it may tell what it costs. One that does not come, or is no number, costs what was
    /// estimated.
    pub(crate) fn answered(&mut self, headers: &HeaderMap) {
        for (at, cost) in &self.costs {
            if let Cost::Header { name, .. } = cost
                && let Some(used) = headers.get(name).and_then(|value| value.to_str().ok()?.trim().parse().ok())
            {
                self.running.used(*at, Permits(used));
            }
        }
    }

    /// So many tokens were used by now.
    pub(crate) fn tokens(&mut self, used: u64) {
        let own = used.saturating_sub(self.elsewhere.0);
        for (at, cost) in &self.costs {
            if let Cost::Tokens { .. } = cost {
                self.running.used(*at, Permits(own));
            }
        }
        if let Some(also) = &mut self.also {
            also.tokens(used);
        }
    }

    /// Of what is used, so much others pay.
    pub(crate) fn pays_elsewhere(&mut self, used: (u64, u64)) {
        self.elsewhere = used;
    }

    /// Together from now on: they end together.
    pub(crate) fn join(charge: &mut Option<Box<Self>>, other: Option<Box<Self>>) {
        match charge {
            None => *charge = other,
            Some(charge) => charge.also = other,
        }
    }

    /// So many nano-dollars were used by now.
    pub(crate) fn money(&mut self, used: u64) {
        let own = used.saturating_sub(self.elsewhere.1);
        for (at, cost) in &self.costs {
            if let Cost::Money { .. } = cost {
                self.running.used(*at, Permits(own));
            }
        }
        if let Some(also) = &mut self.also {
            also.money(used);
        }
    }

    /// Tokens and nano-dollars.
    pub(crate) fn used(&mut self, (tokens, nanos): (u64, u64)) {
        self.tokens(tokens);
        self.money(nanos);
    }

    pub(crate) fn ended(mut self, bytes_in: u64, bytes_out: u64) {
        if let Some(also) = self.also.take() {
            also.ended(bytes_in, bytes_out);
        }
        for (at, cost) in &self.costs {
            match cost {
                Cost::RequestBytes { .. } => self.running.used(*at, Permits(bytes_in)),
                Cost::ResponseBytes { .. } => self.running.used(*at, Permits(bytes_out)),
                Cost::Fixed(_) | Cost::Header { .. } | Cost::Tokens { .. } | Cost::Money { .. } => {}
            }
        }
    }

    /// Ready once another node may give the place away.
    pub(crate) fn poll_lapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.also.as_mut().is_some_and(|also| also.poll_lapsed(cx).is_ready()) {
            return Poll::Ready(());
        }
        self.running.poll_lapsed(cx)
    }
}
