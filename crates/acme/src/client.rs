//! Requests to one authority: nonces, what is tried again at once, and what a refusal means.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, LINK, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Method, Request, Response};
use serde::de::DeserializeOwned;

use crate::jws::{By, Key};
use crate::trouble::{Then, Trouble};
use crate::wire::{Directory, Problem, short};

/// How often a request is signed anew because its nonce was not good (RFC 8555 § 6.5).
const NONCES: usize = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3_600);
const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

pub type Sent<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send + 'a>>;

/// One exchange: with a deadline, and a bound on the answer. Redirects are not followed.
pub trait Http: Send + Sync {
    fn send(&self, request: Request<Bytes>) -> Sent<'_>;
}

/// An authority, whose directory was read.
pub struct Client {
    http: Arc<dyn Http>,
    pub(crate) directory: Directory,
    nonce: Mutex<Option<String>>,
}

/// An answer that is no refusal.
pub(crate) struct Reply {
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    /// # Errors
    /// Nobody answers at this URL, or no authority.
    pub async fn open(http: Arc<dyn Http>, directory: &str) -> Result<Self, Trouble> {
        let request = Request::get(directory).header(ACCEPT, "application/json").body(Bytes::new());
        let request = request.map_err(|why| Trouble::refused(format!("the directory's URL: {why}")))?;
        let answer = http.send(request).await;
        let answer = answer.map_err(|why| Trouble::no_answer(format!("the directory cannot be reached: {why}")))?;
        if !answer.status().is_success() {
            let why = format!("the directory answers {}", answer.status());
            return Err(Trouble { retry_after: retry_after(answer.headers()), ..Trouble::no_answer(why) });
        }
        let directory = serde_json::from_slice(answer.body());
        let directory = directory.map_err(|why| Trouble::no_answer(format!("that is no ACME directory: {why}")))?;
        Ok(Self { http, directory, nonce: Mutex::default() })
    }

    /// Signed, with a nonce. `payload` empty: it reads.
    pub(crate) async fn post(&self, key: &Key, by: &By<'_>, url: &str, payload: &str) -> Result<Reply, Trouble> {
        let mut left = NONCES;
        loop {
            let nonce = self.nonce().await?;
            let body = key.sign(by, &nonce, url, payload).map_err(Trouble::no_answer)?;
            let request = Request::builder()
                .method(Method::POST)
                .uri(url)
                .header(CONTENT_TYPE, "application/jose+json")
                .header(ACCEPT, "application/json, application/pem-certificate-chain")
                .body(Bytes::from(body))
                .map_err(|why| Trouble::refused(format!("a URL of the authority's: {why}")))?;
            let answer = self.http.send(request).await.map_err(Trouble::no_answer)?;
            self.remember(answer.headers());
            let (head, body) = answer.into_parts();
            if head.status.is_success() {
                return Ok(Reply { headers: head.headers, body });
            }
            let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
            left -= 1;
            if problem.kind() == "badNonce" && left > 0 {
                continue;
            }
            return Err(refusal(head.status, &problem, retry_after(&head.headers)));
        }
    }

    /// Each is good for one request.
    async fn nonce(&self) -> Result<String, Trouble> {
        if let Some(kept) = self.nonce.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(kept);
        }
        let request = Request::head(&self.directory.new_nonce).body(Bytes::new());
        let request = request.map_err(|why| Trouble::refused(format!("the directory's newNonce: {why}")))?;
        let answer = self.http.send(request).await.map_err(Trouble::no_answer)?;
        self.remember(answer.headers());
        let kept = self.nonce.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.ok_or_else(|| {
            let why = format!("the authority gives no nonce ({})", answer.status());
            Trouble { retry_after: retry_after(answer.headers()), ..Trouble::no_answer(why) }
        })
    }

    fn remember(&self, headers: &HeaderMap) {
        if let Some(nonce) = headers.get(REPLAY_NONCE).and_then(|value| value.to_str().ok()) {
            *self.nonce.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce.to_owned());
        }
    }
}

impl Reply {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        let read = serde_json::from_slice(&self.body);
        read.map_err(|why| Trouble::no_answer(format!("the authority's answer cannot be read: {why}")))
    }

    pub(crate) fn location(&self) -> Result<String, Trouble> {
        let location = self.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        location.map(str::to_owned).ok_or_else(|| Trouble::no_answer("the authority does not say where it is kept"))
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }

    /// The page after this one (RFC 8555 § 7.1.2.1).
    pub(crate) fn next_page(&self) -> Option<String> {
        let links = self.headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        let next = links.flat_map(|value| value.split(',')).find(|link| link.contains("rel=\"next\""))?;
        Some(next.split_once('<')?.1.split_once('>')?.0.to_owned())
    }
}

fn refusal(status: http::StatusCode, problem: &Problem, retry_after: Option<Duration>) -> Trouble {
    let why = match problem.kind.is_empty() {
        true => format!("the authority answers {status}"),
        false => format!("the authority refuses: {}", short(&problem.words(), 1_000)),
    };
    let then = match problem.kind() {
        "accountDoesNotExist" => Then::NoAccount,
        // Not about the order: it goes on when the authority is well, or willing, again.
        // Or whoever drove it before was faster (`orderNotReady`).
        "rateLimited" | "serverInternal" | "badNonce" | "orderNotReady" => Then::GoOn,
        _ if problem.kind.is_empty() || status.is_server_error() => Then::GoOn,
        _ => Then::BeginAnew,
    };
    Trouble { why, then, retry_after }
}

/// Seconds, or a date (RFC 9110 § 10.2.3); at most a day.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default(),
    };
    Some(wait.min(LONGEST_WAIT))
}
