//! Providers, the names of models, and routes of them.

use std::sync::{Arc, OnceLock};

use http::{HeaderName, HeaderValue, Uri};
use tidegate_policy::defaults::{PROVIDER_CONNECTIONS, PROVIDER_FIRST_BYTE, PROVIDER_IDLE};
use tidegate_policy::{CallerKeys, Cost, Llm, Model, Provider, ProviderKind, Unpriced};

use super::route::World;
use super::secret::Secrets;
use super::{Names, Report, answers, credential, header, upstream};
use crate::decode::short;
use crate::document::{
    self, CallerKeyRule, EndpointAddress, HangUp, LlmRule, ProviderRule, RouteRule, UpstreamRule, UpstreamTimes,
};
use crate::inputs::Inputs;
use crate::path::Path;
use crate::units::Span;

/// Names of headers in one list.
const MOST_HEADERS: usize = 64;

/// By position; `None` where one cannot be built.
pub(super) fn providers(
    rules: &[ProviderRule],
    upstreams: &Names<'_>,
    secrets: &Secrets<'_>,
    inputs: &Inputs,
    report: &Report<'_>,
) -> Vec<Option<Arc<Provider>>> {
    let list = Path::Root.field("providers");
    let each = rules.iter().enumerate().map(|(i, rule)| {
        let path = list.item(i);
        if upstreams.has(&rule.name) {
            let reason = format!("an upstream is named `{}` already", short(&rule.name));
            report.hinted(&path.field("name"), reason, "a provider is an upstream too: rename one");
        }
        provider(rule, secrets, inputs, &path, report).map(Arc::new)
    });
    each.collect()
}

fn provider(
    rule: &ProviderRule,
    secrets: &Secrets<'_>,
    inputs: &Inputs,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Provider> {
    let ProviderRule {
        name,
        kind,
        url,
        key: _, // These four in `credential`.
        token: _,
        aws: _,
        google: _,
        api_version,
        caller_keys,
        caller_headers,
        timeouts,
        first_event,
        retries,
        max_connections,
        tls,
        breaker,
        overload,
    } = rule;
    let kind = self::kind(*kind);
    if let Some(breaker) = breaker {
        let idle = [
            (breaker.fallback.is_some(), "fallback"),
            (breaker.respond.is_some(), "respond"),
            (breaker.stored.is_some(), "stored"),
        ];
        for (_, field) in idle.into_iter().filter(|(set, _)| *set) {
            let hint = "give the model a second deployment";
            report.hinted(&path.field("breaker").field(field), "means nothing for a provider", hint);
        }
    }
    let usual = credential::place(rule, kind, path, report);
    let place = place(url.as_deref().or(usual.as_ref().map(|(url, _)| url.as_str())), kind, &path.field("url"), report);
    let credential = credential::compile(rule, kind, url.as_deref(), secrets, path, report);
    let api_version = self::api_version(api_version.as_deref(), kind, &path.field("api_version"), report);
    let first_event = upstream::span(*first_event, &path.field("first_event"), report);
    let times = timeouts.clone().unwrap_or_default();
    let (place, base) = place?;
    let has_path = url.as_ref().and_then(|url| url.parse::<Uri>().ok()).is_some_and(|uri| uri.path() != "/");
    let base = match usual {
        Some((_, usual)) if !usual.is_empty() && !has_path => usual,
        _ if api_version.is_some() && !has_path => "/openai".to_owned(),
        _ => base,
    };
    let caller_keys = match caller_keys {
        CallerKeyRule::Never => CallerKeys::Never,
        CallerKeyRule::May => CallerKeys::May,
        CallerKeyRule::Must => CallerKeys::Must,
    };
    let rule = UpstreamRule {
        name: name.clone(),
        endpoints: vec![EndpointAddress {
            url: Some(place.clone()),
            dns: None,
            srv: None,
            file: None,
            port: None,
            https: false,
            weight: 1,
        }],
        balance: document::BalanceKind::default(),
        protocol: document::ProtocolKind::default(),
        timeouts: Some(UpstreamTimes {
            first_byte: times.first_byte.or(Some(Span(PROVIDER_FIRST_BYTE))),
            idle: times.idle.or(Some(Span(PROVIDER_IDLE))),
            ..times
        }),
        retries: retries.clone(),
        max_connections: max_connections.or(Some(PROVIDER_CONNECTIONS)),
        max_idle: None,
        idle_timeout: None,
        tls: tls.clone(),
        health: None,
        proxy_protocol: None,
        breaker: breaker.clone(),
        overload: overload.clone(),
        hedge: None,
    };
    let upstream = Arc::new(upstream::one(&rule, inputs, path, report));
    let authority = place.split_once("://").map_or("", |(_, authority)| authority);
    let host = HeaderValue::from_str(authority).ok()?;
    Some(Provider {
        name: name.as_str().into(),
        kind,
        upstream,
        host,
        base: base.into(),
        credential,
        caller_keys,
        caller_headers: along(caller_headers, &path.field("caller_headers"), report),
        api_version,
        first_event,
        chat: OnceLock::new(),
    })
}

/// Headers of callers that go to a provider: none that proves who calls.
fn along(texts: &[String], path: &Path<'_>, report: &Report<'_>) -> Vec<HeaderName> {
    const PROOFS: [&str; 6] = ["authorization", "cookie", "x-api-key", "x-goog-api-key", "api-key", "accept-encoding"];
    if texts.len() > MOST_HEADERS {
        report.error(path, format!("has {} names; at most {MOST_HEADERS}", texts.len()));
    }
    let mut names = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let path = path.item(i);
        let Some(name) = header::changeable(text, &path, report) else { continue };
        if PROOFS.contains(&name.as_str()) || name.as_str().starts_with("x-tidegate-") {
            let reason = format!("`{name}` is between the caller and the gate");
            report.hinted(&path, reason, "for a caller's own key of the provider's use `caller_keys`");
        }
        names.push(name);
    }
    names
}

