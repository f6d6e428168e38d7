//! Every "no" a client can meet: one closed list, one exhaustive table. `docs/errors.md` is printed from it.
//!
//! Text is per code and fixed, so that nothing of the inside leaks; detail goes to the record.

use std::time::Duration;

use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tidegate_auth::token::Invalid;

use crate::ratelimit;
use crate::reply::Reply;

/// An expected "no", or something that broke. What a stage returns instead of its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// What is no request.
    Malformed,
    /// A request of a major version that is not spoken this way.
    OtherVersion,
    InvalidHost,
    InvalidPath,
    AmbiguousFraming,
    ExpectationUnknown,
    UriTooLong,
    HeadersTooLarge,
    MethodRefused,
    NoRoute,
    /// The path has routes, for these methods.
    MethodNotAllowed {
        allow: HeaderValue,
    },
    OriginNotAllowed,
    UpgradeNotAllowed,
    KeyMissing,
    KeyConflict,
    KeyUnknown,
    KeyExpired,
    KeyRevoked,
    KeyWithoutConsumer,
    KeyWithoutPlan,
    KeysStale,
    TokenMissing,
    TokenConflict,
    /// Clients are not told all.
    Token(Invalid),
    TokenWithoutConsumer,
    ClaimsInsufficient,
    /// By an operator's order.
    Blocked,
    NotSubscribed,
    /// A limit counts by something that the request does not bring.
    SubjectMissing,
    SubjectInvalid,
    /// `headers` say which limit and where it stands.
    Limited {
        retry_after: Duration,
    },
    TooCostly,
    LimitUnavailable {
        retry_after: Duration,
    },
    BodyTooLarge,
    BodyTimeout,
    BodyBroken,
    /// The body is compressed in a way that nobody here can undo.
    CodingUnknown,
    CodingInvalid,
    /// A few bytes become more than anybody meant to send.
    CodingBomb,
    HeaderTimeout,
    Overloaded,
    /// The client wants what is stored or nothing, and nothing is.
    OnlyIfCached,
    NoEndpoint,
    /// The breakers of all endpoints are open.
    BreakerOpen {
        retry_after: Duration,
    },
    UpstreamBusy,
    /// As many requests run at the upstream as it can work on, and there is no place in line for this one.
    UpstreamOverloaded,
    UpstreamConnect,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamInvalid,
    /// A route of language models knows no call of this path.
    CallUnknown,
    CallInvalid,
    CallUntranslatable,
    /// No deployment has what a call needs.
    NoneCan,
    ModelUnknown,
    ModelNotAllowed,
    /// A limit counts money, and nobody knows what the model costs.
    ModelUnpriced,
    /// The request came through us too often.
    Loop,
    /// TLS was agreed for another host, under laxer terms.
    Misdirected,
    Fault,
}

/// Who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Caller,
    Upstream,
    Us,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: &'static str,
    pub hint: &'static str,
    pub blame: Blame,
}

