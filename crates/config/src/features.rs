//! What a document uses that not every release understands.

use tidegate_model::Feature;

use crate::document::{Document, ScopePart};

/// Each once. A document without any can be published in a cluster of any releases.
#[must_use]
pub fn features(document: &Document) -> Vec<Feature> {
    let uses = |feature: &Feature| match feature {
        Feature::PublishedRedis => document.cache.as_ref().is_some_and(|cache| cache.redis.is_some()),
        Feature::KindsOfLimits => document.limits.iter().any(|limit| limit.window.is_none() || limit.cost.is_some()),
        Feature::Webhooks => document.alerts.is_some(),
        Feature::StoredStandsIn => {
            document.upstreams.iter().any(|upstream| upstream.breaker.as_ref().is_some_and(|b| b.stored.is_some()))
        }
        Feature::Tokens => {
            let by_claim = |part: &ScopePart| matches!(part, ScopePart::Claim(_));
            !document.issuers.is_empty() || document.limits.iter().any(|limit| limit.per.iter().any(by_claim))
        }
        // Of the control log: commands, not documents.
        Feature::Endpoints | Feature::Purges | Feature::PlansOfKeys | Feature::Orders | Feature::Journals => false,
    };
    Feature::ALL.into_iter().filter(uses).collect()
}
