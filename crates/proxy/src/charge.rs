//! What a call's limits charge for as long as it runs: places, and costs that grow with it and are known when it has ended.
//!
//! What passes costs one compare: until so much of a thing is used, nothing is to be done about it.

use std::num::IntErrorKind;
use std::task::{Context, Poll};

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_limiter::{Ask, Running};
use tidegate_model::Permits;
use tidegate_policy::{Beyond, Cost};

use crate::limits::Few;

/// Rides with the observer of the exchange. Its drop ends it.
#[derive(Debug)]
pub(crate) struct Charge {
    running: Box<Running>,
    costs: Few<Metered>,
    /// By [`Measure`]: up to here nothing is to be done.
    until: [u64; 4],
    /// More was asked for.
    asking: bool,
    /// Somebody is cut off who comes beyond what is there.
    cuts: bool,
    /// Of the deployment that answers: what it takes of its own limits.
    also: Option<Box<Charge>>,
    /// Tokens and nano-dollars that others pay.
    elsewhere: (u64, u64),
}

/// One of the limits whose costs are known when the call has ended.
#[derive(Debug)]
struct Metered {
    /// Its place among those that were asked.
    ask: usize,
    by: By,
    cuts: bool,
}

#[derive(Debug)]
enum By {
    Measure(Measure),
    Header(HeaderName),
}

/// What is seen of a call while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    BytesIn,
    BytesOut,
    Tokens,
    NanoDollars,
}

impl Metered {
    fn of(at: usize, ask: &Ask<'_>) -> Option<Self> {
        let by = match &ask.limit.cost {
            Cost::Fixed(_) => return None,
            Cost::RequestBytes { .. } => By::Measure(Measure::BytesIn),
            Cost::ResponseBytes { .. } => By::Measure(Measure::BytesOut),
            Cost::Tokens { .. } => By::Measure(Measure::Tokens),
            Cost::Money { .. } => By::Measure(Measure::NanoDollars),
            Cost::Header { name, .. } => By::Header(name.clone()),
        };
        Some(Self { ask: at, by, cuts: ask.limit.terms.beyond == Beyond::Cut })
    }

    fn is_of(&self, measure: Measure) -> bool {
        matches!(self.by, By::Measure(by) if by == measure)
    }
}

