//! One record as one line of the access log.

use std::cell::RefCell;
use std::time::Duration;

use http::Version;
use tidegate_model::Nanos;

use crate::json::{Object, after_the_point, key, number, string};
use crate::record::{Cut, Record, Side, Verdict};
use crate::redact;

/// Hardly a line is longer.
const LINE: usize = 1024;

pub(crate) fn write(out: &mut Vec<u8>, record: &Record, took: Nanos, ended: Nanos) {
    out.reserve(LINE);
    let mut line = Object::open(out);
    time(line.field(key!("time")), ended.saturating_sub(took));
    who(&mut line, record);
    what(&mut line, record, took);
    upstream(&mut line, record);
    if let Some(spoken) = &record.spoken {
        spoken.write(line.field(key!("llm")));
    }
    if !record.limits.is_empty() {
        limits(line.field(key!("limits")), record);
    }
    headers(&mut line, key!("request_headers"), record, Side::Request);
    headers(&mut line, key!("response_headers"), record, Side::Response);
    line.close();
    out.push(b'\n');
}

fn who(line: &mut Object<'_>, record: &Record) {
    if let Some(id) = &record.request_id {
        line.text(key!("request_id"), id.as_bytes());
    }
    if let Some(client) = record.client {
        address(line.field(key!("client")), client);
    }
    let route = record.route.and_then(|at| record.scene.route(at));
    match (record.consumer.and_then(|at| record.scene.consumer(at)), route) {
        (Some(consumer), _) => {
            line.word(key!("tenant"), &consumer.tenant);
            line.word(key!("consumer"), &consumer.name);
        }
        (None, Some(route)) => line.word(key!("tenant"), &route.tenant),
        (None, None) => {}
    }
    if let Some(key) = record.key {
        line.number(key!("key_id"), key.0);
    }
}

fn what(line: &mut Object<'_>, record: &Record, took: Nanos) {
    line.literal(key!("protocol"), protocol(record.version));
    if let Some(tls) = record.tls {
        line.literal(key!("tls"), tls);
    }
    line.text(key!("method"), record.method.as_str().as_bytes());
    if let Some(host) = &record.host {
        line.text(key!("host"), host.as_bytes());
    }
    if let Some(target) = &record.target {
        line.text(key!("path"), redact::target(target.as_str()).as_bytes());
    }
    if let Some(route) = record.route.and_then(|at| record.scene.route(at)) {
        line.word(key!("route"), &route.id);
    }
    line.number(key!("status"), u64::from(record.status));
    if let Some(code) = record.refusal {
        line.literal(key!("refusal"), code);
    }
    if let Some(cut) = record.cut {
        line.literal(key!("cut"), cut.name());
    }
    line.number(key!("bytes_in"), record.bytes_in);
    line.number(key!("bytes_out"), record.bytes_out);
    line.millis(key!("duration_ms"), took.0);
    if let Some(agent) = &record.user_agent {
        line.text(key!("user_agent"), agent.as_bytes());
    }
    if let Some(detail) = &record.detail {
        line.text(key!("detail"), redact::target(detail).as_bytes());
    }
}

fn upstream(line: &mut Object<'_>, record: &Record) {
    if let Some(cache) = record.cache {
        line.literal(key!("cache"), cache.name());
    }
    if let (Some(route), Some(target)) = (record.route, record.towards)
        && let Some(upstream) = record.scene.upstream(route, target)
    {
        line.word(key!("upstream"), upstream);
    }
    if let Some(endpoint) = &record.endpoint {
        line.word(key!("endpoint"), endpoint);
    }
    if record.attempts > 0 {
        line.number(key!("attempts"), u64::from(record.attempts));
    }
    if let Some(connect) = record.connect {
        line.millis(key!("connect_ms"), nanos(connect));
    }
    if let Some(first_byte) = record.first_byte {
        line.millis(key!("first_byte_ms"), nanos(first_byte));
    }
}

fn limits(out: &mut Vec<u8>, record: &Record) {
    out.push(b'[');
    for (index, standing) in record.limits.iter().enumerate() {
        let Some(of) = record.scene.limit(standing.limit) else { continue };
        if index > 0 {
            out.push(b',');
        }
        let mut limit = Object::open(out);
        limit.word(key!("name"), &of.name);
        limit.literal(key!("verdict"), standing.verdict.name());
        if let Some(remaining) = standing.remaining {
            limit.number(key!("remaining"), remaining.0);
        }
        limit.close();
    }
    out.push(b']');
}

/// Names are as the document wants them; several values of one are joined as HTTP joins them.
fn headers(line: &mut Object<'_>, field: &'static str, record: &Record, side: Side) {
    if !record.headers.iter().any(|(of, ..)| *of == side) {
        return;
    }
    let mut object = Object::open(line.field(field));
    let all: Vec<_> = record.headers.iter().filter(|(of, ..)| *of == side).collect();
    for (index, (_, name, value)) in all.iter().enumerate() {
        if all[..index].iter().any(|(_, seen, _)| seen == name) {
            continue;
        }
        let mut joined = redact::header(name, value).into_owned();
        for (_, _, more) in all[index + 1..].iter().filter(|(_, other, _)| other == name) {
            joined.extend_from_slice(b", ");
            joined.extend_from_slice(&redact::header(name, more));
        }
        object.named_text(name.as_str(), &joined);
    }
    object.close();
}

/// `"2026-11-20T11:02:03.004Z"`. The part down to the second is kept: it changes once a second.
fn time(out: &mut Vec<u8>, wall: Nanos) {
    thread_local!(static SECOND: RefCell<(u64, Vec<u8>)> = const { RefCell::new((u64::MAX, Vec::new())) });
    let (second, millis) = (wall.0 / 1_000_000_000, wall.0 / 1_000_000 % 1_000);
    out.push(b'"');
    SECOND.with_borrow_mut(|(known, text)| {
        if *known != second {
            let stamp = jiff::Timestamp::from_second(i64::try_from(second).unwrap_or(0)).unwrap_or_default();
            *known = second;
            *text = stamp.to_string().trim_end_matches('Z').as_bytes().to_vec();
        }
        out.extend_from_slice(text);
    });
    out.extend_from_slice(&after_the_point(millis));
    out.extend_from_slice(b"Z\"");
}

fn address(out: &mut Vec<u8>, client: std::net::IpAddr) {
    match client {
        std::net::IpAddr::V4(v4) => {
            out.push(b'"');
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                number(out, u64::from(octet));
            }
            out.push(b'"');
        }
        std::net::IpAddr::V6(v6) => string(out, v6.to_string().as_bytes()),
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

impl Verdict {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::WouldRefuse => "would_refuse",
            Self::Unsafe => "unsafe",
        }
    }
}

impl Cut {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Timeout => "timeout",
            Self::Shutdown => "shutdown",
            Self::Limit => "limit",
        }
    }
}
