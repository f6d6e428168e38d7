//! One alert to one receiver, until it has taken it: POST, a deadline for each attempt, ever longer pauses, no redirects.
//! A receiver that is down holds up nobody else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use tidegate_policy::Webhook;
use tidegate_proxy::Gate;
use tidegate_telemetry::{Kind, Sample};
use tokio::sync::Semaphore;

use crate::connect::Connector;

/// For an attempt, from the connection to the answer.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Attempts at a time, over all receivers; of one receiver fewer, so that one that hangs leaves room for the others.
const AT_A_TIME: usize = 64;
const AT_A_TIME_OF_ONE: usize = 4;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An alert in the words that receivers are sent.
pub(super) struct Told {
    pub(super) id: String,
    pub(super) body: String,
}

pub(super) struct Sender {
    gate: Arc<Gate>,
    room: Semaphore,
    of_one: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    outcomes: Outcomes,
}

/// Attempts, by receiver and by what became of them.
type Outcomes = Arc<Mutex<BTreeMap<(String, &'static str), u64>>>;

impl Sender {
    pub(super) fn new(gate: Arc<Gate>) -> Arc<Self> {
        let outcomes = Outcomes::default();
        let shown = Arc::clone(&outcomes);
        let help =
            "Attempts to send an alert to this webhook, by outcome: taken, refused (not 2xx), failed (no answer)";
        gate.telemetry.register("webhook_attempts", help, Kind::Counter, move || samples(&shown));
        Arc::new(Self { gate, room: Semaphore::new(AT_A_TIME), of_one: Mutex::default(), outcomes })
    }

    /// Returns when every receiver of the document has taken it, is none any more, or `goes_on` says no.
    pub(super) async fn send(&self, told: &Told, goes_on: impl Fn() -> bool) {
        let names: Vec<String> = self.gate.snapshot.load().webhooks.iter().map(|hook| hook.name.clone()).collect();
        let goes_on = &goes_on;
        join_all(names.iter().map(|name| self.send_to(name, told, goes_on))).await;
    }

    async fn send_to(&self, name: &str, told: &Told, goes_on: &impl Fn() -> bool) {
        let mut pause = FIRST_PAUSE;
        // Looked up anew each time: a document may have mended its address, or dropped it.
        while let Some(hook) = self.find(name) {
            let why = match self.attempt(&hook, told).await {
                Ok(()) => return,
                Err(why) => why,
            };
            if !goes_on() {
                tracing::error!(webhook = name, id = %told.id, why, "an alert was not taken in a day; it is given up");
                return;
            }
            tracing::warn!(webhook = name, id = %told.id, why, again_in = ?pause, "a webhook did not take an alert");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn find(&self, name: &str) -> Option<Webhook> {
        self.gate.snapshot.load().webhooks.iter().find(|hook| hook.name == name).cloned()
    }

    async fn attempt(&self, hook: &Webhook, told: &Told) -> Result<(), String> {
        let one = self.room_of(&hook.name);
        let (_one, _any) = (one.acquire().await, self.room.acquire().await);
        let done = tokio::time::timeout(ATTEMPT, post(hook, told)).await;
        let (outcome, why) = match done {
            Ok(Ok(status)) if status.is_success() => ("taken", None),
            Ok(Ok(status)) => ("refused", Some(format!("it answered {status}"))),
            Ok(Err(why)) => ("failed", Some(why)),
            Err(_) => ("failed", Some(format!("no answer in {ATTEMPT:?}"))),
        };
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        *outcomes.entry((hook.name.clone(), outcome)).or_default() += 1;
        why.map_or(Ok(()), Err)
    }

    fn room_of(&self, name: &str) -> Arc<Semaphore> {
        let mut all = self.of_one.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.gate.snapshot.load();
        all.retain(|known, _| snapshot.webhooks.iter().any(|hook| hook.name == *known));
        Arc::clone(all.entry(name.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(AT_A_TIME_OF_ONE))))
    }
}

async fn post(hook: &Webhook, told: &Told) -> Result<http::StatusCode, String> {
    let connector = match hook.url.scheme_str() {
        Some("https") => Connector::tls(None, &[b"http/1.1"]).map_err(|error| error.to_string())?,
        _ => Connector::plain(),
    };
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&hook.url)
        .header("content-type", "application/json")
        .header("user-agent", concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .header("tidegate-alert", &told.id);
    if let Some(secret) = &hook.secret {
        request = request.header("tidegate-signature", signature(secret, seconds, &told.body));
    }
    let body = Full::new(Bytes::from(told.body.clone()));
    let request = request.body(body).map_err(|error| error.to_string())?;
    // A connection for each: alerts are rare, and a kept one may be dead.
    let client = legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let answer = client.request(request).await.map_err(|error| reason(&error))?;
    let status = answer.status();
    // What it says is not read further than needed to end well.
    let _rest = http_body_util::Limited::new(answer.into_body(), 64 * 1024).collect().await;
    Ok(status)
}

/// With what lies behind it. The address is not named: it may be secret.
fn reason(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _infallible = write!(reason, ": {error}");
        source = error.source();
    }
    reason
}

/// `t=SECONDS,v1=HEX`: what Stripe's receivers know how to check.
fn signature(secret: &str, seconds: u64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    let mut text = format!("t={seconds},v1=");
    for byte in tag.as_ref() {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

fn samples(outcomes: &Outcomes) -> Vec<Sample> {
    let outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    let sample = |((webhook, outcome), count): (&(String, &'static str), &u64)| {
        super::super::gauges::labelled(&[("webhook", webhook), ("outcome", outcome)], *count)
    };
    outcomes.iter().map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_hmac_of_time_and_body() {
        // printf '5.{}' | openssl dgst -sha256 -hmac key
        let expected = "t=5,v1=9be615aec64f0d044b5ad6854ab1d893ec88617fb728d2149dcd3a3428e8c45d";
        assert_eq!(signature("key", 5, "{}"), expected);
    }
}