impl Refusal {
    /// The table: a new refusal does not compile until it has an answer.
    #[must_use]
    #[rustfmt::skip]
    pub fn line(&self) -> Line {
        use Blame::{Caller, Upstream, Us};
        let line = |status, code, message, hint, blame| Line { status, code, message, hint, blame };
        match self {
            Self::Malformed => line(StatusCode::BAD_REQUEST, "malformed", "The request is not valid HTTP.", "Check the request line, header names and values, Content-Length and Transfer-Encoding.", Caller),
            Self::OtherVersion => line(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "version_not_supported", "The request line names a version of HTTP that is not spoken this way.", "Send HTTP/1.1; HTTP/2 begins with its own preface, or is agreed on in TLS.", Caller),
            Self::InvalidHost => line(StatusCode::BAD_REQUEST, "invalid_host", "The Host header is missing, repeated, malformed or contradicts the request target.", "Send exactly one Host header with a valid name.", Caller),
            Self::InvalidPath => line(StatusCode::BAD_REQUEST, "invalid_path", "The path holds control characters, a backslash, a broken percent escape, or dots beside an escaped slash or a parameter.", "Send a normalised, percent-encoded path.", Caller),
            Self::AmbiguousFraming => line(StatusCode::BAD_REQUEST, "ambiguous_framing", "Content-Length and Transfer-Encoding contradict each other.", "Send one of them, once.", Caller),
            Self::ExpectationUnknown => line(StatusCode::EXPECTATION_FAILED, "expectation_unknown", "The Expect header asks for something other than 100-continue.", "Leave the header out.", Caller),
            Self::UriTooLong => line(StatusCode::URI_TOO_LONG, "uri_too_long", "The request target is too long.", "Move data from the query into the body.", Caller),
            Self::HeadersTooLarge => line(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", "The request has too many headers, or too large ones.", "Send fewer or smaller headers; large cookies are the usual cause.", Caller),
            Self::MethodRefused => line(StatusCode::METHOD_NOT_ALLOWED, "method_refused", "CONNECT and TRACE are not served.", "This is a gateway, not a forward proxy.", Caller),
            Self::NoRoute => line(StatusCode::NOT_FOUND, "no_route", "No route takes this request.", "Check host, path, and the headers and query that the route asks for.", Caller),
            Self::MethodNotAllowed { .. } => line(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This path is served, but not for this method.", "The Allow header lists the methods.", Caller),
            Self::OriginNotAllowed => line(StatusCode::FORBIDDEN, "origin_not_allowed", "The route's CORS policy does not allow this origin, method or header.", "Add the origin to the route's cors section.", Caller),
            Self::UpgradeNotAllowed => line(StatusCode::FORBIDDEN, "upgrade_not_allowed", "This route does not switch protocols.", "Set `upgrade: true` on the route.", Caller),
            Self::KeyMissing => line(StatusCode::UNAUTHORIZED, "key_missing", "This route needs a key and the request carries none.", "Send it as `Authorization: Bearer KEY` or `x-api-key: KEY`.", Caller),
            Self::KeyConflict => line(StatusCode::BAD_REQUEST, "key_conflict", "The request carries two different keys.", "Send one key, in one place.", Caller),
            Self::KeyUnknown => line(StatusCode::UNAUTHORIZED, "key_unknown", "The key is not known.", "Check for a typing error, or ask for a new key.", Caller),
            Self::KeyExpired => line(StatusCode::UNAUTHORIZED, "key_expired", "The key has expired.", "Ask for a new key.", Caller),
            Self::KeyRevoked => line(StatusCode::UNAUTHORIZED, "key_revoked", "The key was revoked.", "Ask for a new key.", Caller),
            Self::KeyWithoutConsumer => line(StatusCode::FORBIDDEN, "key_without_consumer", "The key's consumer is not in the published document.", "Publish a document that names the consumer, or issue a key for another one.", Caller),
            Self::KeyWithoutPlan => line(StatusCode::FORBIDDEN, "key_without_plan", "The key's plan is not in the published document.", "Publish a document that names the plan, or issue a key without one.", Caller),
            Self::TokenMissing => line(StatusCode::UNAUTHORIZED, "token_missing", "This route needs a token and the request carries none.", "Send it as `Authorization: Bearer TOKEN`, or where the issuer's `from` says; a key where the route takes both.", Caller),
            Self::TokenConflict => line(StatusCode::BAD_REQUEST, "token_conflict", "The request carries two different tokens.", "Send one token, in one place.", Caller),
            Self::Token(why) => match why {
                Invalid::Expired => line(StatusCode::UNAUTHORIZED, "token_expired", "The token has expired.", "Get a new one from its issuer.", Caller),
                Invalid::NotYet => line(StatusCode::UNAUTHORIZED, "token_not_yet_valid", "The token is not valid yet.", "Wait, or mend the issuer's clock; `leeway` allows for a difference.", Caller),
                Invalid::Audience => line(StatusCode::UNAUTHORIZED, "token_audience", "The token is meant for another audience.", "Ask the issuer for a token for this one.", Caller),
                Invalid::Incomplete(_) => line(StatusCode::UNAUTHORIZED, "token_incomplete", "The token lacks a claim that it must have.", "Ask the issuer for one with `exp` and the claims that `require` names; the access log says which one is missing.", Caller),
                Invalid::NoKeys => line(StatusCode::SERVICE_UNAVAILABLE, "issuer_unavailable", "The keys of the token's issuer are not known here at the moment.", "Retry; `/readyz` and the metrics say why they cannot be fetched.", Us),
                Invalid::TooLong | Invalid::Malformed | Invalid::Critical | Invalid::Algorithm | Invalid::Issuer | Invalid::UnknownKey | Invalid::Signature => line(StatusCode::UNAUTHORIZED, "token_invalid", "The token is not valid.", "Get a new one from an issuer of this route; the access log says what is wrong with this one.", Caller),
            },
            Self::TokenWithoutConsumer => line(StatusCode::FORBIDDEN, "token_without_consumer", "The token names no consumer of the published document.", "Publish a document that names it, or set `unknown_consumer: anonymous`.", Caller),
            Self::ClaimsInsufficient => line(StatusCode::FORBIDDEN, "claims_insufficient", "The token does not say what this route asks for.", "Get one with the scope or the claims that the route's `claims` names.", Caller),
            Self::NotSubscribed => line(StatusCode::FORBIDDEN, "not_subscribed", "The caller's plan does not include this product.", "Use a key of a plan that the product is offered on.", Caller),
            Self::SubjectMissing => line(StatusCode::BAD_REQUEST, "subject_missing", "A limit counts by something that this request does not bring.", "Send what the limit counts by: a key, the end user's header, or the header it names.", Caller),
            Self::SubjectInvalid => line(StatusCode::BAD_REQUEST, "subject_invalid", "A value that a limit counts by is too long, or an end user is named twice.", "Send it once; docs/config.md has the bounds.", Caller),
            Self::KeysStale => line(StatusCode::SERVICE_UNAVAILABLE, "keys_stale", "This node has been cut off for too long to trust its list of keys.", "Retry: another node may answer.", Us),
            Self::Blocked => line(StatusCode::FORBIDDEN, "blocked", "An operator has blocked this caller.", "Waiting may not help: ask the operator, to whom `tidegate quota ls` says who did it, why and until when.", Caller),
            Self::Limited { .. } => line(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "A rate limit is used up.", "Wait for Retry-After seconds; the RateLimit headers say where each limit stands.", Caller),
            Self::TooCostly => line(StatusCode::TOO_MANY_REQUESTS, "too_costly", "One request costs more than a limit ever allows.", "Waiting will not help: send a smaller request, or raise the limit.", Caller),
            Self::LimitUnavailable { .. } => line(StatusCode::SERVICE_UNAVAILABLE, "limit_unavailable", "A limit cannot be checked at the moment and is set to deny.", "Retry after Retry-After seconds.", Us),
            Self::BodyTooLarge => line(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The request body is larger than the route allows.", "Send less, or raise the route's max_body.", Caller),
            Self::BodyTimeout => line(StatusCode::REQUEST_TIMEOUT, "body_timeout", "The request body stopped arriving, or arrives too slowly.", "Send the body without long pauses; a route may ask for less by min_body_rate.", Caller),
            Self::BodyBroken => line(StatusCode::BAD_REQUEST, "body_broken", "The request body ended early or is framed wrongly.", "Check Content-Length or the chunked encoding.", Caller),
            Self::CodingUnknown => line(StatusCode::UNSUPPORTED_MEDIA_TYPE, "coding_unknown", "The request body is compressed in a way that is not read here.", "Accept-Encoding lists what is; or send the body without a Content-Encoding.", Caller),
            Self::CodingInvalid => line(StatusCode::BAD_REQUEST, "coding_invalid", "The request body is not compressed as its Content-Encoding says, or ends too early.", "Compress it as a whole, or send it without a Content-Encoding.", Caller),
            Self::CodingBomb => line(StatusCode::PAYLOAD_TOO_LARGE, "coding_bomb", "The request body grows beyond all measure when it is decompressed.", "Send it without a Content-Encoding.", Caller),
            Self::HeaderTimeout => line(StatusCode::REQUEST_TIMEOUT, "header_timeout", "The request head stopped arriving.", "Send the whole head at once.", Caller),
            Self::Overloaded => line(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "This node serves as many requests as it may.", "Retry with back-off.", Us),
            Self::OnlyIfCached => line(StatusCode::GATEWAY_TIMEOUT, "only_if_cached", "The request asks for a stored response and none can be used.", "Leave only-if-cached out of Cache-Control to have the upstream asked.", Caller),
            Self::NoEndpoint => line(StatusCode::SERVICE_UNAVAILABLE, "no_endpoint", "No endpoint of the upstream can be used.", "Check the upstream's endpoints and their names in DNS.", Upstream),
            Self::BreakerOpen { .. } => line(StatusCode::SERVICE_UNAVAILABLE, "breaker_open", "The upstream failed too often and is not asked for a while.", "Retry after the time in Retry-After; see `tidegate upstream ls`.", Upstream),
            Self::UpstreamBusy => line(StatusCode::SERVICE_UNAVAILABLE, "upstream_busy", "Every connection to the upstream is in use.", "Retry with back-off, or raise the upstream's max_connections.", Upstream),
            Self::UpstreamOverloaded => line(StatusCode::SERVICE_UNAVAILABLE, "upstream_overloaded", "The upstream has as many requests as it can work on, and this one waited too long or found no place in line.", "Retry with back-off; the access log says why, and docs/overload.md what can be done.", Upstream),
            Self::UpstreamConnect => line(StatusCode::BAD_GATEWAY, "upstream_connect", "The upstream cannot be reached.", "Check that it listens, and its TLS settings.", Upstream),
            Self::UpstreamReset => line(StatusCode::BAD_GATEWAY, "upstream_reset", "The upstream closed the connection before it answered.", "Check the upstream's log.", Upstream),
            Self::UpstreamTimeout => line(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", "The upstream did not answer in time.", "Check the upstream, or raise the route's timeouts.", Upstream),
            Self::UpstreamInvalid => line(StatusCode::BAD_GATEWAY, "upstream_invalid", "The upstream's answer is not valid HTTP.", "Check the upstream's protocol and log.", Upstream),
            Self::CallUnknown => line(StatusCode::NOT_FOUND, "call_unknown", "This is no call that language models are asked by.", "Served are chat/completions, responses, embeddings, models, messages, messages/count_tokens, models/NAME:generateContent, :streamGenerateContent, :countTokens, model/NAME/converse and converse-stream.", Caller),
            Self::CallInvalid => line(StatusCode::BAD_REQUEST, "call_invalid", "The body is not a call of a language model.", "The message of the answer names the field.", Caller),
            Self::CallUntranslatable => line(StatusCode::BAD_REQUEST, "call_untranslatable", "The model's provider speaks another format, which cannot carry a field of this call.", "Leave the field out that the message names, or set `losses: drop` on the model.", Caller),
            Self::NoneCan => line(StatusCode::BAD_REQUEST, "no_deployment_can", "No deployment of this model has what the call needs.", "The message of the answer says what is missing: context, tools, images, JSON schema, residency or tags.", Caller),
            Self::ModelUnknown => line(StatusCode::NOT_FOUND, "model_not_found", "No model of this name is served here.", "GET models lists them.", Caller),
            Self::ModelNotAllowed => line(StatusCode::FORBIDDEN, "model_not_allowed", "This caller may not use this model.", "Name the model in the consumer's and its plan's `models`, or leave those out.", Caller),
            Self::ModelUnpriced => line(StatusCode::FORBIDDEN, "model_unpriced", "A limit of this caller counts money, and what this model costs is not known.", "Give the deployment a `price` or the model a row in `catalogue`, or set `cost: {from: money, unpriced: free}` on the limit.", Us),
            Self::Loop => line(StatusCode::LOOP_DETECTED, "loop", "The request goes round in circles: it came through this gateway too often.", "Check that no upstream leads back to the gateway.", Us),
            Self::Misdirected => line(StatusCode::MISDIRECTED_REQUEST, "misdirected", "This connection was made for another host, under a laxer TLS policy.", "Open a connection to this host and send its name with it.", Caller),
            Self::Fault => line(StatusCode::INTERNAL_SERVER_ERROR, "fault", "Something broke in the gateway.", "Report the request id to the operator.", Us),
        }
    }

    /// One of each, for the page and its test.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let retry_after = Duration::ZERO;
        vec![
            Self::Malformed,
            Self::OtherVersion,
            Self::InvalidHost,
            Self::InvalidPath,
            Self::AmbiguousFraming,
            Self::ExpectationUnknown,
            Self::UriTooLong,
            Self::HeadersTooLarge,
            Self::MethodRefused,
            Self::NoRoute,
            Self::MethodNotAllowed { allow: HeaderValue::from_static("") },
            Self::OriginNotAllowed,
            Self::UpgradeNotAllowed,
            Self::KeyMissing,
            Self::KeyConflict,
            Self::KeyUnknown,
            Self::KeyExpired,
            Self::KeyRevoked,
            Self::KeyWithoutConsumer,
            Self::KeyWithoutPlan,
            Self::NotSubscribed,
            Self::SubjectMissing,
            Self::SubjectInvalid,
            Self::KeysStale,
            Self::TokenMissing,
            Self::TokenConflict,
            Self::Token(Invalid::Malformed),
            Self::Token(Invalid::Expired),
            Self::Token(Invalid::NotYet),
            Self::Token(Invalid::Audience),
            Self::Token(Invalid::Incomplete("exp".into())),
            Self::Token(Invalid::NoKeys),
            Self::TokenWithoutConsumer,
            Self::ClaimsInsufficient,
            Self::Blocked,
            Self::Limited { retry_after },
            Self::TooCostly,
            Self::LimitUnavailable { retry_after },
            Self::BodyTooLarge,
            Self::BodyTimeout,
            Self::BodyBroken,
            Self::CodingUnknown,
            Self::CodingInvalid,
            Self::CodingBomb,
            Self::HeaderTimeout,
            Self::Overloaded,
            Self::OnlyIfCached,
            Self::NoEndpoint,
            Self::BreakerOpen { retry_after },
            Self::UpstreamBusy,
            Self::UpstreamOverloaded,
            Self::UpstreamConnect,
            Self::UpstreamReset,
            Self::UpstreamTimeout,
            Self::UpstreamInvalid,
            Self::CallUnknown,
            Self::CallInvalid,
            Self::CallUntranslatable,
            Self::NoneCan,
            Self::ModelUnknown,
            Self::ModelNotAllowed,
            Self::ModelUnpriced,
            Self::Loop,
            Self::Misdirected,
            Self::Fault,
        ]
    }

    #[must_use]
    pub fn code(&self) -> &'static str {
        self.line().code
    }

    /// For the record alone: what clients are not told.
    pub(crate) fn detail(&self) -> Option<Box<str>> {
        match self {
            Self::Token(why) => Some(why.why().into()),
            _ => None,
        }
    }

    /// The answer, without the headers that every answer gets.
    pub(crate) fn render(&self, request_id: &str) -> Response<Reply> {
        let line = self.line();
        let mut response = Response::new(Reply::full(line.body(request_id)));
        *response.status_mut() = line.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.explain(headers);
        response
    }

    fn explain(&self, headers: &mut HeaderMap) {
        match self {
            Self::MethodNotAllowed { allow } => drop(headers.insert(ALLOW, allow.clone())),
            Self::CodingUnknown => {
                drop(headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, br, zstd")))
            }
            Self::MethodRefused => drop(headers.insert(ALLOW, HeaderValue::from_static(""))),
            Self::TokenMissing | Self::KeyMissing | Self::KeyUnknown | Self::KeyExpired | Self::KeyRevoked => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\""));
            }
            Self::Limited { retry_after }
            | Self::LimitUnavailable { retry_after }
            | Self::BreakerOpen { retry_after } => {
                headers.insert(RETRY_AFTER, ratelimit::seconds(*retry_after).into());
            }
            // RFC 6750 § 3.1.
            Self::TokenConflict => challenge(headers, "invalid_request", "Two different tokens"),
            Self::Token(Invalid::NoKeys) => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
            Self::Token(why) => challenge(headers, "invalid_token", Self::of_token(why)),
            Self::ClaimsInsufficient => challenge(headers, "insufficient_scope", "The token does not say enough"),
            Self::Overloaded | Self::NoEndpoint | Self::UpstreamBusy | Self::UpstreamOverloaded | Self::KeysStale => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
    }
}

/// Fixed texts: they fit into a header.
fn challenge(headers: &mut HeaderMap, error: &str, description: &str) {
    let text = format!("Bearer realm=\"tidegate\", error=\"{error}\", error_description=\"{description}\"");
    headers.extend(HeaderValue::try_from(text).ok().map(|value| (WWW_AUTHENTICATE, value)));
}

impl Line {
    /// `request_id` is ours or was checked: nothing in it needs escaping. Neither do the table's texts (a test says so).
    pub(crate) fn body(&self, request_id: &str) -> String {
        format!(
            "{{\"error\":{{\"code\":\"{}\",\"message\":\"{}\",\"request_id\":\"{request_id}\",\"hint\":\"{}\"}}}}\n",
            self.code, self.message, self.hint
        )
    }
}

/// The page `docs/errors.md`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(HEAD);
    for refusal in Refusal::all() {
        let Line { status, code, message, hint, blame } = refusal.line();
        let blame = match blame {
            Blame::Caller => "caller",
            Blame::Upstream => "upstream",
            Blame::Us => "gateway",
        };
        page.push_str(&format!("| `{code}` | {} | {blame} | {message} | {hint} |\n", status.as_u16()));
    }
    page
}