fn api_version(text: Option<&str>, kind: ProviderKind, path: &Path<'_>, report: &Report<'_>) -> Option<Box<str>> {
    let text = text?;
    if kind != ProviderKind::Azure {
        report.error(path, "means nothing but for `azure`");
    }
    if text.is_empty() || text.len() > 64 || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        report.hinted(path, format!("`{}` is no version", short(text)), "write `2024-10-21`");
    }
    Some(text.into())
}

pub(crate) fn kind(kind: document::ProviderKind) -> ProviderKind {
    use document::ProviderKind as Named;
    match kind {
        Named::OpenAi => ProviderKind::OpenAi,
        Named::Azure => ProviderKind::Azure,
        Named::Anthropic => ProviderKind::Anthropic,
        Named::Gemini => ProviderKind::Gemini,
        Named::Vertex => ProviderKind::Vertex,
        Named::VertexAnthropic => ProviderKind::VertexAnthropic,
        Named::Bedrock => ProviderKind::Bedrock,
        Named::Mistral => ProviderKind::Mistral,
        Named::Cohere => ProviderKind::Cohere,
        Named::Groq => ProviderKind::Groq,
        Named::DeepSeek => ProviderKind::DeepSeek,
        Named::Xai => ProviderKind::Xai,
        Named::OpenRouter => ProviderKind::OpenRouter,
        Named::HuggingFace => ProviderKind::HuggingFace,
        Named::Ollama => ProviderKind::Ollama,
        Named::Vllm => ProviderKind::Vllm,
        Named::Qianfan => ProviderKind::Qianfan,
        Named::Qwen => ProviderKind::Qwen,
        Named::OpenAiCompatible => ProviderKind::OpenAiCompatible,
    }
}

/// Scheme and authority, and the path before all others.
fn place(url: Option<&str>, kind: ProviderKind, path: &Path<'_>, report: &Report<'_>) -> Option<(String, String)> {
    const SHAPE: &str = "write `https://api.example.com/v1`";
    let Some(given) = url.or(kind.url()) else {
        report.hinted(path, "this kind of provider is somewhere else for everybody", SHAPE);
        return None;
    };
    let place = given.parse::<Uri>().ok().and_then(|uri| {
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        let sane = matches!(scheme, "http" | "https") && uri.query().is_none() && !authority.as_str().contains('@');
        let base = if uri.path() == "/" { kind.base() } else { uri.path().trim_end_matches('/') };
        sane.then(|| (format!("{scheme}://{authority}"), base.to_owned()))
    });
    // What an endpoint's address has to be is checked here, so that the problem is told at the field that has it.
    let place = place.filter(|(address, _)| upstream::parse_url(address).is_ok());
    if place.is_none() {
        report.hinted(path, format!("`{}` is not the address of a provider", short(given)), SHAPE);
    }
    place
}

