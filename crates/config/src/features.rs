//! What a document uses that not every release understands.

use tidegate_model::Feature;

use crate::document::{CostSource, Document, LimitRef, LimitRule, RouteRule, ScopePart, WhenMissing};
use crate::inputs::{Need, need};

/// Each once. A document without any can be published in a cluster of any releases.
#[must_use]
pub fn features(document: &Document) -> Vec<Feature> {
    let uses = |feature: &Feature| match feature {
        Feature::PublishedRedis => document.cache.as_ref().is_some_and(|cache| cache.redis.is_some()),
        Feature::KindsOfLimits => document.limits.iter().any(|limit| limit.window.is_none() || limit.cost.is_some()),
        Feature::Webhooks => document.alerts.is_some(),
        Feature::Backups => document.backups.is_some(),
        Feature::StoredStandsIn => {
            document.upstreams.iter().any(|upstream| upstream.breaker.as_ref().is_some_and(|b| b.stored.is_some()))
        }
        Feature::Tokens => {
            let by_claim = |part: &ScopePart| matches!(part, ScopePart::Claim(_));
            !document.issuers.is_empty() || document.limits.iter().any(|limit| limit.per.iter().any(by_claim))
        }
        Feature::Holders => brings_limits_otherwise(document),
        Feature::Scopes => counts_otherwise(document),
        Feature::Models => {
            let by_models = |limit: &LimitRule| {
                limit.per.contains(&ScopePart::Model)
                    || limit
                        .cost
                        .as_ref()
                        .is_some_and(|cost| matches!(cost.from, Some(CostSource::Tokens | CostSource::Money)))
            };
            !document.providers.is_empty()
                || !document.catalogue.is_empty()
                || !document.models.is_empty()
                || document.limits.iter().any(by_models)
                || document.consumers.iter().any(|consumer| consumer.residency.is_some())
                || document.plans.iter().any(|plan| plan.residency.is_some())
        }
        Feature::Otlp => document.telemetry.as_ref().is_some_and(|telemetry| telemetry.otlp.is_some()),
        Feature::Doors => {
            let mut tls =
                document.upstreams.iter().map(|u| &u.tls).chain(document.providers.iter().map(|p| &p.tls)).flatten();
            document.listeners.as_ref().is_some_and(|listeners| !listeners.proxy_protocol.is_empty())
                || document.certificates.iter().any(|certificate| certificate.clients.is_some())
                || tls.any(|tls| tls.cert.is_some())
        }
        Feature::Certificates => {
            document.acme.is_some() || document.certificates.iter().any(|certificate| certificate.stored.is_some())
        }
        Feature::BodyRates => document.routes.iter().any(|route| route.min_body_rate.is_some()),
        Feature::EarlyHints => document.routes.iter().any(|route| route.early_hints),
        Feature::GrpcWeb => document.routes.iter().any(|route| route.grpc_web),
        Feature::Compression => {
            let uses = |route: &RouteRule| route.decompress || route.compression.is_some();
            document.compression.is_some() || document.routes.iter().any(uses)
        }
        Feature::Overload => {
            document.upstreams.iter().any(|upstream| upstream.overload.is_some() || upstream.hedge.is_some())
                || document.providers.iter().any(|provider| provider.overload.is_some())
                || document.routes.iter().any(|route| route.class.is_some())
                || document.consumers.iter().any(|consumer| consumer.class.is_some())
                || document.plans.iter().any(|plan| plan.class.is_some())
        }
        Feature::Transport => {
            document.certificates.iter().any(|certificate| certificate.ocsp.is_some())
                || document.listeners.as_ref().is_some_and(|listeners| listeners.ticket_rotation.is_some())
                || document.upstreams.iter().any(|upstream| upstream.proxy_protocol.is_some())
        }
        Feature::Secrets => document.secrets.iter().any(|secret| matches!(need(secret), Some(Need::Sealed(_)))),
        Feature::Http3 => document.listeners.as_ref().is_some_and(|listeners| listeners.http3.is_some()),
        // Of the control log: commands, not documents.
        Feature::Endpoints
        | Feature::Audit
        | Feature::Packed
        | Feature::Purges
        | Feature::PlansOfKeys
        | Feature::Orders
        | Feature::Rates
        | Feature::Usage
        | Feature::Tickets
        | Feature::Zones
        | Feature::ClusterKeys
        | Feature::Journals => false,
    };
    Feature::ALL.into_iter().filter(uses).collect()
}

/// Than by routes, and by plans that name limits as they are.
fn brings_limits_otherwise(document: &Document) -> bool {
    let own = |limit: &LimitRef| matches!(limit, LimitRef::Own(_));
    !(document.tenants.is_empty() && document.teams.is_empty() && document.products.is_empty())
        || document.consumers.iter().any(|consumer| !consumer.limits.is_empty())
        || document.plans.iter().any(|plan| plan.limits.iter().any(own))
        || document.routes.iter().any(|route| !route.weights.is_empty())
}

/// Than by what the first release could tell apart.
fn counts_otherwise(document: &Document) -> bool {
    let is_first = |part: &ScopePart| match part {
        ScopePart::Cluster | ScopePart::Tenant | ScopePart::Consumer | ScopePart::Key | ScopePart::Route => true,
        // Claims go with tokens, which have a row of their own, as models have.
        ScopePart::Header(_) | ScopePart::Claim(_) | ScopePart::Model => true,
        ScopePart::Ip(v4, v6) => (*v4, *v6) == (32, 64),
        ScopePart::Team | ScopePart::EndUser | ScopePart::Product | ScopePart::Method | ScopePart::Host => false,
    };
    let limits = &document.limits;
    limits.iter().any(|limit| limit.on_missing != WhenMissing::Share || !limit.per.iter().all(is_first))
        || document.routes.iter().any(|route| route.end_user.is_some())
        || document.consumers.iter().any(|consumer| consumer.end_user.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<Feature> {
        let (document, _) = crate::parse(text.as_bytes(), crate::Format::Yaml).expect("it fits the format");
        features(&document)
    }

    #[test]
    fn what_the_first_release_knows_needs_nothing() {
        let plain = "version: 1\nlimits: [{name: l, window: 1s, max: 5, per: [key, ip]}]\n\
                     plans: [{name: p, limits: [l]}]\nconsumers: [{name: c, plan: p, team: t}]\n";
        assert_eq!(of(plain), []);
    }

    #[test]
    fn what_is_compressed_needs_a_level() {
        for text in ["compression: {}", "routes: [{name: r, decompress: true}]", "routes: [{name: r, compression: {}}]"]
        {
            assert_eq!(of(&format!("version: 1\n{text}\n")), [Feature::Compression], "{text}");
        }
    }

    #[test]
    fn who_brings_a_limit_and_whom_it_counts_need_a_level() {
        for text in [
            "tenants: [{name: t}]",
            "teams: [{name: t}]",
            "products: [{name: p, routes: []}]",
            "consumers: [{name: c, limits: [l]}]",
            "plans: [{name: p, limits: [{limit: l, max: 5}]}]",
        ] {
            assert_eq!(of(&format!("version: 1\n{text}\n")), [Feature::Holders], "{text}");
        }
        for text in ["per: [team]", "per: [end_user]", "per: [ip/24]", "per: [host]", "per: [key], on_missing: skip"] {
            let text = format!("version: 1\nlimits: [{{name: l, window: 1s, max: 5, {text}}}]\n");
            assert_eq!(of(&text), [Feature::Scopes], "{text}");
        }
    }
}