const HEAD: &str = "\
# Errors

Printed from the table in `crates/proxy/src/refusal.rs`; `UPDATE_DOCS=1 cargo nextest run -p tidegate-proxy` rewrites it.

Every refusal of the data plane is JSON:
`{\"error\":{\"code\":\"…\",\"message\":\"…\",\"request_id\":\"…\",\"hint\":\"…\"}}`. `code` is stable; texts may be improved.
`request_id` is also in the `x-request-id` header and in the access log. 429 and 503 carry `Retry-After` in seconds where
waiting helps. An answer that breaks after its first byte cannot become a refusal: HTTP/1.1 connections are closed without
the final chunk, HTTP/2 streams are reset, and the access log says why.

| code | status | who must act | message | hint |
|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_page_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, page()).expect("docs is writable");
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(found, page(), "docs/errors.md is old: run with UPDATE_DOCS=1");
    }

    #[test]
    fn no_text_needs_escaping_and_no_code_is_used_twice() {
        let mut codes = std::collections::HashSet::new();
        for line in Refusal::all().iter().map(Refusal::line) {
            assert!(codes.insert(line.code), "{} is used twice", line.code);
            for text in [line.code, line.message, line.hint] {
                assert!(!text.contains(['"', '\\', '\n', '|']), "{text}");
            }
        }
    }
}
