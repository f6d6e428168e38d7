//! What a client gets of a stored response: all of it, its head, a part, or the word that it has it already.

use http::header::{AGE, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tidegate_model::Millis;

use crate::again::Spot;
use crate::flight::{Body, Flowing, Shared};
use crate::rules::conditional;
use crate::rules::range::{self, Wanted};
use crate::rules::status::Report;
use crate::stored::Stored;
use std::sync::Arc;

/// What kind of answer it is, for records and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Hit,
    /// Out of date, and allowed.
    Stale,
    /// In place of an origin that failed.
    StandIn,
    /// The origin said that it still holds.
    Revalidated,
    /// Of a fetch that another request began.
    Collapsed,
    /// The client wants what is stored or nothing, and nothing is.
    OnlyIfCached,
}

/// An answer that needs no upstream any more.
#[derive(Debug)]
pub struct Answer {
    pub response: Response<Body>,
    pub kind: Kind,
    /// Of a fresh hit that every caller shares: where to find it the next time.
    pub spot: Option<Spot>,
}

/// Who asks, as far as an answer depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
}

/// `not_modified`: the client has it already.
pub(crate) fn of(
    stored: &Stored,
    asker: Asker<'_>,
    not_modified: bool,
    kind: Kind,
    report: &Report,
    now: Millis,
) -> Answer {
    if not_modified {
        let headers = conditional::not_modified(&stored.headers);
        return finish(StatusCode::NOT_MODIFIED, headers, Body::Empty, stored, kind, report, now);
    }
    let mut headers = stored.headers.clone();
    let mut status = stored.status;
    let mut body = stored.body.clone();
    if status == StatusCode::OK && *asker.method == Method::GET {
        match range::wanted(asker.headers, &stored.headers, stored.body.len()) {
            Wanted::Whole => {}
            Wanted::One(piece) => {
                body = range::one(&mut headers, &stored.body, &piece);
                status = StatusCode::PARTIAL_CONTENT;
            }
            Wanted::Several(pieces) => {
                body = range::several(&mut headers, &stored.body, &pieces, now.0 ^ stored.answered.0.rotate_left(32));
                status = StatusCode::PARTIAL_CONTENT;
            }
            Wanted::Nothing => {
                body = bytes::Bytes::new();
                range::nothing(&mut headers, stored.body.len());
                status = StatusCode::RANGE_NOT_SATISFIABLE;
            }
        }
    }
    if status == stored.status && !matches!(status.as_u16(), 204 | 304) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(stored.body.len()));
    }
    let body = if *asker.method == Method::HEAD || body.is_empty() { Body::Empty } else { Body::Whole(body) };
    finish(status, headers, body, stored, kind, report, now)
}

/// The rest comes as the origin sends it.
pub(crate) fn flowing(shared: &Arc<Shared>, report: &Report, now: Millis) -> Answer {
    let head = &shared.head;
    let body = Body::Flowing(Flowing::new(Arc::clone(shared)));
    finish(head.status, head.headers.clone(), body, head, Kind::Collapsed, report, now)
}

/// 504, as RFC 9111 § 5.2.1.7 has it.
pub(crate) fn only_if_cached() -> Answer {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    let report = Report { detail: Some("only-if-cached"), ..Report::forward(crate::rules::status::Forward::UriMiss) };
    report.put(response.headers_mut());
    Answer { response, kind: Kind::OnlyIfCached, spot: None }
}

fn finish(
    status: StatusCode,
    mut headers: HeaderMap,
    body: Body,
    stored: &Stored,
    kind: Kind,
    report: &Report,
    now: Millis,
) -> Answer {
    let age = stored.terms.age(now).0 / 1_000;
    headers.insert(AGE, HeaderValue::from(age.min(1 << 31)));
    report.put(&mut headers);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Answer { response, kind, spot: None }
}
