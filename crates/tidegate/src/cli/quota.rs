//! `tidegate quota …`: counters of limits, and what operators order about them.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use tidegate_admin::wire::{
    GetQuota, OrderQuota, QuotaCount, QuotaEvent, QuotaHolder, QuotaOrder, QuotaOrdered, QuotaOrders, QuotaSubject,
    QuotaTop, QuotaTopEntry,
};
use tidegate_config::{RateText, Span};

use super::Output;
use super::client::{Ask, Client};
use super::document::Reading;
use super::exit::{Error, Exit};
use super::print::{self, either};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// How a counter stands: maximum, spent, held by which node, free, worst window, orders in force
    Get {
        /// As the document names it
        limit: String,
        #[command(flatten)]
        subject: Subject,
        #[command(flatten)]
        reading: Reading,
    },
    /// The busiest counters
    Top {
        /// Only of this limit
        #[arg(long)]
        limit: Option<String>,
        #[arg(long, value_name = "WHAT", default_value = "spent")]
        by: By,
        /// How many
        #[arg(short, value_name = "N", default_value_t = 20)]
        n: usize,
        /// Look again and again
        #[arg(long)]
        watch: bool,
        /// How often
        #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = Span::or_seconds, requires = "watch")]
        interval: Duration,
    },
    /// Orders in force: who ordered what, when, why and until when
    Ls {
        /// Those of before as well
        #[arg(long)]
        history: bool,
        #[command(flatten)]
        reading: Reading,
    },
    /// Give a limit, or one subject of it, another maximum, rate or burst than the document does
    Set {
        limit: String,
        #[command(flatten)]
        subject: Subject,
        /// Of a window, a calendar window, a budget, places
        #[arg(long, value_name = "N", conflicts_with_all = ["rate", "burst"])]
        #[arg(required_unless_present_any = ["rate", "burst"])]
        max: Option<u64>,
        /// Of a limit with a rate: 20/s, 600/m; the burst stays unless said
        #[arg(long, value_name = "RATE")]
        rate: Option<RateText>,
        /// Of a limit with a rate; the rate stays the document's unless said
        #[arg(long, value_name = "N")]
        burst: Option<u64>,
        #[command(flatten)]
        order: Order,
    },
    /// The document's maximum, rate and burst hold again
    Unset {
        limit: String,
        #[command(flatten)]
        subject: Subject,
    },
    /// Extra permits, once; good for one window unless said
    Grant {
        limit: String,
        /// How many
        permits: u64,
        #[command(flatten)]
        subject: Subject,
        #[command(flatten)]
        order: Order,
    },
    /// Take back what is left of extra permits
    Ungrant {
        limit: String,
        #[command(flatten)]
        subject: Subject,
    },
    /// Let the count of a limit, or of one subject of it, begin anew
    Reset {
        limit: String,
        #[command(flatten)]
        subject: Subject,
        /// Why: goes into the history
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Refuse a key, a consumer, or what a counter counts, with 403, on every node
    Block {
        /// Block what this limit counts, instead of a whole key or consumer
        limit: Option<String>,
        #[command(flatten)]
        subject: Subject,
        #[command(flatten)]
        order: Order,
    },
    /// Refuse no longer
    Unblock {
        limit: Option<String>,
        #[command(flatten)]
        subject: Subject,
    },
    /// Check the decision logs of all nodes: every window of every limit; needs no node
    Verify(crate::verify::Args),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Spent,
    Utilisation,
    /// Refused, or would have been
    Refused,
}

// Whom a limit counts: what its `per` names. (No doc comment: clap would show it as the command's own.)
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Subject: what the limit's `per` names; an empty NAME: those that have none")]
pub(crate) struct Subject {
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// As `key ls` shows it; 0: callers without a key
    #[arg(long, value_name = "ID")]
    key: Option<u64>,
    #[arg(long, value_name = "NAME")]
    end_user: Option<String>,
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    #[arg(long, value_name = "NAME")]
    product: Option<String>,
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// An address of the network
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Whose token has the claims
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Of a token; once for each value of a list
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, String)>,
}

fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a claim is NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a header is NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

// How long, and why.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Order")]
pub(crate) struct Order {
    /// How long it holds; default: until it is taken back
    #[arg(long = "for", value_name = "SPAN", value_parser = Span::or_seconds, conflicts_with = "until")]
    lives: Option<Duration>,
    /// Until when: 2026-11-20T18:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Why: goes into the history
    #[arg(long, default_value = "")]
    reason: String,
}

