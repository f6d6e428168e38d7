//! What kinds of failures there are before the first byte, as far as it matters to what is done about them.

use tidegate_llm::meaning::{Error, Kind};
use tidegate_policy::{OnError, Reaction};
use tidegate_upstream::{CallFailed, Phase};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Throttled,
    Server,
    Timeout,
    Connect,
    Context,
    Filtered,
    Auth,
    NotFound,
}

impl Trouble {
    /// Of what a provider said. `None`: the caller's own fault, which nobody else would see otherwise.
    pub(super) fn of(error: &Error) -> Option<Self> {
        Some(match error.kind {
            Kind::RateLimited => Self::Throttled,
            Kind::Overloaded if error.status == 529 || error.status == 0 || error.retry_after.is_some() => {
                Self::Throttled
            }
            Kind::Overloaded | Kind::Server | Kind::BadStream => Self::Server,
            Kind::Timeout => Self::Timeout,
            Kind::ContextExceeded => Self::Context,
            Kind::ContentFiltered => Self::Filtered,
            Kind::Unauthenticated | Kind::Billing | Kind::Forbidden => Self::Auth,
            Kind::NotFound => Self::NotFound,
            Kind::BadRequest | Kind::TooLarge if error.status >= 500 => Self::Server,
            Kind::BadRequest | Kind::TooLarge => return None,
        })
    }

    /// Of a call that came to no answer.
    pub(super) fn of_call(why: &CallFailed) -> Self {
        match why {
            CallFailed::Connect(_)
            | CallFailed::NoEndpoint
            | CallFailed::Open { .. }
            | CallFailed::TooBusy
            | CallFailed::Shed(_)
            | CallFailed::Timeout(Phase::Connect) => Self::Connect,
            CallFailed::Timeout(_) => Self::Timeout,
            CallFailed::Reset(_) | CallFailed::BadResponse(_) | CallFailed::RequestBody(_) => Self::Server,
        }
    }

    pub(super) fn reaction(self, on: &OnError) -> &Reaction {
        match self {
            Self::Throttled => &on.throttled,
            Self::Server => &on.server,
            Self::Timeout => &on.timeout,
            Self::Connect => &on.connect,
            Self::Context => &on.context_exceeded,
            Self::Filtered => &on.content_filtered,
            Self::Auth => &on.auth,
            Self::NotFound => &on.not_found,
        }
    }
}
