//! Which kind of limit it is, and how much it admits.

use std::time::Duration;

use tidegate_model::{Nanos, Permits};
use tidegate_policy::defaults::{MAX_WINDOW, MOST_MAX, MOST_MONEY};
use tidegate_policy::{Budget, Cost, Kind, Period, Rate, Unit};

use super::super::Report;
use crate::document::{BudgetPeriod, BudgetRule, CalendarPeriod, LimitRule};
use crate::path::Path;
use crate::units::{RateText, Span};

const MIN_WINDOW: Duration = Duration::from_millis(100);
const MAX_MAX: u64 = MOST_MAX.0;
pub(super) const MAX_MONEY: u64 = MOST_MONEY.0;
const MOST_ALERTS: usize = 16;

/// The maximum and what it is a maximum of.
pub(super) fn compile(rule: &LimitRule, cost: &Cost, path: &Path<'_>, report: &Report<'_>) -> Option<(Permits, Kind)> {
    let LimitRule { window, calendar, zone, rate, burst, concurrency, budget, max, .. } = rule;
    let max_path = path.field("max");
    let most = if matches!(cost, Cost::Money { .. }) { MAX_MONEY } else { MAX_MAX };
    let kinds = [
        ("window", window.is_some()),
        ("calendar", calendar.is_some()),
        ("rate", rate.is_some()),
        ("concurrency", concurrency.is_some()),
        ("budget", budget.is_some()),
    ];
    let named: Vec<&str> = kinds.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    match named.as_slice() {
        [] => {
            if let Some(max) = max {
                amount(*max, most, &max_path, report);
            }
            report.hinted(
                path,
                "`window` is missing",
                "write `window: 1m`, or `rate`, `concurrency`, `calendar`, `budget`",
            );
            return None;
        }
        [_] => {}
        [one, another, ..] => {
            let hint = "make it two limits: a route may name both, and a call must pass both";
            report.hinted(&path.field(another), format!("`{one}` is there already: a limit is of one kind"), hint);
            return None;
        }
    }
    for (field, there, with) in [("burst", burst.is_some(), "rate"), ("zone", zone.is_some(), "calendar")] {
        if there && named[0] != with {
            report.error(&path.field(field), format!("`{field}` goes with `{with}`"));
        }
    }
    if max.is_some() && !["window", "calendar"].contains(&named[0]) {
        let hint = format!("`{}` says how much is admitted", if named[0] == "rate" { "burst" } else { named[0] });
        report.hinted(&max_path, "`max` goes with `window` or `calendar`", hint);
    }
    let needed = || {
        if max.is_none() {
            report.hinted(path, "`max` is missing", "write `max: 600`");
        }
        max.map(|max| amount(max, most, &max_path, report))
    };
    if let Some(window) = window {
        let max = needed();
        return Some((max?, sliding(*window, &path.field("window"), report)));
    }
    if let Some(period) = calendar {
        let max = needed();
        let zone = self::zone(zone.as_ref(), &path.field("zone"), report);
        return Some((max?, Kind::Calendar { period: of_calendar(*period), zone }));
    }
    if let Some(rate) = rate {
        return bucket(*rate, *burst, most, path, report);
    }
    if let Some(places) = concurrency {
        return Some((amount(*places, MAX_MAX, &path.field("concurrency"), report), Kind::Concurrency));
    }
    self::budget(budget.as_ref()?, &path.field("budget"), report)
}

/// An amount that somebody wrote.
pub(super) fn amount(amount: u64, most: u64, path: &Path<'_>, report: &Report<'_>) -> Permits {
    if amount == 0 {
        report.hinted(path, "0 admits nothing", "for a route that refuses everything use `respond: {status: 403}`");
    } else if amount > most {
        report.error(path, format!("at most {most}"));
    }
    Permits(amount)
}

fn sliding(window: Span, path: &Path<'_>, report: &Report<'_>) -> Kind {
    if !(MIN_WINDOW..=MAX_WINDOW).contains(&window.0) {
        report.hinted(path, "a window is 100ms to 31d long", None::<String>);
    }
    Kind::Sliding { window: Nanos::from(window.0) }
}

