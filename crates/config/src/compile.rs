//! A document into the policy that requests see: names resolved, patterns built, every problem found.
//!
//! Pure: what it needs from outside is in [`Inputs`]. `tidegate` and `admin` call it; nothing is published or served that
//! it refuses. Each family has its file; each takes its document type apart without `..`, so that a new field does not
//! build until somebody says what it means.

use std::sync::Arc;

use tidegate_model::Revision;
use tidegate_policy::{Router, Snapshot};

use crate::document::Document;
use crate::inputs::Inputs;
use crate::path::Path;
use crate::problem::Problem;
use crate::source::{self, Locations, SourceFile};
use crate::tree::Format;

mod acme;
mod action;
mod alerts;
mod answers;
mod attach;
mod backups;
mod cache;
mod catalogue;
mod certificate;
mod compression;
mod consumer;
mod cors;
mod credential;
mod header;
mod holder;
mod host;
mod issuer;
mod limit;
mod listener;
mod llm;
mod loops;
mod matching;
mod model;
mod name;
mod otlp;
mod overload;
mod redis;
mod report;
mod route;
mod routing;
mod secret;
mod shadow;
mod sick;
mod telemetry;
mod upstream;

use attach::Limits;
pub(crate) use header::is_secret as is_secret_header;
use holder::Holders;
pub(crate) use limit::id_of as limit_id;
pub(crate) use llm::kind as kind_of;
use name::Names;
pub(crate) use report::Report;
pub(crate) use secret::references;

