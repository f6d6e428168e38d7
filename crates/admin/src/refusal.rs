//! Every way the admin API says no, in one place, exhaustively.
//!
//! Handlers return a [`Refusal`]; the shell around them renders it, because only the shell knows the request's id.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::backend::Failure;
use crate::wire::{ErrorBody, ErrorReply, Problem};

#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// The request itself is wrong: its JSON, its query, a value out of bounds.
    BadRequest(String),
    /// No token, or one nobody issued, or one that has ended.
    Unauthorized,
    /// Too many wrong tokens from this address.
    TooManyFailures {
        retry_after_secs: u64,
    },
    /// A good token whose role is too low.
    Forbidden {
        needs: &'static str,
        has: &'static str,
    },
    UnknownPath,
    MethodNotAllowed,
    NotFound(String),
    TooLarge {
        limit: usize,
    },
    /// It did not end in time; it may still happen.
    TimedOut,
    Busy,
    InvalidDocument(Vec<Problem>),
    /// `If-Match` named a revision that is not the current one.
    PreconditionFailed {
        current: u64,
    },
    /// Somebody else published in the same moment.
    Conflict {
        current: u64,
    },
    /// The state says no: the sentence says why.
    Rejected {
        reason: String,
        hint: Option<String>,
    },
    /// No leader, no quorum, or no way to it.
    NoLeader(String),
    /// This node is nobody's yet: it looks for its cluster.
    Starting(String),
    /// Ours. The detail is in the log and not in the answer.
    Fault,
}

/// Status, code, message, hint: one row per refusal.
type Row = (StatusCode, &'static str, String, Option<String>);

impl Refusal {
    fn row(&self) -> Row {
        let row = |status, code, message: &str| (status, code, message.to_owned(), None);
        match self {
            Self::BadRequest(why) => row(StatusCode::BAD_REQUEST, "bad_request", why),
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "this needs a valid admin token".to_owned(),
                Some(
                    "send `authorization: Bearer TOKEN`, or show a certificate where the node takes those; the first token is in the \
                     data folder's admin.token"
                        .to_owned(),
                ),
            ),
            Self::TooManyFailures { retry_after_secs } => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_failures",
                "too many wrong tokens from this address".to_owned(),
                Some(format!("a right one is let in at once; what is wrong with this one is said again in {retry_after_secs} s")),
            ),
            Self::Forbidden { needs, has } => {
                (StatusCode::FORBIDDEN, "forbidden", format!("this needs the role {needs}; the caller has {has}"), None)
            }
            Self::UnknownPath => (
                StatusCode::NOT_FOUND,
                "unknown_path",
                "there is nothing at this path".to_owned(),
                Some("GET /openapi.json lists every path".to_owned()),
            ),
            Self::MethodNotAllowed => {
                row(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method")
            }
            Self::NotFound(what) => row(StatusCode::NOT_FOUND, "not_found", what),
            Self::TooLarge { limit } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                format!("the body is larger than the {limit} bytes allowed here"),
                None,
            ),
            Self::TimedOut => (
                StatusCode::GATEWAY_TIMEOUT,
                "timed_out",
                "this took too long; it may still have happened".to_owned(),
                Some("look before you repeat it".to_owned()),
            ),
            Self::Busy => row(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many of these at once"),
            Self::InvalidDocument(problems) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_document",
                match problems.len() {
                    1 => "the document has 1 problem; nothing was changed".to_owned(),
                    n => format!("the document has {n} problems; nothing was changed"),
                },
                None,
            ),
            Self::PreconditionFailed { current } => conflict(StatusCode::PRECONDITION_FAILED, *current),
            Self::Conflict { current } => conflict(StatusCode::CONFLICT, *current),
            Self::Rejected { reason, hint } => (StatusCode::CONFLICT, "rejected", reason.clone(), hint.clone()),
            Self::NoLeader(why) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no_leader",
                why.clone(),
                Some("a change needs a majority of the voters; see GET /v1/cluster".to_owned()),
            ),
            Self::Starting(why) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "starting",
                format!("this node has no cluster yet: {why}"),
                Some("ask a node that has one, or wait".to_owned()),
            ),
            Self::Fault => row(StatusCode::INTERNAL_SERVER_ERROR, "fault", "the node failed; its log says how"),
        }
    }

    /// The answer, in the shape the contract fixes.
    pub(crate) fn render(&self, request_id: &str) -> Response {
        let (status, code, message, hint) = self.row();
        let mut error = ErrorBody {
            code: code.to_owned(),
            message,
            request_id: request_id.to_owned(),
            hint,
            problems: Vec::new(),
            revision: None,
        };
        match self {
            Self::InvalidDocument(problems) => error.problems.clone_from(problems),
            Self::PreconditionFailed { current } | Self::Conflict { current } => error.revision = Some(*current),
            _ => {}
        }
        let mut response = (status, axum::Json(ErrorReply { error })).into_response();
        let headers = response.headers_mut();
        match self {
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\""));
            }
            Self::TooManyFailures { retry_after_secs } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(*retry_after_secs));
            }
            Self::NoLeader(_) | Self::Busy | Self::Starting(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }

    /// The same no for a gRPC caller.
    pub(crate) fn to_grpc(&self) -> tonic::Status {
        let (status, _, message, _) = self.row();
        let code = match status {
            StatusCode::BAD_REQUEST => tonic::Code::InvalidArgument,
            StatusCode::UNAUTHORIZED => tonic::Code::Unauthenticated,
            StatusCode::FORBIDDEN => tonic::Code::PermissionDenied,
            StatusCode::TOO_MANY_REQUESTS => tonic::Code::ResourceExhausted,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => tonic::Code::Unimplemented,
            StatusCode::GATEWAY_TIMEOUT => tonic::Code::DeadlineExceeded,
            StatusCode::SERVICE_UNAVAILABLE => tonic::Code::Unavailable,
            StatusCode::INTERNAL_SERVER_ERROR => tonic::Code::Internal,
            _ => tonic::Code::FailedPrecondition,
        };
        tonic::Status::new(code, message)
    }
}

fn conflict(status: StatusCode, current: u64) -> Row {
    (
        status,
        "revision_conflict",
        format!("the current revision is {current}; nothing was changed"),
        Some("look at what changed (`tidegate diff`), then publish against the current revision".to_owned()),
    )
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotFound(what) => Self::NotFound(what),
            Failure::Conflict { current } => Self::Conflict { current },
            Failure::Rejected { reason, hint } => Self::Rejected { reason, hint },
            Failure::Unavailable(why) => Self::NoLeader(why),
            Failure::TimedOut => Self::TimedOut,
            Failure::Fault(detail) => {
                tracing::error!(detail, "admin request failed");
                Self::Fault
            }
        }
    }
}

/// Carries the refusal to the shell, which renders it.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.row().0.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