impl Charge {
    pub(crate) fn of(running: Option<Box<Running>>, asks: &[Ask<'_>]) -> Option<Box<Self>> {
        let mut running = running?;
        for (at, ask) in asks.iter().enumerate() {
            // A body that announced its length comes to no more.
            if let Cost::RequestBytes { estimate } = ask.limit.cost
                && ask.cost != estimate
                && ask.cost > Permits(1)
            {
                running.comes_to(at, ask.cost);
            }
        }
        let costs: Few<Metered> = asks.iter().enumerate().filter_map(|(at, ask)| Metered::of(at, ask)).collect();
        let mut until = [u64::MAX; 4];
        for metered in &costs {
            if let By::Measure(measure) = metered.by {
                until[measure as usize] = 0;
            }
        }
        let cuts = costs.iter().any(|metered| metered.cuts);
        Some(Box::new(Self { running, costs, until, asking: false, cuts, also: None, elsewhere: (0, 0) }))
    }

    /// The upstream's answer: a header of it may tell what it costs. One that does not come, or is no number, costs what was
    /// estimated. How long its body is may be known.
    pub(crate) fn answered(&mut self, headers: &HeaderMap) {
        let length = headers.get(CONTENT_LENGTH).and_then(number);
        for metered in &self.costs {
            match &metered.by {
                By::Header(name) => {
                    if let Some(used) = headers.get(name).and_then(number) {
                        self.running.extend(metered.ask, Permits(used), None);
                    }
                }
                By::Measure(Measure::BytesOut) => {
                    if let Some(length) = length {
                        self.running.comes_to(metered.ask, Permits(length));
                    }
                }
                By::Measure(_) => {}
            }
        }
        self.asking = self.running.is_asking();
    }

    /// Does any limit count this?
    #[inline]
    pub(crate) fn counts(&self, measure: Measure) -> bool {
        self.until[measure as usize] != u64::MAX
    }

    /// Up to here nothing is to be done.
    pub(crate) fn until(&self, measure: Measure) -> u64 {
        self.until[measure as usize]
    }

    /// So much was used by now. Reserves more before that is used up.
    #[inline]
    pub(crate) fn uses(&mut self, measure: Measure, used: u64, cx: &mut Context<'_>) {
        if used > self.until[measure as usize] {
            self.extend(measure, used, cx);
        }
    }

    fn extend(&mut self, measure: Measure, used: u64, cx: &mut Context<'_>) {
        let elsewhere = self.elsewhere(measure);
        let own = Permits(used.saturating_sub(elsewhere));
        // Never as much as what nobody counts.
        let mut until = u64::MAX - 1;
        for metered in self.costs.iter().filter(|metered| metered.is_of(measure)) {
            let next = self.running.extend(metered.ask, own, Some(cx));
            until = until.min(next.0.saturating_add(elsewhere));
        }
        self.asking = self.running.is_asking();
        if let Some(also) = &mut self.also {
            also.uses(measure, used, cx);
            until = until.min(also.until[measure as usize]);
            self.asking |= also.asking;
        }
        self.until[measure as usize] = until;
    }

    /// Before so much is used. Ready: how much of it may be.
    #[inline]
    pub(crate) fn poll_room(&mut self, measure: Measure, up_to: u64, cx: &mut Context<'_>) -> Poll<u64> {
        if !self.cuts || up_to <= self.until[measure as usize] {
            return Poll::Ready(up_to);
        }
        let elsewhere = self.elsewhere(measure);
        let (own, mut room) = (Permits(up_to.saturating_sub(elsewhere)), up_to);
        let mut waits = false;
        for metered in self.costs.iter().filter(|metered| metered.cuts && metered.is_of(measure)) {
            match self.running.poll_room(metered.ask, own, cx) {
                Poll::Ready(of_one) => room = room.min(of_one.0.saturating_add(elsewhere)),
                Poll::Pending => waits = true,
            }
        }
        match self.also.as_mut().map(|also| also.poll_room(measure, up_to, cx)) {
            Some(Poll::Ready(of_other)) => room = room.min(of_other),
            Some(Poll::Pending) => waits = true,
            None => {}
        }
        self.asking |= waits;
        // One that has none is enough of an answer.
        if waits && room >= up_to { Poll::Pending } else { Poll::Ready(room) }
    }

    pub(crate) fn is_asking(&self) -> bool {
        self.asking
    }

    /// More was asked for, and may have come.
    #[inline]
    pub(crate) fn goes_on(&mut self, cx: &mut Context<'_>) {
        if self.asking {
            self.running.goes_on(cx);
            self.asking = self.running.is_asking();
            if let Some(also) = &mut self.also {
                also.goes_on(cx);
                self.asking |= also.asking;
            }
        }
    }

    /// Of what is used, others pay so much.
    fn elsewhere(&self, measure: Measure) -> u64 {
        match measure {
            Measure::BytesIn | Measure::BytesOut => 0,
            Measure::Tokens => self.elsewhere.0,
            Measure::NanoDollars => self.elsewhere.1,
        }
    }

    fn count(&mut self, measure: Measure, used: u64) {
        let own = used.saturating_sub(self.elsewhere(measure));
        for metered in self.costs.iter().filter(|metered| metered.is_of(measure)) {
            self.running.used(metered.ask, Permits(own));
        }
        if let Some(also) = &mut self.also {
            also.count(measure, used);
        }
    }

    /// So many tokens were used by now.
    pub(crate) fn tokens(&mut self, used: u64) {
        self.count(Measure::Tokens, used);
    }

    /// Of what is used, so much others pay.
    pub(crate) fn pays_elsewhere(&mut self, used: (u64, u64)) {
        self.elsewhere = used;
    }

    /// Together from now on: they end together.
    pub(crate) fn join(charge: &mut Option<Box<Self>>, other: Option<Box<Self>>) {
        let Some(charge) = charge else {
            *charge = other;
            return;
        };
        if let Some(other) = &other {
            charge.cuts |= other.cuts;
            charge.asking |= other.asking;
            for (until, of_other) in charge.until.iter_mut().zip(other.until) {
                *until = of_other.min(*until);
            }
        }
        charge.also = other;
    }

    /// So many nano-dollars were used by now.
    pub(crate) fn money(&mut self, used: u64) {
        self.count(Measure::NanoDollars, used);
    }

    /// Tokens and nano-dollars.
    pub(crate) fn used(&mut self, (tokens, nanos): (u64, u64)) {
        self.tokens(tokens);
        self.money(nanos);
    }

    pub(crate) fn ended(mut self, bytes_in: u64, bytes_out: u64) {
        self.count(Measure::BytesIn, bytes_in);
        self.count(Measure::BytesOut, bytes_out);
        if let Some(also) = self.also.take() {
            also.ended(bytes_in, bytes_out);
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

/// A whole number. One that is larger than any is as large as they come.
fn number(value: &HeaderValue) -> Option<u64> {
    match value.to_str().ok()?.trim().parse() {
        Ok(number) => Some(number),
        Err(why) if *why.kind() == IntErrorKind::PosOverflow => Some(u64::MAX),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_a_whole_number_however_large() {
        let of = |text: &str| number(&HeaderValue::from_str(text).expect("no control bytes"));
        assert_eq!((of("12"), of(" 7 "), of("0")), (Some(12), Some(7), Some(0)));
        assert_eq!(of("18446744073709551615"), Some(u64::MAX));
        assert_eq!(of("99999999999999999999999999999999"), Some(u64::MAX));
        for text in ["", "-1", "1.5", "1e3", "0x10", "1,000", "NaN", "five"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
