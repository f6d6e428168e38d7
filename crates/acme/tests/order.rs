//! Orders at an authority of paper: what is asked in which order, what is kept before, and what a refusal leads to.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use tidegate_acme::{Account, Client, Http, KeyType, Kind, Log, Order, Sent, Then, Trouble, Wanted, issue};

/// Answers by path; what was asked and kept stands in one list.
#[derive(Default)]
struct Paper {
    said: Mutex<Vec<String>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// So many nonces are refused.
    bad_nonces: usize,
    /// What newOrder says first: status, body, `Retry-After`.
    refusals: Vec<(u16, Value, Option<&'static str>)>,
    /// It lists an order that nobody here knows of.
    has_order: bool,
    ready: bool,
    finalized: bool,
    /// What the challenge comes to.
    fails: bool,
    /// Somebody else is faster with the last step.
    is_overtaken: bool,
}

const BASE: &str = "https://ca.test";

fn problem(kind: &str, detail: &str) -> Value {
    json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail})
}

fn reply(status: u16, location: &str, body: &Value) -> Response<Bytes> {
    let answer = Response::builder().status(status).header("replay-nonce", "n");
    answer.header("location", format!("{BASE}{location}")).body(Bytes::from(body.to_string())).unwrap()
}

impl Paper {
    fn note(&self, what: impl Into<String>) {
        self.said.lock().unwrap().push(what.into());
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap())
    }

    fn is(&self, state: State) {
        *self.state.lock().unwrap() = state;
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let mut state = self.state.lock().unwrap();
        let path = request.uri().path();
        if request.method() == "POST" {
            if state.bad_nonces > 0 {
                state.bad_nonces -= 1;
                return reply(400, "", &problem("badNonce", "not that one"));
            }
            self.note(path);
        }
        let at = |path: &str| format!("{BASE}{path}");
        match path {
            "/dir" => {
                let body = json!({"newNonce": at("/nonce"), "newAccount": at("/register"), "newOrder": at("/new")});
                reply(200, "", &body)
            }
            "/register" => reply(201, "/account", &json!({})),
            "/account" if state.has_order => reply(200, "", &json!({"orders": at("/list")})),
            "/list" => reply(200, "", &json!({"orders": [at("/placed")]})),
            "/new" => match state.refusals.pop() {
                Some((status, body, wait)) => {
                    let mut answer = reply(status, "", &body);
                    answer.headers_mut().extend(wait.map(|wait| (http::header::RETRY_AFTER, wait.parse().unwrap())));
                    answer
                }
                None => reply(201, "/order", &state.order()),
            },
            "/order" | "/placed" => reply(200, "", &state.order()),
            "/authz" => reply(200, "", &state.authorization()),
            "/challenge" => {
                state.ready = !state.fails;
                reply(200, "", &json!({}))
            }
            "/finalize" => {
                state.finalized = true;
                match state.is_overtaken {
                    true => reply(403, "", &problem("orderNotReady", "it is being made")),
                    false => reply(200, "", &state.order()),
                }
            }
            "/cert" => Response::new(Bytes::from_static(b"-----BEGIN CERTIFICATE-----")),
            _ => reply(200, "", &json!({})),
        }
    }
}

impl State {
    fn order(&self) -> Value {
        let status = match self {
            Self { finalized: true, .. } => "valid",
            Self { ready: true, .. } => "ready",
            Self { fails: true, .. } => "invalid",
            _ => "pending",
        };
        let at = |path: &str| format!("{BASE}{path}");
        json!({
            "status": status,
            "identifiers": [{"type": "dns", "value": "a.test"}],
            "authorizations": [at("/authz")],
            "finalize": at("/finalize"),
            "certificate": at("/cert"),
        })
    }

    fn authorization(&self) -> Value {
        let status = if self.fails { "invalid" } else { "pending" };
        let mut tried =
            json!({"type": "http-01", "url": format!("{BASE}/challenge"), "token": "tok", "status": status});
        if self.fails {
            tried["error"] = problem("connection", "nobody answers on port 80");
        }
        let other = json!({"type": "dns-01", "url": format!("{BASE}/other"), "token": "tok", "status": "pending"});
        json!({"status": status, "identifier": {"type": "dns", "value": "a.test"}, "challenges": [other, tried]})
    }
}

struct Line(Arc<Paper>);

impl Http for Line {
    fn send(&self, request: Request<Bytes>) -> Sent<'_> {
        Box::pin(async move { Ok(self.0.answer(&request)) })
    }
}

/// Notes that something was kept: the order's place, and how many challenges it answers.
struct Notes(Arc<Paper>, Option<Order>);