impl From<Subject> for QuotaSubject {
    fn from(subject: Subject) -> Self {
        let Subject {
            tenant,
            team,
            consumer,
            key,
            end_user,
            route,
            product,
            method,
            host,
            ip,
            model,
            headers,
            issuer,
            claims,
        } = subject;
        let headers = headers.into_iter().collect();
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in claims {
            values.entry(name).or_default().push(value);
        }
        let claims = values;
        Self { tenant, team, consumer, key, end_user, route, product, method, host, ip, model, headers, issuer, claims }
    }
}

/// What every order says.
fn order(limit: Option<String>, subject: Subject, permits: Option<u64>, order: Option<Order>) -> OrderQuota {
    let (lives, until, reason) =
        order.map_or((None, None, String::new()), |order| (order.lives, order.until, order.reason));
    // Less than a second is a second: nobody means none.
    let for_seconds = lives.map(|lives| lives.as_secs().max(1));
    OrderQuota { limit, subject: subject.into(), permits, for_seconds, until, reason, ..OrderQuota::default() }
}

pub(super) async fn run(client: &Client, verb: Verb, output: Output) -> Result<Exit, Error> {
    let (path, body) = match verb {
        Verb::Get { limit, subject, reading } => {
            let body = GetQuota { limit, subject: subject.into(), stale: reading.is_stale() };
            let count: QuotaCount = client.send(Ask::new(Method::POST, "/v1/quota/get").json(&body)).await?;
            either(output, &count, show);
            return Ok(Exit::Ok);
        }
        Verb::Top { limit, by, n, watch, interval } => {
            return top(client, limit, by, n, watch.then_some(interval), output).await;
        }
        Verb::Ls { history, reading } => {
            let orders: QuotaOrders = client.send(reading.of(Ask::new(Method::GET, "/v1/quota/orders"))).await?;
            either(output, &orders, |orders| list(orders, history));
            return Ok(Exit::Ok);
        }
        Verb::Set { limit, subject, max, rate, burst, order: how } => {
            let rate = rate.map(|rate| rate.to_string());
            ("set", OrderQuota { rate, burst, ..order(Some(limit), subject, max, Some(how)) })
        }
        Verb::Grant { limit, permits, subject, order: how } => {
            ("grant", order(Some(limit), subject, Some(permits), Some(how)))
        }
        Verb::Reset { limit, subject, reason } => {
            ("reset", OrderQuota { reason, ..order(Some(limit), subject, None, None) })
        }
        Verb::Block { limit, subject, order: how } => ("block", order(limit, subject, None, Some(how))),
        Verb::Unset { limit, subject } => ("unset", order(Some(limit), subject, None, None)),
        Verb::Ungrant { limit, subject } => ("ungrant", order(Some(limit), subject, None, None)),
        Verb::Unblock { limit, subject } => ("unblock", order(limit, subject, None, None)),
        Verb::Verify(_) => return Ok(Exit::Ok), // Asks no node: `cli::run` has done it.
    };
    let ask = Ask::new(Method::POST, &format!("/v1/quota/{path}")).json(&body).waiting(Duration::from_secs(15));
    let done: QuotaOrdered = client.send(ask).await?;
    either(output, &done, |done| {
        let back = if path.starts_with("un") { "taken back: " } else { "" };
        print::line(&format!("{back}{}", worded(&done.order)));
        if let Some(pending) = &done.pending {
            print::line(&format!("not in force yet: {}", print::clean(pending)));
        }
        if !done.complete {
            print::applied(&done.nodes);
        }
    });
    Ok(if done.complete { Exit::Ok } else { Exit::Incomplete })
}

async fn top(
    client: &Client,
    limit: Option<String>,
    by: By,
    n: usize,
    again: Option<Duration>,
    output: Output,
) -> Result<Exit, Error> {
    loop {
        let by = match by {
            By::Spent => "spent",
            By::Utilisation => "utilisation",
            By::Refused => "refused",
        };
        let mut ask = Ask::new(Method::GET, "/v1/quota/top").query("by", by).query("n", &n.to_string());
        if let Some(limit) = &limit {
            ask = ask.query("limit", limit);
        }
        let top: QuotaTop = client.send(ask).await?;
        if again.is_some() && output == Output::Table {
            print::clear();
        }
        either(output, &top, busiest);
        match again {
            None => return Ok(Exit::Ok),
            Some(interval) => tokio::time::sleep(interval).await,
        }
    }
}

