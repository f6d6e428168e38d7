//! What may be reused.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use tidegate_policy::{Cache, CacheKey, Cookies, Partition, QueryKey, Ttl};

use super::{Report, header};
use crate::document::{CacheKeyRule, CacheRule, CookieKind, PartitionKind, PostRule, TtlRule};
use crate::path::Path;
use crate::units::{Size, Span};

const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
const LARGEST: u64 = 1 << 30;
const MAX_TAGS: usize = 64;
const MAX_TAG: usize = 256;
const MAX_NAMES: usize = 64;
const POST_BODY: u64 = 64 << 10;
const LARGEST_POST: u64 = 1 << 20;

pub(super) fn compile(rule: &CacheRule, path: &Path<'_>, report: &Report<'_>) -> Cache {
    let CacheRule {
        ttl,
        max_object,
        stale_while_revalidate,
        stale_if_error,
        negative,
        tags,
        vary_limit,
        key,
        partition,
        cookies,
        post,
        heed_clients,
    } = rule;

    let standard = Cache::default();
    let max_object = max_object.map_or(standard.max_object, |Size(bytes)| bytes);
    if max_object == 0 || max_object > LARGEST {
        report.error(&path.field("max_object"), "1B to 1GiB");
    }
    let vary_limit = vary_limit.map_or(standard.vary_limit, |n| n as usize);
    if !(1..=1_000).contains(&vary_limit) {
        report.error(&path.field("vary_limit"), "1 to 1000");
    }
    Cache {
        ttl: match ttl {
            None | Some(TtlRule::FromOrigin) => Ttl::FromOrigin,
            Some(TtlRule::Fixed(span)) => Ttl::Fixed(bounded(*span, &path.field("ttl"), report)),
        },
        post: post.map(|rule| self::post(rule, &path.field("post"), report)),
        max_object,
        stale_while_revalidate: window(*stale_while_revalidate, &path.field("stale_while_revalidate"), report),
        stand_in: Duration::ZERO, // A matter of upstreams: `route` knows them.
        stale_if_error: window(*stale_if_error, &path.field("stale_if_error"), report),
        negative: self::negative(negative, &path.field("negative"), report),
        tags: self::tags(tags, &path.field("tags"), report),
        vary_limit,
        key: key.as_ref().map(|key| self::key(key, &path.field("key"), report)).unwrap_or_default(),
        partition: match partition {
            None | Some(PartitionKind::Auto) => Partition::Auto,
            Some(PartitionKind::Tenant) => Partition::Tenant,
            Some(PartitionKind::Consumer) => Partition::Consumer,
        },
        cookies: match cookies {
            None | Some(CookieKind::Explicit) => Cookies::Explicit,
            Some(CookieKind::Strip) => Cookies::Strip,
            Some(CookieKind::Store) => Cookies::Store,
        },
        heed_clients: heed_clients.unwrap_or(standard.heed_clients),
    }
}

fn post(PostRule { max_body }: PostRule, path: &Path<'_>, report: &Report<'_>) -> u64 {
    let most = max_body.map_or(POST_BODY, |Size(bytes)| bytes);
    if most == 0 || most > LARGEST_POST {
        report.error(&path.field("max_body"), "1B to 1MiB: it is held while it is looked up");
    }
    most
}

pub(super) fn bounded(span: Duration, path: &Path<'_>, report: &Report<'_>) -> Duration {
    if span > LONGEST {
        report.error(path, "at most 366d");
    }
    span
}

fn window(span: Option<Span>, path: &Path<'_>, report: &Report<'_>) -> Duration {
    span.map_or(Duration::ZERO, |Span(span)| bounded(span, path, report))
}

fn negative(rules: &BTreeMap<String, Span>, path: &Path<'_>, report: &Report<'_>) -> Vec<(StatusCode, Duration)> {
    let mut by_status = Vec::new();
    for (text, Span(span)) in rules {
        let field = path.field(text);
        let status = text.parse::<u16>().ok().filter(|n| (400..600).contains(n) && *n != 416);
        match status.and_then(|n| StatusCode::from_u16(n).ok()) {
            Some(status) => by_status.push((status, bounded(*span, &field, report))),
            None => {
                report.hinted(&field, "not the status of an error that can be kept", "write `404`, `410`, `503`, …")
            }
        }
    }
    by_status
}

pub(super) fn tags(texts: &[String], path: &Path<'_>, report: &Report<'_>) -> Vec<Box<str>> {
    if texts.len() > MAX_TAGS {
        report.error(path, format!("at most {MAX_TAGS}"));
    }
    for (i, text) in texts.iter().enumerate() {
        if text.is_empty() || text.len() > MAX_TAG || text.contains(|c: char| c.is_whitespace() || c == ',') {
            let hint = "1 to 256 bytes without spaces and commas, as in `Surrogate-Key`";
            report.hinted(&path.item(i), "not a tag", hint);
        }
    }
    texts.iter().map(|text| text.as_str().into()).collect()
}

fn key(rule: &CacheKeyRule, path: &Path<'_>, report: &Report<'_>) -> CacheKey {
    let CacheKeyRule { ignore_query, only_query, sort_query, headers } = rule;
    if !ignore_query.is_empty() && only_query.is_some() {
        report.hinted(&path.field("ignore_query"), "`only_query` leaves nothing to ignore", "keep one of the two");
    }
    let lists = [ignore_query.len(), only_query.as_ref().map_or(0, Vec::len), headers.len()];
    if lists.iter().any(|n| *n > MAX_NAMES) {
        report.error(path, format!("at most {MAX_NAMES} names in a list"));
    }
    let boxed = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
    let query = match only_query {
        Some(names) => QueryKey::Only(boxed(names)),
        None if *sort_query || !ignore_query.is_empty() => QueryKey::Sorted { ignore: boxed(ignore_query) },
        None => QueryKey::Exact,
    };
    CacheKey { query, headers: header::names(headers, &path.field("headers"), report) }
}