/// Names that callers may write: those of the houses have slashes, colons and dots.
pub(super) fn check_model(name: &str, path: &Path<'_>, report: &Report<'_>) {
    let stem = name.strip_suffix('*').unwrap_or(name);
    let sane = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ':' | '+' | '/');
    if name.is_empty() || name.len() > 128 || !stem.chars().all(sane) {
        let reason = format!("`{}` cannot be the name of a model", short(name));
        report.hinted(path, reason, "1 to 128 letters, digits and `-_.@:+/`, and maybe a `*` at the end");
    }
}

/// Of the models that a route serves: those that somebody may use.
pub(super) fn allowed(
    names: Option<&[String]>,
    known: &Names<'_>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Vec<Arc<str>>> {
    let names = names?;
    known.find_all(names, path, report);
    Some(names.iter().map(|name| name.as_str().into()).collect())
}

/// What a route serves.
pub(super) fn route(rule: &LlmRule, world: &World<'_>, path: &Path<'_>, report: &Report<'_>) -> Option<Llm> {
    let LlmRule { models: listed, native, tell_cost, hang_up, cache, log_bodies } = rule;
    let (names, models) = (world.model_names, world.models);
    let (provider_names, all) = world.providers;
    let answers = cache.as_ref().and_then(|rule| answers::compile(rule, &path.field("cache"), report));
    let bodies = log_bodies.as_ref().map(|rule| answers::bodies(rule, &path.field("log_bodies"), report));
    if listed.is_empty() && native.is_empty() {
        report.hinted(&path.field("models"), "no model is served", "name one of `models`");
    }
    let found = names.find_all(listed, &path.field("models"), report);
    let models: Vec<Arc<Model>> = found.iter().filter_map(|at| models[*at].clone()).collect();
    let mut providers: Vec<Arc<Provider>> = Vec::new();
    let mut left: Vec<&Arc<Model>> = models.iter().collect();
    let mut seen: Vec<&Arc<Model>> = Vec::new();
    while let Some(model) = left.pop() {
        if seen.iter().any(|known| Arc::ptr_eq(known, model)) {
            continue;
        }
        seen.push(model);
        left.extend(model.leads_to());
        for deployment in &model.deployments {
            if !providers.iter().any(|known| Arc::ptr_eq(known, &deployment.provider)) {
                providers.push(Arc::clone(&deployment.provider));
            }
        }
    }
    let found = provider_names.find_all(native, &path.field("native"), report);
    let natives: Vec<Arc<Provider>> = found.iter().filter_map(|at| all[*at].clone()).collect();
    for provider in &natives {
        if !providers.iter().any(|known| Arc::ptr_eq(known, provider)) {
            providers.push(Arc::clone(provider));
        }
    }
    let is_whole = models.len() == listed.len() && natives.len() == native.len();
    let tells_cost = *tell_cost;
    (is_whole && !providers.is_empty()).then_some(Llm {
        models,
        providers,
        native: natives.iter().map(|provider| Arc::new(Model::native(provider, world.known))).collect(),
        tells_cost,
        drains: matches!(hang_up, HangUp::Drain),
        answers,
        bodies,
    })
}

/// A limit of money on a route whose model has no price would refuse each of its calls.
pub(super) fn priced(llm: &Llm, rule: &RouteRule, world: &World<'_>, path: &Path<'_>, report: &Report<'_>) {
    let asks = |name: &String| {
        let limit = world.limits.listed(name);
        limit.is_some_and(|limit| limit.cost == Cost::Money { unpriced: Unpriced::Refuse })
    };
    let Some(limit) = rule.limits.iter().find(|name| asks(name)) else { return };
    for (i, model) in llm.models.iter().enumerate().filter(|(_, model)| model.stem().is_none()) {
        for to in model.reach().into_iter().filter(|to| to.tariff(&model.name).is_none()) {
            let at = to.model(&model.name);
            let reason =
                format!("`{limit}` counts money, and what `{at}` costs at `{}` is not known", to.provider.name);
            let hint = "give the deployment a `price` (of one's own machines: `{input: 0, output: 0}`) or `like`, or the limit \
                        `cost: {from: money, unpriced: free}`";
            report.hinted(&path.field("llm").field("models").item(i), reason, hint);
        }
    }
}
