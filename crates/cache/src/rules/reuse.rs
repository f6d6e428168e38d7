//! May a stored response answer this request, at this moment (RFC 9111 § 4)?

use tidegate_model::Millis;

use super::control::RequestControl;
use super::store::Terms;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    Fresh,
    /// Stale and allowed. `refresh`: somebody should fetch it anew meanwhile.
    Stale {
        refresh: bool,
    },
    /// The origin must agree first.
    Validate(Because),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    Stale,
    /// It is fresh, but not enough for who asks.
    Request,
}

impl Terms {
    #[must_use]
    pub fn age(&self, now: Millis) -> Millis {
        now.saturating_sub(self.born)
    }

    /// What is left of the lifetime; negative when it is over.
    #[must_use]
    pub fn ttl_seconds(&self, now: Millis) -> i64 {
        let signed = |m: Millis| i64::try_from(m.0).unwrap_or(i64::MAX);
        signed(self.lifetime).saturating_sub(signed(self.age(now))).div_euclid(1_000)
    }

    #[must_use]
    pub fn is_fresh(&self, now: Millis) -> bool {
        self.age(now) < self.lifetime
    }

    #[must_use]
    pub fn reuse(&self, asked: &RequestControl, now: Millis) -> Reuse {
        let age = self.age(now);
        if asked.no_cache {
            return Reuse::Validate(Because::Request);
        }
        if self.validate {
            return Reuse::Validate(Because::Stale);
        }
        let too_old = asked.max_age.is_some_and(|most| age > Millis(most * 1_000) || most == 0);
        let wanted = age.saturating_add(Millis(asked.min_fresh.unwrap_or(0) * 1_000));
        if age < self.lifetime {
            return if too_old || wanted >= self.lifetime { Reuse::Validate(Because::Request) } else { Reuse::Fresh };
        }
        let over = age.saturating_sub(self.lifetime);
        let strict = too_old || asked.min_fresh.is_some();
        if !strict && over < self.stale_while_revalidate {
            return Reuse::Stale { refresh: true };
        }
        if !too_old && self.may_be_stale && asked.max_stale.is_some_and(|most| over <= Millis(most * 1_000)) {
            return Reuse::Stale { refresh: false };
        }
        Reuse::Validate(Because::Stale)
    }

    /// May it stand in for an origin that failed (RFC 5861 § 4)? A client's wish counts where stale is allowed at all, and
    /// so does the operator's: so long `beyond` its lifetime.
    #[must_use]
    pub fn stands_in(&self, asked: &RequestControl, beyond: Millis, now: Millis) -> bool {
        let age = self.age(now);
        let over = age.saturating_sub(self.lifetime);
        if self.validate || asked.no_cache {
            return false;
        }
        let asked = asked.stale_if_error.map_or(Millis::ZERO, |s| Millis(s * 1_000)).max(beyond);
        let wished = if self.may_be_stale { asked } else { Millis::ZERO };
        age < self.lifetime || over < self.stale_if_error.max(wished)
    }

    /// XFetch: fetch anew before the end, the likelier the nearer the end is and the longer a fetch takes, so that no
    /// crowd meets an expired response (Vattani et al., "Optimal Probabilistic Cache Stampede Prevention", 2015).
    /// `dice`: uniform over all of `u32`.
    #[must_use]
    pub fn refreshes_early(&self, fetch: Millis, dice: u32, now: Millis) -> bool {
        let left = self.lifetime.saturating_sub(self.age(now));
        // Most requests are far from it; no logarithm is drawn for them. e^-23 is below one in 2^32.
        if left.0 > fetch.0.saturating_mul(23) {
            return false;
        }
        let uniform = (f64::from(dice) + 1.0) / (f64::from(u32::MAX) + 1.0);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a fetch")]
        let (fetch, left) = (fetch.0 as f64, left.0 as f64);
        fetch * -uniform.ln() >= left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        born: Millis(1_000_000),
        lifetime: Millis(60_000),
        stale_while_revalidate: Millis(10_000),
        stale_if_error: Millis(20_000),
        may_be_stale: true,
        validate: false,
        for_all: true,
        keep: Millis(100_000),
    };