fn bucket(
    rate: RateText,
    burst: Option<u64>,
    most: u64,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<(Permits, Kind)> {
    let RateText { many, per } = rate;
    let rate_path = path.field("rate");
    if per.is_zero() || per > MAX_WINDOW {
        report.hinted(&rate_path, "a rate is so many in up to 31d", "write `10/s`");
        return None;
    }
    if amount(many, most, &rate_path, report) == Permits::ZERO {
        return None;
    }
    let rate = Rate { permits: many, per: Nanos::from(per) };
    let burst = match burst {
        Some(burst) => amount(burst, most, &path.field("burst"), report),
        None => rate.whole(Nanos::SECOND).0.max(Permits(1)),
    };
    if rate.time(burst) > Nanos::from(MAX_WINDOW) {
        report.hinted(&path.field("burst"), "it takes longer than 31d to fill", "use a `budget`, or a smaller burst");
    }
    Some((burst, Kind::Bucket { rate }))
}

fn zone(name: Option<&String>, path: &Path<'_>, report: &Report<'_>) -> String {
    let name = name.map_or("UTC", String::as_str);
    if !tidegate_policy::is_zone(name) {
        let reason = format!("there is no time zone `{}`", crate::decode::short(name));
        report.hinted(path, reason, "write a name of the IANA database, as `Europe/Berlin`");
    }
    name.to_owned()
}

fn of_calendar(period: CalendarPeriod) -> Period {
    match period {
        CalendarPeriod::Minute => Period::Minute,
        CalendarPeriod::Hour => Period::Hour,
        CalendarPeriod::Day => Period::Day,
        CalendarPeriod::Week => Period::Week,
        CalendarPeriod::Month => Period::Month,
    }
}

fn budget(rule: &BudgetRule, path: &Path<'_>, report: &Report<'_>) -> Option<(Permits, Kind)> {
    let BudgetRule { count, tokens, money, per, zone, carry_over, alerts } = rule;
    let period = match per {
        BudgetPeriod::Minute => Period::Minute,
        BudgetPeriod::Hour => Period::Hour,
        BudgetPeriod::Day => Period::Day,
        BudgetPeriod::Week => Period::Week,
        BudgetPeriod::Month => Period::Month,
        BudgetPeriod::Year => Period::Year,
        BudgetPeriod::Total => Period::Total,
    };
    if period == Period::Total && carry_over.is_some() {
        report.error(&path.field("carry_over"), "there is no next period");
    }
    if alerts.len() > MOST_ALERTS || alerts.iter().any(|percent| !(1..=100).contains(percent)) {
        report.error(&path.field("alerts"), format!("at most {MOST_ALERTS} numbers from 1 to 100"));
    }
    let (max, unit) = match (count, tokens, money) {
        (Some(count), None, None) => (amount(*count, MAX_MAX, &path.field("count"), report), Unit::Count),
        (None, Some(tokens), None) => (amount(*tokens, MAX_MAX, &path.field("tokens"), report), Unit::Tokens),
        (None, None, Some(money)) => {
            if !(1..=MAX_MONEY).contains(&money.0) {
                report.error(&path.field("money"), "more than nothing, and at most a billion");
            }
            (Permits(money.0), Unit::NanoMoney)
        }
        _ => {
            report.hinted(path, "a budget is one of `count`, `tokens`, `money`", "write `money: 25.50`");
            return None;
        }
    };
    let share = carry_over.map_or(0.0, |share| share.0);
    let zone = self::zone(zone.as_ref(), &path.field("zone"), report);
    let mut alerts = alerts.clone();
    alerts.sort_unstable();
    alerts.dedup();
    let carry = part(max, share);
    Some((max, Kind::Budget(Budget { period, zone, unit, carry, alerts })))
}

/// In whole permits, and exact: of money each is a billionth.
fn part(of: Permits, share: f64) -> Permits {
    const WHOLE: u128 = 100_000_000;
    let parts = (share * WHOLE as f64).round() as u128;
    Permits(u64::try_from(u128::from(of.0) * parts / WHOLE).unwrap_or(of.0)).min(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_much_money_is_exact() {
        let much = Permits(9_007_199_254_740_993);
        assert_eq!((part(much, 1.0), part(much, 0.0)), (much, Permits::ZERO));
        assert_eq!(part(Permits(100), 0.29), Permits(29), "0.29 × 100 is 28.999999999999996");
        assert_eq!(part(Permits(7), 0.2), Permits(1));
        assert_eq!(part(Permits(MAX_MONEY), 0.333_333_33), Permits(333_333_330_000_000_000));
    }
}