/// `revision` is the one the document is (to be) published as.
///
/// # Errors
/// Every problem of the document, in its order.
pub fn compile(
    document: &Document,
    locations: &Locations,
    inputs: &Inputs,
    revision: Revision,
) -> Result<Snapshot, Vec<Problem>> {
    let Document {
        version,
        secrets,
        consumers,
        issuers,
        tenants,
        teams,
        plans,
        products,
        limits,
        upstreams,
        providers,
        models,
        catalogue,
        routes,
        certificates,
        acme,
        listeners,
        compression,
        telemetry,
        cache,
        alerts,
        backups,
    } = document;
    let report = Report::new(locations);
    let root = Path::Root;
    if *version != 1 {
        report.hinted(
            &root.field("version"),
            format!("version {version} is not known to this build"),
            "write `version: 1`",
        );
    }
    let secrets = secret::Secrets::compile(secrets, inputs, &report);
    let limit_names = Names::collect("limits", "limit", limits.iter().map(|l| l.name.as_str()), &report);
    let plan_names = Names::collect("plans", "plan", plans.iter().map(|p| p.name.as_str()), &report);
    let upstream_names = Names::collect("upstreams", "upstream", upstreams.iter().map(|u| u.name.as_str()), &report);
    let provider_names = Names::collect("providers", "provider", providers.iter().map(|p| p.name.as_str()), &report);
    let route_names = Names::collect("routes", "route", routes.iter().map(|r| r.name.as_str()), &report);
    Names::collect("certificates", "certificate", certificates.iter().map(|c| c.name.as_str()), &report);

    let model_names = models.iter().map(|m| m.name.as_str());
    let model_names = Names::collect_as("models", "model", model_names, llm::check_model, &report);
    for (i, plan) in plans.iter().enumerate() {
        let list = root.field("plans");
        let path = list.item(i);
        llm::allowed(plan.models.as_deref(), &model_names, &path.field("models"), &report);
        model::words(plan.residency.as_ref(), &path.field("residency"), &report);
    }

    let limits = Limits::new(&limit_names, limit::compile(limits, revision, &report));
    let rules = holder::Rules { tenants, teams, plans, products };
    let holders = Holders::compile(&rules, &plan_names, &route_names, &limits, &report);
    let consumers = consumer::compile(consumers, &plan_names, &model_names, &holders, &limits, &report);
    let fallback = |u: &'_ crate::document::UpstreamRule| u.breaker.as_ref().and_then(|b| b.fallback.clone());
    let fallbacks: Vec<_> = upstreams.iter().map(|u| (u.name.clone(), fallback(u))).collect();
    sick::fallbacks(&fallbacks.iter().map(|(name, to)| (name.as_str(), to.as_deref())).collect::<Vec<_>>(), &report);
    let upstreams = upstream::compile(upstreams, inputs, &report);
    let issuers = issuer::Issuers::compile(issuers, &secrets, inputs, &report);
    let providers = llm::providers(providers, &upstream_names, &secrets, inputs, &report);
    let known = catalogue::compile(catalogue, &report);
    let models = model::compile(
        &model::World {
            rules: models,
            names: &model_names,
            provider_names: &provider_names,
            providers: &providers,
            limits: &limits,
            secrets: &secrets,
            known: &known,
        },
        &report,
    );
    let compression =
        compression.as_ref().and_then(|rule| compression::compile(rule, &root.field("compression"), &report));
    let world = route::World {
        issuers: &issuers,
        limits: &limits,
        holders: &holders,
        upstreams: &upstream_names,
        built: &upstreams,
        model_names: &model_names,
        providers: (&provider_names, &providers),
        models: &models,
        known: &known,
        secrets: &secrets,
        regexes: matching::Regexes::default(),
        compression: compression.map(Arc::new),
    };
    let routes = route::compile(routes, &world, &report);
    shadow::check(&routes, &report);
    let certificates = certificate::compile(certificates, inputs, &report);
    let acme = acme.as_ref().map(|rules| acme::compile(rules, &secrets, inputs, &report));
    let listener::Compiled { trusted_proxies, announced_by, ticket_rotation, http3 } =
        listener::compile(listeners.as_ref(), inputs, &report);
    let telemetry = telemetry.as_ref().map(|t| telemetry::compile(t, &secrets, inputs, &report)).unwrap_or_default();
    let redis = cache.as_ref().and_then(|cache| redis::compile(cache, &secrets, inputs, &report));
    let webhooks = alerts.as_ref().map(|rules| alerts::compile(rules, &secrets, &report)).unwrap_or_default();
    let backups = backups.as_ref().and_then(|rules| backups::compile(rules, &secrets, inputs, &report));
    let router = Router::new(routes.iter().flatten().cloned().collect());
    loops::check(&routes, &router, &report);
    report.finish()?;
    let of_providers = providers.iter().flatten().map(|provider| Arc::clone(&provider.upstream));
    let plans = holders.snapshot(plans, &limits);
    Ok(Snapshot {
        revision,
        router,
        limits: limits.into_list(),
        plans,
        upstreams: upstreams.into_iter().flatten().chain(of_providers).collect(),
        consumers: consumers.into_iter().map(Arc::new).collect::<Vec<_>>().into(),
        issuers: issuers.into_list(),
        certificates,
        acme: acme.map(Arc::new),
        telemetry,
        redis: redis.map(Arc::new),
        webhooks: webhooks.into(),
        backups: backups.map(Arc::new),
        trusted_proxies,
        announced_by,
        ticket_rotation,
        http3,
    })
}

/// Reads and compiles in one go, and tells the problems of both: a misfit in one route hides no wrong name in another.
///
/// # Errors
/// Every problem of the text and of what could be read of it.
pub fn check(
    files: &[SourceFile<'_>],
    inputs: impl FnOnce(&Document) -> Inputs,
    revision: Revision,
) -> Result<(Document, Snapshot), Vec<Problem>> {
    let source::Partial { document, locations, mut problems } = source::partial(files, Format::Auto)?;
    let compiled = compile(&document, &locations, &inputs(&document), revision);
    match compiled {
        Ok(snapshot) if problems.is_empty() => Ok((document, snapshot)),
        Ok(_) => Err(problems),
        Err(more) => {
            let torn = !problems.is_empty();
            problems.extend(more.into_iter().filter(|problem| !torn || !locations.is_torn(problem)));
            problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
            Err(problems)
        }
    }
}