    fn after(seconds: u64) -> Millis {
        Millis(1_000_000 + seconds * 1_000)
    }

    #[test]
    fn a_response_is_used_as_long_as_both_sides_let_it() {
        use Because::{Request, Stale as Expired};
        use Reuse::{Fresh, Stale, Validate};
        let none = RequestControl::default();
        let max_age = |n| RequestControl { max_age: Some(n), ..none };
        let min_fresh = |n| RequestControl { min_fresh: Some(n), ..none };
        let max_stale = |n| RequestControl { max_stale: Some(n), ..none };
        let no_cache = RequestControl { no_cache: true, ..none };
        let strict = Terms { may_be_stale: false, stale_while_revalidate: Millis::ZERO, ..TERMS };
        for (terms, asked, age, expected) in [
            (TERMS, none, 0, Fresh),
            (TERMS, none, 59, Fresh),
            (TERMS, none, 60, Stale { refresh: true }),
            (TERMS, none, 69, Stale { refresh: true }),
            (TERMS, none, 70, Validate(Expired)),
            (TERMS, no_cache, 0, Validate(Request)),
            (TERMS, max_age(0), 0, Validate(Request)),
            (TERMS, max_age(10), 10, Fresh),
            (TERMS, max_age(10), 11, Validate(Request)),
            (TERMS, max_age(10), 61, Validate(Expired)),
            (TERMS, min_fresh(30), 29, Fresh),
            (TERMS, min_fresh(30), 30, Validate(Request)),
            (TERMS, max_stale(100), 75, Stale { refresh: false }),
            (TERMS, max_stale(10), 75, Validate(Expired)),
            (strict, max_stale(100), 61, Validate(Expired)),
            (strict, none, 61, Validate(Expired)),
            (Terms { validate: true, ..TERMS }, none, 0, Validate(Expired)),
        ] {
            assert_eq!(terms.reuse(&asked, after(age)), expected, "{asked:?} at {age}");
        }
    }

    #[test]
    fn a_failing_origin_is_stood_in_for_within_the_window() {
        let none = RequestControl::default();
        assert!(TERMS.stands_in(&none, Millis::ZERO, after(79)));
        assert!(!TERMS.stands_in(&none, Millis::ZERO, after(80)));
        let asked = RequestControl { stale_if_error: Some(100), ..none };
        assert!(TERMS.stands_in(&asked, Millis::ZERO, after(150)));
        assert!(!Terms { may_be_stale: false, ..TERMS }.stands_in(&asked, Millis::ZERO, after(150)));
        assert!(!Terms { validate: true, ..TERMS }.stands_in(&none, Millis::ZERO, after(1)));
        let beyond = Millis(600_000);
        assert!(TERMS.stands_in(&none, beyond, after(650)) && !TERMS.stands_in(&none, beyond, after(661)));
        assert!(!Terms { may_be_stale: false, ..TERMS }.stands_in(&none, beyond, after(150)), "it must be revalidated");
        assert!(!TERMS.stands_in(&RequestControl { no_cache: true, ..none }, beyond, after(1)));
    }

    #[test]
    fn early_refresh_is_rare_far_from_the_end_and_sure_at_it() {
        let share = |age: u64| {
            let hits =
                (0..10_000_u32).filter(|n| TERMS.refreshes_early(Millis(1_000), n * 429_496, after(age))).count();
            hits / 100
        };
        assert_eq!(share(30), 0);
        assert!(share(58) > 5 && share(58) < 25, "{}", share(58));
        assert_eq!(share(60), 100);
        assert!(!TERMS.refreshes_early(Millis(1), u32::MAX, after(59)));
    }

    #[test]
    fn ttl_goes_below_zero() {
        assert_eq!(TERMS.ttl_seconds(after(20)), 40);
        assert_eq!(TERMS.ttl_seconds(after(75)), -15);
    }
}
