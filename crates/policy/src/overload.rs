//! What is done when more is asked than can be served: how many requests may run, who waits, and for how long.

use std::time::Duration;

use http::HeaderName;

/// How soon a request is served, and how late it is shed, while there is too little room. In this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Class {
    Critical,
    High,
    #[default]
    Normal,
    Low,
}

impl Class {
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// As [`Class::name`] writes it.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// How many requests one node has running at an upstream, and who waits for a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overload {
    pub concurrency: Concurrency,
    pub queue: Waiting,
    /// A header of requests that names their class; believed from trusted proxies alone.
    pub class_header: Option<HeaderName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// Learnt from how long answers take, and from failures.
    Adaptive {
        min: u32,
        max: u32,
    },
    Fixed(u32),
}

/// Bounds on those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub max: usize,
    /// Of one consumer.
    pub per_consumer: usize,
    /// Who waits longer is refused.
    pub deadline: Duration,
}

/// A second try beside one whose answer is late.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beside {
    pub after: After,
    /// Share of the upstream's recent requests that may be asked twice.
    pub budget: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Span(Duration),
    /// What 95 of 100 answers of this upstream take at most.
    P95,
}
