//! Whom of a model's deployments a call goes to, and to whom when that fails: what documents say of it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::condition::Condition;
use crate::{ClaimPath, Model};

#[derive(Debug)]
pub struct Routing {
    pub strategy: Strategy,
    /// The first that holds narrows whom a call may go to.
    pub conditions: Vec<Choice>,
    /// Asked when no deployment of the model itself answers; none of them leads back here.
    pub fallbacks: Vec<Arc<Model>>,
    pub on_error: OnError,
    /// Tries of one call, the first included.
    pub attempts: u32,
    /// No further try begins later.
    pub within: Duration,
    pub hedge: Option<Hedge>,
}

/// Among deployments of one priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// Drawn by weight.
    Weighted,
    /// In the document's order.
    Priority,
    Fastest,
    Cheapest,
    Sticky(Sticky),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// The first of these that a call has.
    pub by: Vec<StickyBy>,
    /// Percent of its fair share that a deployment carries at most.
    pub load: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StickyBy {
    Header(HeaderName),
    Claim(ClaimPath),
    /// As the body names it: `user`, `metadata.user_id`.
    User,
    /// `prompt_cache_key`
    CacheKey,
    Consumer,
    Key,
    /// How the prompt begins.
    Prompt,
}

#[derive(Debug)]
pub struct Choice {
    pub when: Condition,
    pub to: ChoiceTo,
}

#[derive(Debug)]
pub enum ChoiceTo {
    /// Deployments that have all of these.
    Tags(Vec<Box<str>>),
    Model(Arc<Model>),
}

/// What is done about a failure before the first byte, by its kind.
#[derive(Debug, Clone)]
pub struct OnError {
    pub throttled: Reaction,
    pub server: Reaction,
    pub timeout: Reaction,
    pub connect: Reaction,
    pub context_exceeded: Reaction,
    pub content_filtered: Reaction,
    pub auth: Reaction,
    pub not_found: Reaction,
}

#[derive(Debug, Clone)]
pub struct Reaction {
    pub then: Then,
    /// Further tries at the same deployment before that.
    pub retries: u32,
    /// The longest that a retry waits for what the provider names in `Retry-After`.
    pub wait: Duration,
}

#[derive(Debug, Clone)]
pub enum Then {
    /// The next deployment, then the fallbacks.
    Next,
    /// The fallbacks at once.
    Fallbacks,
    /// This model.
    Model(Arc<Model>),
    /// The caller is told.
    Fail,
}

/// A second call when the first one is late.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hedge {
    pub after: Duration,
    /// Further calls that may run beside the first.
    pub at_most: u32,
    /// Share of the model's recent calls that may be hedged.
    pub budget: f64,
}

impl Reaction {
    #[must_use]
    pub fn new(then: Then) -> Self {
        Self { then, retries: 0, wait: Duration::from_secs(2) }
    }
}

impl Reaction {
    /// The model that it takes a call to.
    #[must_use]
    pub fn model(&self) -> Option<&Arc<Model>> {
        match &self.then {
            Then::Model(model) => Some(model),
            Then::Next | Then::Fallbacks | Then::Fail => None,
        }
    }
}

impl Choice {
    /// The model that it takes a call to.
    #[must_use]
    pub fn model(&self) -> Option<&Arc<Model>> {
        match &self.to {
            ChoiceTo::Model(model) => Some(model),
            ChoiceTo::Tags(_) => None,
        }
    }
}

impl OnError {
    #[must_use]
    pub fn reactions(&self) -> [&Reaction; 8] {
        let Self { throttled, server, timeout, connect, context_exceeded, content_filtered, auth, not_found } = self;
        [throttled, server, timeout, connect, context_exceeded, content_filtered, auth, not_found]
    }
}

impl Default for OnError {
    fn default() -> Self {
        let next = Reaction::new(Then::Next);
        Self {
            throttled: next.clone(),
            server: next.clone(),
            timeout: next.clone(),
            connect: next.clone(),
            context_exceeded: next.clone(),
            content_filtered: Reaction::new(Then::Fail),
            auth: next.clone(),
            not_found: next,
        }
    }
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            strategy: Strategy::Weighted,
            conditions: Vec::new(),
            fallbacks: Vec::new(),
            on_error: OnError::default(),
            attempts: 8,
            within: Duration::from_secs(120),
            hedge: None,
        }
    }
}
