//! What handlers take from a request, typed once, with a bound and a readable "no".

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::AppState;
use crate::refusal::Refusal;

/// Bodies that are not documents.
pub(crate) const MAX_JSON: usize = 64 * 1024;
/// Documents, as the contract says.
pub(crate) const MAX_DOCUMENT: usize = 16 * 1024 * 1024;

/// A small JSON body. An empty one is `{}`; the content type is not looked at.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let bytes = body(request, MAX_JSON).await?;
        let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes.as_ref() };
        // Serde would take a list for an object, its fields by their places: nothing describes that.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(Refusal::BadRequest("the body is not what this path takes: it takes a JSON object".to_owned()));
        }
        match serde_json::from_slice(bytes) {
            Ok(value) => Ok(Self(value)),
            Err(error) => Err(Refusal::BadRequest(format!("the body is not what this path takes: {error}"))),
        }
    }
}

/// The same, for what holds secrets: where it is wrong is said, and nothing of it repeated.
pub(crate) struct Hushed<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Hushed<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let bytes = body(request, MAX_JSON).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let what = if error.is_data() { "not what this path takes" } else { "no JSON" };
            Refusal::BadRequest(format!("the body is {what}: line {}, column {}", error.line(), error.column()))
        })
    }
}

/// The text of a document. At most [`crate::AppState`]'s few are held at once.
pub(crate) struct Text {
    pub(crate) text: String,
    /// Given back when the handler is done with the text.
    pub(crate) _slot: OwnedSemaphorePermit,
}

impl FromRequest<AppState> for Text {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Refusal> {
        let slot = state.documents.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?;
        let bytes = body(request, MAX_DOCUMENT).await?;
        match String::from_utf8(bytes.into()) {
            Ok(text) => Ok(Self { text, _slot: slot }),
            Err(_) => Err(Refusal::BadRequest("a document is UTF-8 text".to_owned())),
        }
    }
}

/// The query string.
pub(crate) struct Ask<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Ask<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(error) => Err(Refusal::BadRequest(error.body_text())),
        }
    }
}

/// A number that a listing goes on behind. Numbers are described as signed ones of 64 bits, which no count of ours outgrows.
pub(crate) fn behind(after: Option<u64>) -> Result<u64, Refusal> {
    match after.unwrap_or(0) {
        after if after <= i64::MAX as u64 => Ok(after),
        _ => Err(Refusal::BadRequest(format!("after is at most {}", i64::MAX))),
    }
}

/// The one parameter of a path.
pub(crate) struct Id<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(error) => Err(Refusal::BadRequest(error.body_text())),
        }
    }
}

async fn body(request: Request, limit: usize) -> Result<Bytes, Refusal> {
    let announced = request.headers().get(http::header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(Refusal::TooLarge { limit });
    }
    match axum::body::to_bytes(request.into_body(), limit).await {
        Ok(bytes) => Ok(bytes),
        Err(error) if is_too_large(&error) => Err(Refusal::TooLarge { limit }),
        Err(_) => Err(Refusal::BadRequest("the body ended early".to_owned())),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = cause.source();
    }
    false
}
