//! What `set` orders: a maximum, or of limits with a rate that and the burst. Asks nobody.

use std::time::Duration;

use tidegate_config::RateText;
use tidegate_model::{Nanos, Permits};
use tidegate_policy::{Kind, Rate};
use tidegate_state::orders::What;

use super::permits;
use crate::backend::Counter;
use crate::refusal::Refusal;
use crate::wire::OrderQuota;

const NOTHING: &str = "0 admits nothing: block the subject instead";
/// As in a document.
const LONGEST: Duration = Duration::from_hours(31 * 24);

/// Of a limit of this kind.
pub(super) fn ordered(ask: &OrderQuota, counter: &Counter) -> Result<What, Refusal> {
    let name = &counter.name;
    if counter.kind.rate().is_none() {
        if ask.rate.is_some() || ask.burst.is_some() {
            let why = format!("`{name}` has no rate and no burst, only a maximum");
            return Err(Refusal::BadRequest(format!("{why}: give permits (on the command line --max)")));
        }
        return permits("permits", ask.permits, NOTHING, counter.most.0).map(What::Max);
    }
    let burst = match (ask.permits, ask.burst) {
        (Some(_), Some(_)) => {
            let why = format!("the maximum of `{name}` is its burst: give one of permits and burst");
            return Err(Refusal::BadRequest(why));
        }
        (Some(max), None) => Some(permits("permits", Some(max), NOTHING, counter.most.0)?),
        (None, Some(burst)) => Some(permits("burst", Some(burst), NOTHING, counter.most.0)?),
        (None, None) => None,
    };
    let Some(text) = &ask.rate else {
        let Some(burst) = burst else {
            let why = format!("`{name}` has a rate and a burst: which of them, and how much?");
            return Err(Refusal::BadRequest(format!("{why} (on the command line --rate 20/s --burst 40)")));
        };
        let rate = counter.kind.rate().expect("it has one");
        fills(rate, burst)?;
        return Ok(What::Max(burst));
    };
    let rate = rate(text, counter)?;
    fills(rate, burst.unwrap_or(counter.max.0))?;
    Ok(What::Rate { permits: rate.permits, per: rate.per, burst })
}

fn rate(text: &str, counter: &Counter) -> Result<Rate, Refusal> {
    let RateText { many, per } = text.parse().map_err(|why| Refusal::BadRequest(format!("rate: {why}")))?;
    let permits = permits("rate", Some(many), NOTHING, counter.most.0)?;
    if per.is_zero() || per > LONGEST {
        return Err(Refusal::BadRequest("rate: so many in up to 31d, as `20/s`".to_owned()));
    }
    let rate = Rate { permits, per: Nanos::from(per) };
    // Nodes hold parts of it, in thousandths of a permit a second.
    if matches!(counter.kind, Kind::Smooth { .. }) && rate.time(Permits(1)) > Nanos::SECOND {
        let why =
            format!("`{}` fills up in less than 25 ms, and such a limit takes a rate of at least 1/s", counter.name);
        return Err(Refusal::BadRequest(format!("rate: {why}; give its burst in the document more room, or block")));
    }
    Ok(rate)
}

fn fills(rate: Rate, burst: u64) -> Result<(), Refusal> {
    if rate.time(Permits(burst)) > Nanos::from(LONGEST) {
        let why = format!("at {} a burst of {burst} takes longer than 31d to fill", written((rate.permits, rate.per)));
        return Err(Refusal::BadRequest(format!("{why}: a smaller burst, or a faster rate")));
    }
    Ok(())
}

/// As a document would say it.
pub(super) fn written((many, per): (u64, Nanos)) -> String {
    RateText { many, per: per.into() }.to_string()
}

#[cfg(test)]
mod tests {
    use tidegate_model::LimitId;
    use tidegate_policy::defaults::{MOST_MAX, MOST_MONEY};
    use tidegate_policy::{Budget, Period, Unit};

    use super::*;

    fn counter(kind: Kind) -> Counter {
        Counter {
            limit: LimitId(1),
            name: "it".into(),
            subject: None,
            words: String::new(),
            period: None,
            max: Permits(10),
            most: if is_money(&kind) { MOST_MONEY } else { MOST_MAX },
            kind,
        }
    }

    fn is_money(kind: &Kind) -> bool {
        matches!(kind, Kind::Budget(Budget { unit: Unit::NanoMoney, .. }))
    }

    fn of(kind: &Kind, permits: Option<u64>, rate: Option<&str>, burst: Option<u64>) -> Result<What, String> {
        let ask = OrderQuota { permits, rate: rate.map(str::to_owned), burst, ..OrderQuota::default() };
        ordered(&ask, &counter(kind.clone())).map_err(|refusal| match refusal {
            Refusal::BadRequest(why) => why,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_limit_with_a_rate_takes_rate_burst_or_both_and_others_a_maximum() {
        let rate = Rate { permits: 1, per: Nanos::SECOND };
        let (bucket, window) = (Kind::Bucket { rate }, Kind::Sliding { window: Nanos::SECOND });
        let twenty = |burst| What::Rate { permits: 20, per: Nanos::SECOND, burst };
        assert_eq!(of(&bucket, None, Some("20/s"), Some(40)), Ok(twenty(Some(40))));
        assert_eq!(of(&bucket, Some(40), Some("20/s"), None), Ok(twenty(Some(40))));
        assert_eq!(of(&bucket, None, Some("20/s"), None), Ok(twenty(None)));
        assert_eq!(of(&bucket, None, None, Some(40)), Ok(What::Max(40)));
        assert_eq!(of(&window, Some(40), None, None), Ok(What::Max(40)));
        assert_eq!(of(&Kind::Concurrency, Some(4), None, None), Ok(What::Max(4)));
        // Billionths: two millions are more than any number of calls.
        let (money, much) = (Some(2_000_000_000_000_000), Ok(What::Max(2_000_000_000_000_000)));
        let (period, zone) = (Period::Month, "UTC".to_owned());
        let budget = |unit| Budget { period, zone: zone.clone(), unit, carry: Permits::ZERO, alerts: Vec::new() };
        assert_eq!(of(&Kind::Budget(budget(Unit::NanoMoney)), money, None, None), much);
        assert!(of(&Kind::Budget(budget(Unit::Tokens)), money, None, None).is_err());
        let smooth = Kind::Smooth { rate };
        assert_eq!(of(&smooth, None, Some("20/s"), None), Ok(twenty(None)));
        for (kind, permits, rate, burst, hint) in [
            (&window, None, Some("20/s"), None, "`it` has no rate and no burst"),
            (&window, Some(5), None, Some(5), "--max"),
            (&Kind::Concurrency, None, Some("1/s"), None, "no rate"),
            (&window, None, None, None, "permits: how many?"),
            (&window, Some(0), None, None, "block"),
            (&bucket, None, None, None, "--rate 20/s --burst 40"),
            (&bucket, Some(5), None, Some(5), "give one of"),
            (&bucket, None, Some("0/s"), None, "block"),
            (&bucket, None, Some("5/0s"), None, "31d"),
            (&bucket, None, Some("5/40d"), None, "31d"),
            (&bucket, None, Some("fast"), None, "write `10/s`"),
            (&bucket, None, Some("1/31d"), None, "takes longer than 31d"),
            (&bucket, None, None, Some(u64::MAX), "burst: 1 to"),
            (&smooth, None, Some("10/m"), None, "at least 1/s"),
        ] {
            let why = of(kind, permits, rate, burst).expect_err(hint);
            assert!(why.contains(hint), "{why}");
        }
    }
}
