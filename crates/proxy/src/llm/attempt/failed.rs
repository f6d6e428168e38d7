//! A try that came to nothing: whose fault it is, what it cost, and how a caller is told.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use tidegate_llm::meaning::{Error, Kind};
use tidegate_upstream::CallFailed;

use crate::forward;
use crate::llm::told;
use crate::llm::trouble::Trouble;
use crate::refusal::Refusal;
use crate::reply::Reply;

pub(in crate::llm) struct Failed {
    pub(in crate::llm) error: Error,
    /// As the provider told it, where the caller speaks its language.
    pub(in crate::llm) verbatim: Option<Verbatim>,
    /// `None`: the caller's own fault, or ours; nobody else would do better.
    pub(in crate::llm) trouble: Option<Trouble>,
    /// The provider said so: it bills nothing.
    pub(in crate::llm) answered: bool,
    pub(in crate::llm) refusal: Option<Refusal>,
}

pub(in crate::llm) struct Verbatim {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Failed {
    /// Told to the caller: as the provider told it, if he speaks that language.
    pub(in crate::llm) fn response(self, attempt_dialect: tidegate_llm::Dialect) -> Response<Reply> {
        match self.verbatim {
            Some(Verbatim { status, headers, body }) => {
                let mut response = Response::new(Reply::full(body));
                (*response.status_mut(), *response.headers_mut()) = (status, headers);
                response
            }
            None => told::failed(&self.error, attempt_dialect),
        }
    }

    /// What the provider answered; 0: nothing.
    pub(in crate::llm) fn status(&self) -> u16 {
        let ours = self.refusal.is_some() || matches!(self.error.kind, Kind::BadStream | Kind::Timeout);
        self.verbatim.as_ref().map_or(if ours { 0 } else { self.error.status }, |told| told.status.as_u16())
    }

    /// The provider broke off, or what it said cannot be read.
    pub(super) fn lost(error: Error) -> Self {
        let answered = !matches!(error.kind, Kind::BadStream | Kind::Timeout);
        Self { trouble: Trouble::of(&error), error, verbatim: None, answered, refusal: None }
    }

    /// We could not show who we are; nobody was asked.
    pub(super) fn unproven(provider: &str) -> Self {
        let message = format!("the gateway has no credentials for the provider `{provider}` at present");
        let error = Error { status: 502, ..Error::new(Kind::Server, message) };
        let (trouble, refusal) = (Some(Trouble::Auth), Some(Refusal::UpstreamConnect));
        Self { error, verbatim: None, trouble, answered: true, refusal }
    }

    pub(super) fn late() -> Self {
        Self {
            refusal: Some(Refusal::UpstreamTimeout),
            ..Self::lost(Error::new(Kind::Timeout, "no event came in time"))
        }
    }

    pub(in crate::llm) fn ours(refusal: Refusal) -> Self {
        let line = refusal.line();
        let kind = Kind::of_status(line.status.as_u16());
        let mut error = Error { status: line.status.as_u16(), ..Error::new(kind, line.message) };
        if let Refusal::BreakerOpen { retry_after }
        | Refusal::Limited { retry_after }
        | Refusal::LimitUnavailable { retry_after } = refusal
        {
            error.retry_after = u64::try_from(retry_after.max(Duration::from_secs(1)).as_millis()).ok();
        }
        Self { error, verbatim: None, trouble: None, answered: true, refusal: Some(refusal) }
    }

    pub(super) fn of(why: &CallFailed) -> Self {
        // A call that was sent and not answered may have been worked on.
        let answered = !matches!(why, CallFailed::Timeout(_) | CallFailed::Reset(_));
        Self { answered, trouble: Some(Trouble::of_call(why)), ..Self::ours(forward::failed(why)) }
    }
}