impl Log for Notes {
    async fn keep(&mut self, order: &Order) -> Result<(), Trouble> {
        let text = serde_json::to_value(order).unwrap();
        let url = text["url"].as_str().unwrap().trim_start_matches(BASE);
        self.0.note(format!("kept {url} {}", order.answers().len()));
        self.1 = Some(order.clone());
        Ok(())
    }
}

async fn go(paper: &Arc<Paper>, order: Option<Order>) -> (Result<String, Trouble>, Option<Order>) {
    let wanted = Wanted {
        directory: format!("{BASE}/dir"),
        hosts: vec!["a.test".into()],
        key: KeyType::P256,
        kinds: vec![Kind::TlsAlpn01, Kind::Http01],
    };
    let client = Client::open(Arc::new(Line(paper.clone())), &wanted.directory).await.unwrap();
    let mut account = Account::new().unwrap();
    account.register(&client, &["ops@a.test".to_owned()], None).await.unwrap();
    paper.said();
    let mut notes = Notes(paper.clone(), None);
    let done = issue(&client, &account, &wanted, order, &mut notes).await;
    (done.map(|certificate| certificate.chain), notes.1)
}

#[tokio::test(start_paused = true)]
async fn each_step_is_kept_before_the_next_depends_on_it() {
    let paper = Arc::new(Paper::default());
    paper.is(State { bad_nonces: 2, ..State::default() });
    let (done, kept) = go(&paper, None).await;
    assert_eq!(done.unwrap(), "-----BEGIN CERTIFICATE-----");
    let said = paper.said().join(", ");
    let first = "kept  0, /account, /new, kept /order 0, /order, /authz, kept /order 1, /challenge";
    assert_eq!(said, format!("{first}, /order, /finalize, /order, /cert"));
    // The kind we like best that is offered.
    let answer = kept.unwrap().answers()[0].clone();
    assert_eq!((answer.kind, answer.host.as_str(), answer.token.as_str()), (Kind::Http01, "a.test", "tok"));
    let (token, thumbprint) = answer.authorization.split_once('.').unwrap();
    assert_eq!((token, BASE64.decode(thumbprint).unwrap().len()), ("tok", 32));
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_next_goes_on_with_what_was_kept_and_orders_nothing_anew() {
    let paper = Arc::new(Paper::default());
    let (_, kept) = go(&paper, None).await;
    paper.said();
    paper.is(State { ready: true, ..State::default() });
    assert!(go(&paper, kept.clone()).await.0.is_ok());
    assert_eq!(paper.said(), ["/order", "/finalize", "/order", "/cert"]);
    // Somebody else was faster with the last step: it is waited for, not given up.
    paper.is(State { ready: true, is_overtaken: true, ..State::default() });
    assert!(go(&paper, kept).await.0.is_ok());
    assert_eq!(paper.said(), ["/order", "/finalize", "/order", "/cert"]);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_was_placed_and_not_kept_is_found_where_the_authority_lists_them() {
    let paper = Arc::new(Paper::default());
    paper.is(State { has_order: true, ..State::default() });
    assert!(go(&paper, None).await.0.is_ok());
    let said = paper.said().join(", ");
    assert!(said.starts_with("kept  0, /account, /list, /placed, kept /placed 0"), "{said}");
    assert!(!said.contains("/new"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_why_how_to_go_on_and_when() {
    let paper = Arc::new(Paper::default());
    let refused = async |status, body: Value, wait| {
        paper.is(State { refusals: vec![(status, body, wait)], ..State::default() });
        go(&paper, None).await.0.unwrap_err()
    };
    let trouble = refused(429, problem("rateLimited", "too many of them"), Some("3600")).await;
    assert_eq!((trouble.then, trouble.retry_after), (Then::GoOn, Some(Duration::from_secs(3_600))));
    assert!(trouble.why.contains("too many of them (rateLimited)"), "{trouble}");
    let trouble = refused(429, problem("rateLimited", "for ever"), Some("99999999")).await;
    assert_eq!(trouble.retry_after, Some(Duration::from_secs(86_400)), "for a day at most");
    assert_eq!(refused(403, problem("rejectedIdentifier", "not that host"), None).await.then, Then::BeginAnew);
    assert_eq!(refused(400, problem("accountDoesNotExist", "who?"), None).await.then, Then::NoAccount);
    assert_eq!(refused(502, json!("a gateway's page"), None).await.then, Then::GoOn, "nothing is known of the order");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_could_not_be_proven_is_named_with_the_authoritys_words() {
    let paper = Arc::new(Paper::default());
    paper.is(State { fails: true, ..State::default() });
    let trouble = go(&paper, None).await.0.unwrap_err();
    assert_eq!(trouble.then, Then::BeginAnew);
    assert_eq!(trouble.why, "a.test: http-01: nobody answers on port 80 (connection)");
}
