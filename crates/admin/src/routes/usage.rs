//! What language models were used, summed up as somebody asks.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use jiff::civil::Date;
use serde::Deserialize;
use tidegate_model::Millis;
use tidegate_state::Usage;
use tidegate_state::usage::{Amounts, Key};

use crate::AppState;
use crate::access::wall_clock;
use crate::input::Ask;
use crate::refusal::Refusal;
use crate::wire::{ErrorReply, UsageAmounts, UsageProjection, UsageReply, UsageRow};

const DAY: u64 = 86_400_000;
/// What rows can be told by.
const DIMENSIONS: [&str; 7] = ["day", "tenant", "team", "consumer", "route", "model", "provider"];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) by: Option<String>,
    pub(crate) since: Option<String>,
    pub(crate) until: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) team: Option<String>,
    pub(crate) consumer: Option<String>,
    pub(crate) route: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) provider: Option<String>,
    #[serde(default)]
    pub(crate) stale: bool,
}

/// What language models were used, by day and by whom
///
/// Nodes report every few seconds. Days are of UTC and kept for 400 days.
#[utoipa::path(get, path = "/v1/usage", tag = "usage",
    params(("by" = Option<String>, Query, description = "`day`, `tenant`, `team`, `consumer`, `route`, `model`, `provider`, with commas between them; default: `model`"),
        ("since" = Option<String>, Query, description = "First day, `2026-11-01`, or so many days until now, `7d`; default: the first of this month"),
        ("until" = Option<String>, Query, description = "Last day; default: today"),
        ("tenant" = Option<String>, Query, description = "Only of this tenant"),
        ("team" = Option<String>, Query, description = "Only of this team"),
        ("consumer" = Option<String>, Query, description = "Only of this consumer"),
        ("route" = Option<String>, Query, description = "Only of this route"),
        ("model" = Option<String>, Query, description = "Only of this model, by its name in the document"),
        ("provider" = Option<String>, Query, description = "Only of this provider"),
        ("stale" = Option<bool>, Query, description = "What this node has, without asking whether there is newer")),
    responses((status = 200, body = UsageReply), (status = 400, body = ErrorReply), (status = 503, body = ErrorReply)))]
pub(super) async fn list(State(state): State<AppState>, Ask(asked): Ask<Asked>) -> Result<Json<UsageReply>, Refusal> {
    Ok(Json(told(&state, &asked).await?))
}

/// By whichever door somebody asks.
pub(crate) async fn told(state: &AppState, asked: &Asked) -> Result<UsageReply, Refusal> {
    let now = wall_clock();
    let by = dimensions(asked.by.as_deref())?;
    let today = date(day_of(now));
    let since = asked.since.as_deref().map_or(Ok(today.first_of_month()), |text| day(text, today))?;
    let until = asked.until.as_deref().map_or(Ok(today), |text| day(text, today))?;
    if until < since {
        return Err(Refusal::BadRequest(format!("since is {since} and until is {until}: nothing is in between")));
    }
    super::document::newest(state, asked.stale).await?;
    let span = (number(since), number(until));
    Ok(state.backend.read(|agreed| reply(&agreed.usage, asked, &by, span, now)))
}

fn dimensions(text: Option<&str>) -> Result<Vec<&'static str>, Refusal> {
    let mut by = Vec::new();
    for word in text.unwrap_or("model").split(',').map(str::trim) {
        let known = DIMENSIONS.into_iter().find(|known| *known == word);
        let known = known.ok_or_else(|| {
            Refusal::BadRequest(format!("usage is told by {}, not by `{word}`", DIMENSIONS.join(", ")))
        })?;
        if !by.contains(&known) {
            by.push(known);
        }
    }
    Ok(by)
}

/// `2026-11-01`, or `7d`: today and the six days before it.
fn day(text: &str, today: Date) -> Result<Date, Refusal> {
    let back = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok()).filter(|days| (1..=400).contains(days));
    let date = match back {
        Some(days) => today.checked_sub(jiff::Span::new().days(days - 1)).ok(),
        None => text.parse().ok(),
    };
    date.ok_or_else(|| Refusal::BadRequest(format!("`{text}` is no day: write `2026-11-01`, or `7d`")))
}

