//! A store that speaks as much S3 as backups need, and takes no request whose signature it does not come to itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::Full;

use super::Origin;

pub(crate) const ACCESS: &str = "gateway";
pub(crate) const SECRET: &str = "the-stores-secret-key";
const REGION: &str = "eu-central-1";

type Kept = Arc<Mutex<BTreeMap<String, Bytes>>>;

pub(crate) struct Store {
    pub(crate) origin: Origin,
    kept: Kept,
}

impl Store {
    pub(crate) async fn start() -> Self {
        let kept = Kept::default();
        let shared = Arc::clone(&kept);
        let origin = Origin::start(move |parts, body| {
            let answer = answer(&shared, &parts, body);
            async move { answer }
        })
        .await;
        Self { origin, kept }
    }

    /// By path, bucket included.
    pub(crate) fn kept(&self) -> BTreeMap<String, Bytes> {
        self.kept.lock().unwrap().clone()
    }
}

fn answer(kept: &Kept, parts: &Parts, body: Bytes) -> Response<Full<Bytes>> {
    let say = |status: StatusCode, text: String| {
        Response::builder().status(status).body(Full::new(Bytes::from(text))).unwrap()
    };
    if let Err(why) = signed(parts, &body) {
        let text = format!("<Error><Code>SignatureDoesNotMatch</Code><Message>{why}</Message></Error>");
        return say(StatusCode::FORBIDDEN, text);
    }
    let mut kept = kept.lock().unwrap();
    let path = parts.uri.path().to_owned();
    match parts.method {
        Method::PUT => drop(kept.insert(path, body)),
        Method::DELETE => drop(kept.remove(&path)),
        Method::GET => {
            let asked: BTreeMap<_, _> =
                parts.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
            let prefix = asked.get("prefix").map_or_else(String::new, |prefix| prefix.replace("%2F", "/"));
            let mut text = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
            for key in kept.keys().filter_map(|at| at.strip_prefix(&path)).filter(|key| key.starts_with(&prefix)) {
                write!(text, "<Contents><Key>{key}</Key></Contents>").unwrap();
            }
            return say(StatusCode::OK, text + "</ListBucketResult>");
        }
        _ => return say(StatusCode::METHOD_NOT_ALLOWED, String::new()),
    }
    say(if parts.method == Method::DELETE { StatusCode::NO_CONTENT } else { StatusCode::OK }, String::new())
}

/// As AWS describes it, and as nobody of ours wrote it.
fn signed(parts: &Parts, body: &Bytes) -> Result<(), String> {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("x-amz-content-sha256") != hex(digest::digest(&digest::SHA256, body).as_ref()) {
        return Err("the body is another one".into());
    }
    let authorization = header("authorization").strip_prefix("AWS4-HMAC-SHA256 ").ok_or("not signed")?;
    let field = |name: &str| {
        authorization.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    };
    let date = header("x-amz-date");
    let scope = format!("{}/{REGION}/s3/aws4_request", date.get(..8).unwrap_or_default());
    if field("Credential") != format!("{ACCESS}/{scope}") {
        return Err(format!("credential {}", field("Credential")));
    }
    let names: Vec<&str> = field("SignedHeaders").split(';').collect();
    if !["host", "x-amz-content-sha256", "x-amz-date"].iter().all(|name| names.contains(name)) {
        return Err(format!("only {names:?} are signed"));
    }
    let mut query: Vec<&str> = parts.uri.query().unwrap_or_default().split('&').collect();
    query.sort_unstable();
    let mut canonical = format!("{}\n{}\n{}\n", parts.method, parts.uri.path(), query.join("&"));
    names.iter().for_each(|name| writeln!(canonical, "{name}:{}", header(name)).unwrap());
    write!(canonical, "\n{}\n{}", names.join(";"), header("x-amz-content-sha256")).unwrap();
    let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}");
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for part in scope.split('/').chain([text.as_str()]) {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    if hex(&key) == field("Signature") { Ok(()) } else { Err("the signature is another one".into()) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
