//! Answers to certificate authorities that look for a challenge over HTTP (RFC 8555 § 8.3, http-01). `tidegate` fills it from
//! what the cluster agreed on, so that any node answers; a request looks only while a challenge is open at all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response};

use crate::reply::Reply;

const FOLDER: &str = "/.well-known/acme-challenge/";

#[derive(Debug, Default)]
pub struct Challenges {
    any: AtomicBool,
    /// By token: the key authorization.
    answers: ArcSwap<HashMap<String, String>>,
}

impl Challenges {
    /// These, and no others: token and key authorization.
    pub fn replace(&self, answers: impl IntoIterator<Item = (String, String)>) {
        let answers: HashMap<_, _> = answers.into_iter().collect();
        let any = !answers.is_empty();
        self.answers.store(answers.into());
        self.any.store(any, Ordering::Release);
    }

    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// `None`: it is no challenge of ours. Then the path is a route's.
    #[cold]
    pub(crate) fn answer(&self, parts: &Parts) -> Option<Response<Reply>> {
        let token = parts.uri.path().strip_prefix(FOLDER)?;
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return None;
        }
        let authorization = self.answers.load().get(token)?.clone();
        let mut response = Response::new(Reply::full(authorization));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Request;

    use super::*;

    fn asks(challenges: &Challenges, method: &str, path: &str) -> Option<u16> {
        let (parts, ()) = Request::builder().method(method).uri(path).body(()).unwrap().into_parts();
        challenges.answer(&parts).map(|response| response.status().as_u16())
    }

    #[test]
    fn only_a_token_that_is_known_is_answered_and_only_to_who_reads() {
        let challenges = Challenges::default();
        assert!(!challenges.any());
        challenges.replace([("tok-1".to_owned(), "tok-1.thumb".to_owned())]);
        assert!(challenges.any());
        let path = "/.well-known/acme-challenge/tok-1";
        assert_eq!(asks(&challenges, "GET", path), Some(200));
        assert_eq!(asks(&challenges, "HEAD", path), Some(200));
        assert_eq!(asks(&challenges, "POST", path), None);
        for other in ["/.well-known/acme-challenge/", "/.well-known/acme-challenge/tok-2", "/tok-1", "/"] {
            assert_eq!(asks(&challenges, "GET", other), None, "{other}");
        }
        challenges.replace([]);
        assert!(!challenges.any() && asks(&challenges, "GET", path).is_none());
    }
}