fn reply(usage: &Usage, asked: &Asked, by: &[&'static str], (since, until): (u32, u32), now: Millis) -> UsageReply {
    let mut rows: BTreeMap<Vec<String>, Amounts> = BTreeMap::new();
    let mut total = Amounts::default();
    for (day, key, amounts) in usage.rows().filter(|(day, key, _)| (since..=until).contains(day) && asked.wants(key)) {
        let of = by.iter().map(|dimension| value(dimension, day, key)).collect();
        rows.entry(of).or_default().add(amounts);
        total.add(amounts);
    }
    UsageReply {
        since: date(since).to_string(),
        until: date(until).to_string(),
        by: by.iter().map(|dimension| (*dimension).to_owned()).collect(),
        rows: rows.into_iter().map(|(of, amounts)| row(by, of, &amounts)).collect(),
        total: sums(&total),
        projections: projections(usage, asked, now),
        coarse_until: usage.coarse_days().last().map(|day| date(day).to_string()),
    }
}

impl Asked {
    fn wants(&self, key: &Key) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is(&self.tenant, &key.tenant)
            && is(&self.team, &key.team)
            && is(&self.consumer, &key.consumer)
            && is(&self.route, &key.route)
            && is(&self.model, &key.model)
            && is(&self.provider, &key.provider)
    }
}

fn value(dimension: &str, day: u32, key: &Key) -> String {
    match dimension {
        "day" => date(day).to_string(),
        "tenant" => key.tenant.clone(),
        "team" => key.team.clone(),
        "consumer" => key.consumer.clone(),
        "route" => key.route.clone(),
        "model" => key.model.clone(),
        _ => key.provider.clone(),
    }
}

