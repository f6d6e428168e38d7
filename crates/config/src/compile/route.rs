//! Routes.

use std::sync::Arc;
use std::time::Duration;

use tidegate_llm::catalogue::Catalogue;
use tidegate_policy::defaults::{MAX_BODY, MAX_LLM_BODY, MAX_MAX_BODY, MIN_BODY_RATE};
use tidegate_policy::{Action, Cache, Compression, HeaderEdits, Model, Provider, Route, Timeouts, Upstream};

use super::attach::Limits;
use super::holder::Holders;
use super::issuer::{self, Issuers};
use super::matching::{self, Matching, Regexes};
use super::secret::Secrets;
use super::{Names, Report, action, cache, compression, cors, header, name, overload, upstream};
use crate::document::{RouteRule, RouteTimeouts};
use crate::path::Path;
use crate::units::Size;

/// What a node reads of a call before it knows where it goes.
const MOST_READ: u64 = 256 << 20;

/// What routes refer to.
pub(super) struct World<'a> {
    pub(super) issuers: &'a Issuers<'a>,
    pub(super) limits: &'a Limits<'a>,
    pub(super) holders: &'a Holders<'a>,
    pub(super) upstreams: &'a Names<'a>,
    pub(super) built: &'a [Option<Arc<Upstream>>],
    pub(super) model_names: &'a Names<'a>,
    pub(super) models: &'a [Option<Arc<Model>>],
    pub(super) known: &'a Arc<Catalogue>,
    pub(super) providers: (&'a Names<'a>, &'a [Option<Arc<Provider>>]),
    pub(super) secrets: &'a Secrets<'a>,
    pub(super) regexes: Regexes,
    /// Of routes that say nothing about it.
    pub(super) compression: Option<Arc<Compression>>,
}

/// By position; `None` where a route cannot be built.
pub(super) fn compile(rules: &[RouteRule], world: &World<'_>, report: &Report<'_>) -> Vec<Option<Arc<Route>>> {
    let list = Path::Root.field("routes");
    rules.iter().enumerate().map(|(i, rule)| one(rule, world, &list.item(i), report).map(Arc::new)).collect()
}

fn one(rule: &RouteRule, world: &World<'_>, path: &Path<'_>, report: &Report<'_>) -> Option<Route> {
    let RouteRule {
        name,
        tenant,
        matches,
        priority,
        to,
        redirect: _, // These four and `to` in `action`.
        respond: _,
        llm,
        rewrite: _,
        auth,
        claims: _, // In `issuer`.
        limits: _, // These three in `holder`.
        weights: _,
        end_user: _,
        cors,
        request_headers,
        response_headers,
        timeouts,
        max_body,
        min_body_rate,
        upgrade,
        early_hints,
        grpc_web,
        decompress,
        compression,
        class,
        cache,
    } = rule;
    name::check(tenant, &path.field("tenant"), report);
    let matching = matching::compile(matches, &world.regexes, &path.field("match"), report);
    let auth = world.issuers.auth(auth, &path.field("auth"), report);
    let claims = issuer::claims(rule, path, report);
    let action = action::compile(rule, matching.as_ref(), world, path, report);
    let limits = world.holders.route(rule, world.limits, path, report);
    let methods = matching.as_ref().map(|m| m.methods.as_slice()).unwrap_or_default();
    let cors = cors.as_ref().map(|rule| cors::compile(rule, methods, &path.field("cors"), report));
    let edits = |changes: &Option<_>, secrets, field| {
        changes.as_ref().map(|c| header::edits(c, secrets, &path.field(field), report)).unwrap_or_default()
    };
    let request_headers: HeaderEdits = edits(request_headers, Some(world.secrets), "request_headers");
    let response_headers = edits(response_headers, None, "response_headers");
    for (set, field, of_llm) in [
        (!request_headers.0.is_empty(), "request_headers", true),
        (timeouts.is_some(), "timeouts", true),
        (*upgrade, "upgrade", false),
        (*early_hints, "early_hints", false),
        (*grpc_web, "grpc_web", false),
        (*decompress, "decompress", false),
        (cache.is_some(), "cache", false),
    ] {
        if set && to.is_empty() && !(of_llm && llm.is_some()) {
            report.error(&path.field(field), "means nothing without `to`");
        }
    }
    if *grpc_web && cache.is_some() {
        report.hinted(
            &path.field("grpc_web"),
            "not together with `cache`",
            "calls of gRPC are never kept: use a route of its own",
        );
    }
    let usual = if llm.is_some() { MAX_LLM_BODY } else { MAX_BODY };
    let max_body = max_body.map_or(usual, |Size(bytes)| bytes);
    if llm.is_some() && max_body > MOST_READ {
        report.hinted(
            &path.field("max_body"),
            "at most 256MiB with `llm`",
            "calls of models are read before they go on",
        );
    }
    if max_body > MAX_MAX_BODY {
        report.error(&path.field("max_body"), "at most 64GiB");
    }
    let timeouts = timeouts.as_ref().map(|t| self::timeouts(t, &path.field("timeouts"), report)).unwrap_or_default();
    let compression = match compression {
        Some(rule) => compression::compile(rule, &path.field("compression"), report).map(Arc::new),
        None => world.compression.clone(),
    };
    let cache = cache.as_ref().map(|rule| {
        let stand_in = action.as_ref().map(stand_in).unwrap_or_default();
        Arc::new(Cache { stand_in, ..cache::compile(rule, &path.field("cache"), report) })
    });
    let Matching { hosts, path: pattern, captures: _, methods, headers, query } = matching?;
    Some(Route {
        id: name.as_str().into(),
        tenant: tenant.as_str().into(),
        hosts: hosts.into(),
        path: pattern,
        methods,
        headers: headers.into(),
        query: query.into(),
        priority: *priority,
        action: action?,
        auth,
        claims: claims.into(),
        claim_headers: Arc::clone(&world.issuers.headers),
        limits: limits.into(),
        cors: cors.map(Box::new),
        request_headers: request_headers.into(),
        response_headers: response_headers.into(),
        timeouts: timeouts.into(),
        max_body,
        min_body_rate: min_body_rate.unwrap_or(MIN_BODY_RATE),
        upgrade: *upgrade,
        early_hints: *early_hints,
        grpc_web: *grpc_web,
        decompress: *decompress,
        compression,
        class: class.map(overload::class),
        cache,
    })
}

/// How long what is stored may stand in for one of its upstreams.
fn stand_in(action: &Action) -> Duration {
    let Action::Forward { to, .. } = action else { return Duration::ZERO };
    to.iter().filter_map(|target| target.upstream.breaker.as_ref()?.stored).max().unwrap_or_default()
}

fn timeouts(rule: &RouteTimeouts, path: &Path<'_>, report: &Report<'_>) -> Timeouts {
    let RouteTimeouts { total, first_byte } = rule;
    Timeouts {
        total: upstream::span(*total, &path.field("total"), report),
        first_byte: upstream::span(*first_byte, &path.field("first_byte"), report),
    }
}