fn show(count: &QuotaCount) {
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    let mut rows = vec![
        ["limit", &format!("{} ({}, {} ms)", count.limit, count.kind, count.span_ms)].map(str::to_owned).to_vec(),
        vec!["subject".to_owned(), if count.words.is_empty() { "everybody".to_owned() } else { count.words.clone() }],
    ];
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    let document =
        if count.max == count.document_max { String::new() } else { format!(" (document: {})", count.document_max) };
    row("max", format!("{}{document}", count.max));
    if let (Some(rate), Some(document)) = (&count.rate, &count.document_rate) {
        let other = if rate == document { String::new() } else { format!(" (document: {document})") };
        row("rate", format!("{rate}{other}"));
    }
    row("spent", format!("{} ({})", count.spent, percent(count.utilisation)));
    row("outstanding", count.outstanding.to_string());
    row("free", count.free.to_string());
    if count.extra > 0 {
        row("of that extra", count.extra.to_string());
    }
    row("worst window", format!("{} since {}", count.worst_window, count.worst_since));
    row("refused", format!("{}, would have been: {}", count.refused, count.would_refuse));
    row("ledger", format!("of node {}", count.node));
    print::table(&["counter", ""], rows);
    if !count.nodes.is_empty() {
        let row = |it: &QuotaHolder| vec![it.node.to_string(), it.lease.to_string(), it.reserve.to_string()];
        print::line("");
        print::table(&["node", "lease", "reserve"], count.nodes.iter().map(row).collect());
    }
    if !count.orders.is_empty() {
        print::line("");
        orders(&count.orders);
    }
}

fn busiest(top: &QuotaTop) {
    let row = |it: &QuotaTopEntry| {
        let subject = if it.words.is_empty() { format!("#{}", it.subject) } else { it.words.clone() };
        vec![
            if it.limit.is_empty() { it.limit_id.clone() } else { it.limit.clone() },
            subject,
            it.max.to_string(),
            it.spent.to_string(),
            format!("{:.1} %", it.utilisation * 100.0),
            it.outstanding.to_string(),
            it.refused.to_string(),
            it.would_refuse.to_string(),
        ]
    };
    let header = ["limit", "subject", "max", "spent", "used", "outstanding", "refused", "would refuse"];
    print::table(&header, top.counters.iter().map(row).collect());
}

fn list(all: &QuotaOrders, history: bool) {
    if all.orders.is_empty() {
        print::line("no orders are in force");
    } else {
        orders(&all.orders);
    }
    if history {
        print::line("");
        events(&all.events);
    }
}

fn orders(orders: &[QuotaOrder]) {
    let row = |it: &QuotaOrder| {
        vec![
            it.id.to_string(),
            it.order.clone(),
            print::or_dash(it.limit.as_ref()),
            if it.words.is_empty() { "all".to_owned() } else { it.words.clone() },
            print::or_dash(amount(it)),
            it.by.clone(),
            it.at.clone(),
            print::or_dash(it.until.as_ref()),
            it.reason.clone(),
        ]
    };
    let header = ["id", "order", "limit", "subject", "permits", "by", "at", "until", "reason"];
    print::table(&header, orders.iter().map(row).collect());
}

pub(super) fn events(events: &[QuotaEvent]) {
    let row = |it: &QuotaEvent| {
        vec![
            it.at.clone(),
            format!("{} {}", it.order.order, it.happened),
            print::or_dash(it.order.limit.as_ref()),
            if it.order.words.is_empty() { "all".to_owned() } else { it.order.words.clone() },
            print::or_dash(amount(&it.order)),
            it.by.clone(),
            it.order.reason.clone(),
        ]
    };
    print::table(&["at", "order", "limit", "subject", "permits", "by", "reason"], events.iter().map(row).collect());
}

/// How much is ordered.
fn amount(order: &QuotaOrder) -> Option<String> {
    match (&order.rate, order.permits) {
        (Some(rate), Some(burst)) => Some(format!("{rate}, burst {burst}")),
        (Some(rate), None) => Some(rate.clone()),
        (None, permits) => permits.map(|permits| permits.to_string()),
    }
}

/// One line about an order.
pub(super) fn worded(order: &QuotaOrder) -> String {
    let whom = match (&order.limit, order.words.as_str()) {
        (Some(limit), "") => limit.clone(),
        (Some(limit), words) => format!("{limit} of {words}"),
        (None, words) => words.to_owned(),
    };
    let what = match (order.order.as_str(), order.permits) {
        ("set", max) => match (amount(order), max) {
            (Some(much), None) => format!("rate {much}"),
            (Some(much), Some(_)) if order.rate.is_some() => format!("rate {much}"),
            (much, _) => format!("max {}", much.unwrap_or_default()),
        },
        ("grant", Some(permits)) => format!("{permits} extra permits"),
        ("reset", _) => "count begins anew".to_owned(),
        (other, _) => format!("{other}ed"),
    };
    let until = order.until.as_ref().map(|until| format!(" until {until}")).unwrap_or_default();
    let reason = if order.reason.is_empty() { String::new() } else { format!(" ({})", order.reason) };
    print::clean(&format!("{whom}: {what}, by {}{until}{reason}", order.by))
}