fn row(by: &[&'static str], values: Vec<String>, amounts: &Amounts) -> UsageRow {
    let mut row = UsageRow { used: sums(amounts), ..UsageRow::default() };
    for (dimension, value) in by.iter().zip(values) {
        let field = match *dimension {
            "day" => &mut row.day,
            "tenant" => &mut row.tenant,
            "team" => &mut row.team,
            "consumer" => &mut row.consumer,
            "route" => &mut row.route,
            "model" => &mut row.model,
            _ => &mut row.provider,
        };
        *field = Some(value);
    }
    row
}

fn sums(amounts: &Amounts) -> UsageAmounts {
    let Amounts { calls, failed, estimated, unpriced, tokens, cost_nanos } = *amounts;
    UsageAmounts {
        calls,
        failed,
        estimated,
        unpriced,
        input_tokens: tokens.input,
        cache_read_tokens: tokens.cache_read,
        cache_write_tokens: tokens.cache_write,
        output_tokens: tokens.output,
        reasoning_tokens: tokens.reasoning,
        audio_in_tokens: tokens.audio_in,
        image_in_tokens: tokens.image_in,
        audio_out_tokens: tokens.audio_out,
        image_out_tokens: tokens.image_out,
        total_tokens: total_tokens(amounts),
        cost_nanos,
        cost: dollars(cost_nanos),
    }
}

fn total_tokens(amounts: &Amounts) -> u64 {
    let of = &amounts.tokens;
    let ins = [of.input, of.cache_read, of.cache_write, of.audio_in, of.image_in];
    let outs = [of.output, of.reasoning, of.audio_out, of.image_out];
    ins.into_iter().chain(outs).fold(0, u64::saturating_add)
}

/// As many decimals as it takes.
fn dollars(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What was used so far in the period, and what it comes to if it goes on as it did since the period began.
fn projections(usage: &Usage, asked: &Asked, now: Millis) -> Vec<UsageProjection> {
    let today = date(day_of(now));
    let spans = [("day", today, today), ("month", today.first_of_month(), today.last_of_month())];
    let project = |(period, first, last): (&str, Date, Date)| {
        let (first, end) = (number(first), number(last));
        let mut sum = Amounts::default();
        let wanted = usage.rows().filter(|(day, key, _)| (first..=end).contains(day) && asked.wants(key));
        wanted.for_each(|(.., amounts)| sum.add(amounts));
        let whole = u128::from(end - first + 1) * u128::from(DAY);
        let gone = u128::from(now.0.saturating_sub(u64::from(first) * DAY)).clamp(1, whole);
        let grown = |so_far: u64| u64::try_from(u128::from(so_far) * whole / gone).unwrap_or(u64::MAX);
        UsageProjection {
            period: period.to_owned(),
            until: last.to_string(),
            calls: sum.calls,
            total_tokens: total_tokens(&sum),
            cost_nanos: sum.cost_nanos,
            projected_calls: grown(sum.calls),
            projected_tokens: grown(total_tokens(&sum)),
            projected_cost_nanos: grown(sum.cost_nanos),
            projected_cost: dollars(grown(sum.cost_nanos)),
        }
    };
    spans.into_iter().map(project).collect()
}

fn day_of(at: Millis) -> u32 {
    u32::try_from(at.0 / DAY).unwrap_or(u32::MAX)
}

const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// Days beyond what calendars tell are their last.
fn date(day: u32) -> Date {
    EPOCH.checked_add(jiff::Span::new().days(i64::from(day.min(2_900_000)))).unwrap_or(Date::MAX)
}

fn number(date: Date) -> u32 {
    let days = date.since(EPOCH).map_or(0, |span| span.get_days());
    u32::try_from(days).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use tidegate_model::NodeId;
    use tidegate_state::usage::{Report, Row, Tokens};
    use tidegate_state::{Addresses, ClusterId, Command, Form, Proposal, RequestId, State};

    use super::*;

    /// Noon of 2026-11-20.
    const NOON: Millis = Millis(1_795_176_000_000);

    fn agreed(rows: Vec<Row>) -> State {
        let mut state = State::default();
        let form = Form {
            cluster: ClusterId(7),
            name: "one".into(),
            addresses: Addresses::default(),
            feature_level: 2,
            ca: Vec::new(),
            sealed_ca_key: Vec::new(),
            public_key: [0; 32],
            admin_token: [0; 32],
        };
        let report = Report { node: NodeId(1), life: 1, number: 1, rows };
        for (n, command) in [Command::Form(form), Command::ReportUsage(report)].into_iter().enumerate() {
            state.apply(0, &Proposal { request: RequestId(n as u128 + 1), at: NOON, command, by: None });
        }
        state
    }

    fn row(day: u32, consumer: &str, model: &str, cost_nanos: u64) -> Row {
        let key = Key { tenant: "t".into(), consumer: consumer.into(), model: model.into(), ..Key::default() };
        let tokens = Tokens { input: 3, output: 4, ..Tokens::default() };
        Row { day, key, amounts: Amounts { calls: 2, tokens, cost_nanos, ..Amounts::default() } }
    }

    #[test]
    fn days_are_read_and_told_as_people_write_them() {
        let today = date(day_of(NOON));
        assert_eq!((today.to_string(), date(number(today))), ("2026-11-20".to_owned(), today));
        assert_eq!(day("7d", today).unwrap().to_string(), "2026-11-14");
        assert_eq!(day("2026-02-28", today).unwrap().to_string(), "2026-02-28");
        for wrong in ["", "d", "0d", "401d", "2026-02-30", "yesterday"] {
            assert!(day(wrong, today).is_err(), "{wrong}");
        }
        assert!(dimensions(Some("model,colour")).is_err());
        assert_eq!(dimensions(Some("day, model,day")).unwrap(), ["day", "model"]);
    }

    #[test]
    fn rows_are_summed_by_what_is_asked_and_the_pace_is_told() {
        let today = day_of(NOON);
        let state = agreed(vec![
            row(today, "ann", "fast", 500_000_000),
            row(today, "bob", "fast", 250_000_000),
            row(today - 1, "ann", "large", 1_200_000_000),
            row(today - 40, "ann", "large", 9_000_000_000),
        ]);
        let ask = |by: &[&'static str], asked: Asked| reply(&state.usage, &asked, by, (today - 19, today), NOON);
        let all = ask(&["model"], Asked::default());
        let told: Vec<_> = all.rows.iter().map(|row| (row.model.as_deref().unwrap(), row.used.cost.as_str())).collect();
        assert_eq!(told, [("fast", "0.75"), ("large", "1.2")]);
        assert_eq!((all.total.calls, all.total.total_tokens, all.total.cost.as_str()), (6, 21, "1.95"));
        let ann = ask(&["day"], Asked { consumer: Some("ann".into()), ..Asked::default() });
        assert_eq!(
            ann.rows.iter().map(|row| row.day.as_deref().unwrap()).collect::<Vec<_>>(),
            ["2026-11-19", "2026-11-20"]
        );
        // Half of the day is over, and 19.5 of the month's 30 days.
        let [day, month] = &all.projections[..] else { panic!("two") };
        assert_eq!((day.projected_cost.as_str(), day.projected_calls), ("1.5", 8));
        assert_eq!((month.until.as_str(), month.projected_cost_nanos), ("2026-11-30", 1_950_000_000 * 60 / 39));
    }
}
