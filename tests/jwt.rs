//! Tokens (JWT) over real nodes, with issuers made here: who is let in, what the upstream reads, what is counted by claims,
//! what becomes of keys that change and issuers that are gone.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, Origin, answer, eventually};

const SECRET: &str = "a secret of more than thirty-two bytes, shared";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Shared,
}

struct Signer {
    algorithm: &'static str,
    kid: String,
    pair: Pair,
}

impl Signer {
    fn new(algorithm: &'static str, kid: &str) -> Self {
        let pair = match algorithm {
            "RS256" => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            "ES256" => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            "EdDSA" => Pair::Ed(Ed25519KeyPair::generate().unwrap()),
            _ => Pair::Shared,
        };
        Self { algorithm, kid: kid.to_owned(), pair }
    }

    fn jwk(&self) -> Value {
        let kid = &self.kid;
        match &self.pair {
            // RFC 8017 § A.1.1: of a key of 2048 bits, numbers stand where they always do.
            Pair::Rsa(pair) => {
                let der = pair.public_key().as_ref();
                json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": b64(&der[9..265]), "e": b64(&der[267..])})
            }
            Pair::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "kid": kid, "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..])})
            }
            Pair::Ed(pair) => json!({"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": b64(pair.public_key().as_ref())}),
            Pair::Shared => Value::Null,
        }
    }

    fn sign(&self, signed: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(signed).as_ref().to_vec(),
            Pair::Shared => hmac_256(SECRET.as_bytes(), signed),
        }
    }

    fn raw(&self, header: &Value, payload: &str) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(payload));
        let signature = b64(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// A good token, but for `changes`.
    fn token(&self, changes: Value) -> String {
        let mut claims = json!({"iss": "https://id.example", "aud": "orders", "sub": "ann", "exp": now() + 600});
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.raw(&json!({"alg": self.algorithm, "kid": self.kid, "typ": "JWT"}), &claims.to_string())
    }
}

fn hmac_256(secret: &[u8], signed: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed).as_ref().to_vec()
}

/// Serves a JWK set, or says that it cannot.
struct Idp {
    origin: Origin,
    set: Arc<Mutex<Option<String>>>,
}

impl Idp {
    async fn start(signers: &[&Signer]) -> Self {
        let set = Arc::new(Mutex::new(None));
        let served = Arc::clone(&set);
        let origin = Origin::start(move |_, _| {
            let set: Option<String> = served.lock().unwrap().clone();
            async move {
                set.map_or_else(
                    || Response::builder().status(503).body("down".into()).unwrap(),
                    |set| answer(&[("content-type", "application/json")], set),
                )
            }
        })
        .await;
        let idp = Self { origin, set };
        idp.serves(signers);
        idp
    }

    fn serves(&self, signers: &[&Signer]) {
        let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
        *self.set.lock().unwrap() = Some(json!({"keys": keys}).to_string());
    }

    fn goes_down(&self) {
        *self.set.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.origin.asked("GET /jwks")
    }
}

/// Answers with the request's headers and target, and says that this may be kept for all who may have it.
async fn mirror() -> Origin {
    Origin::start(|parts, _| async move {
        let headers: serde_json::Map<String, Value> =
            parts.headers.iter().map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into())).collect();
        let body = json!({"headers": headers, "target": parts.uri.to_string(), "nonce": b64(aws_random())});
        answer(&[("cache-control", "max-age=60")], body.to_string())
    })
    .await
}

fn aws_random() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}

fn document(origin: &Origin, idp: &Idp, rest: &str) -> String {
    let (origin, idp) = (origin.address, idp.origin.address);
    format!(
        "version: 1
upstreams:
  - {{name: mirror, endpoints: [{{url: \"http://{origin}\"}}]}}
issuers:
  - name: main
    issuer: https://id.example
    audiences: [orders]
    jwks: {{url: \"http://{idp}/jwks\"}}
    leeway: 5s
    headers: {{x-user: sub, x-roles: realm_access.roles}}
    end_user_claim: sub
{rest}"
    )
}

async fn ask(cluster: &Cluster, node: usize, path: &str, headers: &[(&str, &str)]) -> Answer {
    cluster.client.get(&cluster.nodes[node].url(path), headers).await.unwrap()
}

async fn bear(cluster: &Cluster, path: &str, token: &str) -> Answer {
    ask(cluster, 0, path, &[("authorization", &format!("Bearer {token}"))]).await
}

fn code(answer: &Answer) -> String {
    if answer.status == StatusCode::OK {
        return "ok".to_owned();
    }
    answer.json()["error"]["code"].as_str().unwrap().to_owned()
}

fn challenge(answer: &Answer) -> &str {
    answer.headers["www-authenticate"].to_str().unwrap()
}

const ROUTES: &str = "  - name: other
    issuer: other
    secret: ${secrets.shared}
    from: [bearer, header:x-token, cookie:token, query:access_token]
    consumer_claim: azp
  - {name: open, issuer: https://open.example, audiences: [orders], secret: \"${secrets.shared}\", consumer_claim: azp, unknown_consumer: anonymous, forward_token: true}
secrets: [{name: shared, from: \"file:SECRET\"}]
consumers: [{name: web}, {name: foreign, tenant: there}]
routes:
  - {name: main, match: {path: /main/*}, to: [{upstream: mirror}], auth: [\"jwt:main\"]}
  - {name: other, match: {path: /other/*}, to: [{upstream: mirror}], auth: [jwt: other]}
  - {name: open, match: {path: /open/*}, to: [{upstream: mirror}], auth: [\"jwt:open\"]}
  - {name: any, match: {path: /any/*}, to: [{upstream: mirror}], auth: [jwt]}
  - {name: both, match: {path: /both/*}, to: [{upstream: mirror}], auth: [key, \"jwt:main\"], claims: {scope: [read]}}
  - {name: scoped, match: {path: /scoped/*}, to: [{upstream: mirror}], auth: [\"jwt:main\"], claims: {scope: [read write, admin], realm_access.roles: [a]}}
  - {name: keyed, match: {path: /keyed/*}, to: [{upstream: mirror}], auth: [key]}
  - {name: free, match: {path: /free/*}, to: [{upstream: mirror}]}
  - {name: kept, match: {path: /kept/*}, to: [{upstream: mirror}], auth: [key, \"jwt:main\"], cache: {ttl: from_origin}}
";

/// One node with all of these routes.
async fn gate(idp: &Idp, origin: &Origin) -> Cluster {
    let cluster = Cluster::start(1).await;
    let secret = cluster.write("secret", &format!("{SECRET}\n"));
    let log = secret.with_file_name("access.log");
    let telemetry = format!(
        "telemetry: {{access_log: {{format: json, file: {}, headers: [authorization, x-token, cookie, x-user]}}}}\n",
        log.display()
    );
    let rest = ROUTES.replace("SECRET", secret.to_str().unwrap()) + &telemetry;
    cluster.apply(&document(origin, idp, &rest)).await;
    cluster
}

fn access_log(cluster: &Cluster) -> String {
    std::fs::read_to_string(cluster.write("keep", "").with_file_name("access.log")).unwrap_or_default()
}

fn logged(cluster: &Cluster) -> String {
    cluster.nodes[0].log() + &access_log(cluster)
}

#[tokio::test]
async fn a_token_lets_in_by_its_issuers_key_and_no_other_way() {
    let signers = [Signer::new("RS256", "rs"), Signer::new("ES256", "es"), Signer::new("EdDSA", "ed")];
    let [rs, es, ed] = &signers;
    let (idp, origin) = (Idp::start(&[rs, es, ed]).await, mirror().await);
    let cluster = gate(&idp, &origin).await;
    let seen = async |path: &str, token: &str| code(&bear(&cluster, path, token).await);
    for signer in &signers {
        let good = signer.token(json!({}));
        assert_eq!(seen("/main/x", &good).await, "ok", "{}", signer.algorithm);
        assert_eq!(seen("/main/x", &good).await, "ok", "again, remembered");
        assert_eq!(seen("/any/x", &good).await, "ok");
        assert_eq!(seen("/other/x", &good).await, "token_invalid", "another issuer's");
        let broken = format!("{}AAAA{}", &good[..good.len() - 20], &good[good.len() - 16..]);
        assert_eq!(seen("/main/x", &broken).await, "token_invalid");
    }
    let expired = bear(&cluster, "/main/x", &rs.token(json!({"exp": now() - 6}))).await;
    assert_eq!((expired.status, code(&expired).as_str()), (StatusCode::UNAUTHORIZED, "token_expired"));
    assert!(challenge(&expired).contains("error=\"invalid_token\""), "{}", challenge(&expired));
    assert_eq!(seen("/main/x", &rs.token(json!({"exp": now() - 2}))).await, "ok", "clocks differ");
    assert_eq!(seen("/main/x", &rs.token(json!({"nbf": now() + 60}))).await, "token_not_yet_valid");
    assert_eq!(seen("/main/x", &rs.token(json!({"aud": ["users"]}))).await, "token_audience");
    assert_eq!(seen("/main/x", &rs.token(json!({"exp": null}))).await, "token_incomplete");
    assert_eq!(seen("/main/x", &rs.token(json!({"iss": "https://evil.example"}))).await, "token_invalid");
    let strange = Signer::new("RS256", "rs");
    assert_eq!(seen("/main/x", &strange.token(json!({"exp": 1}))).await, "token_invalid", "no word about times");

    // The public key is no secret to sign with, and `none` is no algorithm.
    let Pair::Rsa(pair) = &rs.pair else { unreachable!() };
    let n = rs.jwk()["n"].as_str().unwrap().to_owned();
    for secret in [pair.public_key().as_ref(), n.as_bytes(), rs.jwk().to_string().as_bytes(), b""] {
        for kid in [json!("rs"), Value::Null] {
            let mut header = json!({"alg": "HS256", "kid": kid});
            if kid.is_null() {
                header = json!({"alg": "HS256"});
            }
            let good = rs.token(json!({}));
            let payload = good.split('.').nth(1).unwrap();
            let signed = format!("{}.{payload}", b64(header.to_string()));
            let forged = format!("{signed}.{}", b64(hmac_256(secret, signed.as_bytes())));
            assert_eq!(seen("/main/x", &forged).await, "token_invalid", "{header}");
            let unsigned = format!("{}.{payload}.", b64(r#"{"alg":"none"}"#));
            assert_eq!(seen("/main/x", &unsigned).await, "token_invalid");
        }
    }
    let header = json!({"alg": "RS256", "kid": "rs", "crit": ["x"], "x": 1});
    let payload = json!({"iss": "https://id.example", "aud": "orders", "exp": now() + 60}).to_string();
    assert_eq!(seen("/main/x", &rs.raw(&header, &payload)).await, "token_invalid");
    let twice = payload.replacen('{', r#"{"aud":"users","#, 1);
    assert_eq!(seen("/main/x", &rs.raw(&json!({"alg": "RS256", "kid": "rs"}), &twice)).await, "token_invalid");
    assert_eq!(seen("/main/x", &rs.token(json!({"pad": "x".repeat(9_000)}))).await, "token_invalid", "too long");
    assert_eq!(seen("/main/x", "a b").await, "token_invalid");

    let none = ask(&cluster, 0, "/main/x", &[]).await;
    assert_eq!((code(&none).as_str(), challenge(&none)), ("token_missing", "Bearer realm=\"tidegate\""));
    let (one, two) = (format!("Bearer {}", rs.token(json!({}))), format!("Bearer {}", es.token(json!({}))));
    let both = ask(&cluster, 0, "/main/x", &[("authorization", &one), ("authorization", &two)]).await;
    assert_eq!((both.status, code(&both).as_str()), (StatusCode::BAD_REQUEST, "token_conflict"));
    let same = ask(&cluster, 0, "/main/x", &[("authorization", &one), ("authorization", &one)]).await;
    assert_eq!(code(&same), "ok");
    assert!(same.json()["headers"].get("authorization").is_none(), "{:?}", same.json());
    eventually("the log says why", Duration::from_secs(5), async || {
        let log = access_log(&cluster);
        log.contains("the token's signature is wrong") && log.contains("the token has a `crit` header")
    })
    .await;
    assert!(!logged(&cluster).contains("eyJ"), "no token is logged");
    assert_eq!(idp.asked(), 1, "made-up tokens fetch nothing: they name keys that are known, or none");
}

#[tokio::test]
async fn the_upstream_reads_claims_and_no_token_whatever_the_request_says() {
    let signer = Signer::new("ES256", "es");
    let (idp, origin) = (Idp::start(&[&signer]).await, mirror().await);
    let cluster = gate(&idp, &origin).await;
    let token = signer.token(json!({"realm_access": {"roles": ["b", "a"]}}));
    let bearer = format!("Bearer {token}");
    let forged = [("x-user", "root"), ("x_user", "root"), ("X-Roles", "admin"), ("connection", "x-user, x-roles")];
    let mut headers = forged.to_vec();
    headers.push(("authorization", &bearer));
    let seen = ask(&cluster, 0, "/main/x?a=1", &headers).await.json();
    let of = |name: &str| seen["headers"].get(name).and_then(Value::as_str).map(str::to_owned);
    assert_eq!((of("x-user"), of("x-roles")), (Some("ann".into()), Some("b,a".into())), "{seen}");
    assert_eq!((of("x_user"), of("authorization"), seen["target"].as_str()), (None, None, Some("/main/x?a=1")));
    let free = ask(&cluster, 0, "/free/x", &forged[..3]).await.json();
    assert!(["x-user", "x_user", "x-roles"].iter().all(|name| free["headers"].get(name).is_none()), "{free}");

    // Another issuer, its places, its consumers.
    let shared = Signer::new("HS256", "-");
    let good = shared.token(json!({"iss": "other", "azp": "web"}));
    for (path, header) in [
        ("/other/x?b=2", ("authorization", format!("bearer  {good}"))),
        ("/other/x?b=2", ("x-token", good.clone())),
        ("/other/x?b=2", ("cookie", format!("c=3; token={good}"))),
        (&*format!("/other/x?access_token={good}&b=2"), ("cookie", "c=3".to_owned())),
        (&*format!("/other/x?b=2&access%5Ftoken={good}"), ("cookie", "c=3".to_owned())),
    ] {
        let seen = ask(&cluster, 0, path, &[(header.0, &header.1), ("x-user", "root")]).await;
        assert_eq!(seen.status, StatusCode::OK, "{path} {header:?}: {:?}", seen.body);
        let seen = seen.json();
        assert!(!seen.to_string().contains("eyJ"), "{seen}");
        assert_eq!(seen["target"], "/other/x?b=2");
        assert!(header.0 != "cookie" || seen["headers"]["cookie"] == "c=3", "{seen}");
        assert!(seen["headers"].get("x-user").is_none(), "this issuer writes none");
    }
    for azp in [json!("nobody"), json!("foreign"), json!(["web"]), json!(""), Value::Null] {
        let stranger = bear(&cluster, "/other/x", &shared.token(json!({"iss": "other", "azp": azp}))).await;
        assert_eq!((stranger.status, code(&stranger).as_str()), (StatusCode::FORBIDDEN, "token_without_consumer"));
        let open = shared.token(json!({"iss": "https://open.example", "azp": azp}));
        let open = bear(&cluster, "/open/x", &open).await;
        assert!(open.json()["headers"]["authorization"].as_str().unwrap().starts_with("Bearer eyJ"));
    }

    // Keys or tokens; scopes.
    let key = cluster.bearer("web", "/keyed/x").await;
    assert_eq!(code(&ask(&cluster, 0, "/both/x", &[("authorization", &key)]).await), "ok", "keys have no claims");
    let lacking = bear(&cluster, "/both/x", &token).await;
    assert_eq!((lacking.status, code(&lacking).as_str()), (StatusCode::FORBIDDEN, "claims_insufficient"));
    assert!(challenge(&lacking).contains("error=\"insufficient_scope\""));
    let reader = signer.token(json!({"scope": "openid read"}));
    assert_eq!(code(&bear(&cluster, "/both/x", &reader).await), "ok");
    let two =
        ask(&cluster, 0, "/both/x", &[("authorization", &format!("Bearer {reader}")), ("x-api-key", &key[7..])]).await;
    assert_eq!(code(&two), "key_conflict");
    assert_eq!(code(&ask(&cluster, 0, "/both/x", &[]).await), "token_missing");
    assert_eq!(code(&bear(&cluster, "/both/x", "tg_unknown").await), "key_unknown");
    assert_eq!(code(&bear(&cluster, "/keyed/x", &reader).await), "key_unknown");
    let scoped = async |claims: Value| code(&bear(&cluster, "/scoped/x", &signer.token(claims)).await);
    let roles = json!({"roles": ["a"]});
    assert_eq!(scoped(json!({"scope": "write x read", "realm_access": roles})).await, "ok");
    assert_eq!(scoped(json!({"scope": ["admin"], "realm_access": roles})).await, "ok");
    assert_eq!(scoped(json!({"scope": "write", "realm_access": roles})).await, "claims_insufficient");
    assert_eq!(scoped(json!({"scope": "admin"})).await, "claims_insufficient");

    // What is kept is kept for one subject, whoever else the token is good for.
    let kept = async |headers: &[(&str, &str)]| ask(&cluster, 0, "/kept/x", headers).await.json()["nonce"].clone();
    let ann = kept(&[("authorization", &bearer)]).await;
    let longer = signer.token(json!({"realm_access": {"roles": ["b", "a"]}, "exp": now() + 900}));
    assert_eq!(kept(&[("authorization", &format!("Bearer {longer}"))]).await, ann, "her next token");
    let bob = signer.token(json!({"sub": "bob"}));
    assert_ne!(kept(&[("authorization", &format!("Bearer {bob}"))]).await, ann);
    let admin = signer.token(json!({"realm_access": {"roles": ["admin"]}}));
    assert_ne!(kept(&[("authorization", &format!("Bearer {admin}"))]).await, ann, "the upstream reads other roles");
    assert_ne!(kept(&[("authorization", &key)]).await, ann);
    assert!(!logged(&cluster).contains("eyJ"), "no token is logged, wherever it was");
    let logged = logged(&cluster);
    assert!(logged.contains("/other/x") && logged.contains("token_without_consumer"), "{logged}");
}

#[tokio::test]
async fn keys_that_change_are_fetched_at_once_and_those_of_an_issuer_that_is_down_stay() {
    let (old, new) = (Signer::new("ES256", "1"), Signer::new("EdDSA", "2"));
    let (idp, origin) = (Idp::start(&[&old]).await, mirror().await);
    let cluster = gate(&idp, &origin).await;
    let seen = async |signer: &Signer| code(&bear(&cluster, "/main/x", &signer.token(json!({}))).await);
    assert_eq!((seen(&old).await.as_str(), seen(&new).await.as_str()), ("ok", "token_invalid"));
    assert_eq!(idp.asked(), 2, "the key is not known: it may be new");
    idp.serves(&[&old, &new]);
    assert_eq!((seen(&new).await.as_str(), seen(&old).await.as_str()), ("ok", "ok"));
    idp.serves(&[&new]);
    let made_up: Vec<Signer> = (0..20).map(|n| Signer::new("EdDSA", &format!("made up {n}"))).collect();
    let asked = idp.asked();
    for signer in &made_up {
        assert_eq!(seen(signer).await, "token_invalid");
    }
    assert!(idp.asked() <= asked + 2, "who makes up keys does not turn us against the issuer: {}", idp.asked());
    assert_eq!(seen(&old).await, "token_invalid", "withdrawn, though its token was remembered");

    idp.goes_down();
    let text = |origin: &Origin| {
        document(
            origin,
            &idp,
            "routes:\n  - {name: main, match: {path: /main/*}, to: [{upstream: mirror}], auth: [jwt]}\n",
        )
    };
    cluster.apply(&text(&origin).replace("/jwks\"}", "/jwks\", refresh: 5s, max_stale: 5s}")).await;
    let down = bear(&cluster, "/main/x", &new.token(json!({}))).await;
    assert_eq!((down.status, code(&down).as_str()), (StatusCode::SERVICE_UNAVAILABLE, "issuer_unavailable"));
    assert_eq!(down.headers["retry-after"], "1");
    let ready = cluster.client.get(&cluster.nodes[0].admin("/readyz"), &[]).await.unwrap();
    let told = String::from_utf8_lossy(&ready.body).into_owned();
    assert!(ready.status == StatusCode::OK && told.contains("issuer `main`") && told.contains("503"), "{told}");
    idp.serves(&[&new]);
    eventually("its keys are fetched again", Duration::from_secs(10), async || seen(&new).await == "ok").await;
    idp.goes_down();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(seen(&new).await, "ok", "the last good keys stay");
    let stale = "but not for ever";
    eventually(stale, Duration::from_secs(15), async || seen(&new).await == "issuer_unavailable").await;
    let metrics = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap();
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.lines().any(|line| line.starts_with("tidegate_issuer_usable{issuer=\"main\"} 0")), "{metrics}");
}

#[tokio::test]
async fn a_limit_by_claim_is_exact_over_three_nodes_and_a_claim_can_be_blocked() {
    let signer = Signer::new("ES256", "es");
    let (idp, origin) = (Idp::start(&[&signer]).await, mirror().await);
    let cluster = Cluster::start(3).await;
    let rest = "\
limits:
  - {name: org, window: 1h, max: 7, per: [\"claim:org\", method]}
  - {name: groups, window: 1h, max: 5, per: [\"claim:groups\"], on_missing: refuse}
  - {name: person, window: 1h, max: 4, per: [end_user]}
routes:
  - {name: org, match: {path: /org/*}, to: [{upstream: mirror}], auth: [jwt], limits: [org]}
  - {name: groups, match: {path: /groups/*}, to: [{upstream: mirror}], auth: [jwt], limits: [groups]}
  - {name: person, match: {path: /person/*}, to: [{upstream: mirror}], auth: [jwt], limits: [person]}
";
    cluster.apply(&document(&origin, &idp, rest)).await;
    let served = async |path: &str, claims: &[Value], most: usize| {
        let (mut count, mut idle) = (0, 0);
        let ends = tokio::time::Instant::now() + Duration::from_secs(20);
        while idle < 4 && tokio::time::Instant::now() < ends {
            let mut some = false;
            for node in 0..3 {
                for claims in claims {
                    let bearer = format!("Bearer {}", signer.token(claims.clone()));
                    let headers = [("authorization", bearer.as_str()), ("x-end-user", "made-up")];
                    let status = ask(&cluster, node, path, &headers).await.status.as_u16();
                    assert!(status == 200 || status == 429, "{path} {claims}: {status}");
                    some |= status == 200;
                    count += usize::from(status == 200);
                }
            }
            assert!(count <= most, "{path}: {count} were served of {most}");
            idle = if some { 0 } else { idle + 1 };
            tokio::time::sleep(Duration::from_millis(if some { 0 } else { 150 })).await;
        }
        count
    };
    let orgs = [json!({"org": 7, "sub": "a"}), json!({"org": "7", "sub": "b"}), json!({"org": 7.0, "sub": "c"})];
    assert_eq!(served("/org/x", &orgs, 7).await, 7, "one organisation, however it is written");
    assert_eq!(served("/org/x", &[json!({"org": 8})], 7).await, 7);
    assert_eq!(served("/org/x", &[json!({}), json!({"org": null}), json!({"org": ""})], 7).await, 7, "all without one");
    let groups = [json!({"groups": ["b", "a"]}), json!({"groups": ["a", "b", "a"]})];
    assert_eq!(served("/groups/x", &groups, 5).await, 5, "in whatever order");
    assert_eq!(served("/person/x", &[json!({"sub": "ann"})], 4).await, 4, "the token says who, not the header");
    assert_eq!(served("/person/x", &[json!({"sub": "bob"})], 4).await, 4);
    let odd = async |claims: Value| code(&bear(&cluster, "/groups/x", &signer.token(claims)).await);
    assert_eq!(odd(json!({})).await, "subject_missing");
    assert_eq!(odd(json!({"groups": [["a"]]})).await, "subject_invalid");
    assert_eq!(odd(json!({"groups": {"a": 1}})).await, "subject_invalid");
    assert_eq!(odd(json!({"groups": "x".repeat(5_000)})).await, "subject_invalid");

    let words = ["--issuer", "main", "--claim", "groups=a", "--claim", "groups=b"];
    let count = cluster.cli(&[&["quota", "get", "groups"], &words[..]].concat()).await.expect("a counter");
    assert!(count.to_string().contains("claim:groups=a,b"), "{count}");
    let block = ["--issuer", "main", "--claim", "groups=c"];
    cluster.cli(&[&["quota", "block", "groups"], &block[..]].concat()).await.expect("blocked");
    for node in 0..3 {
        let bearer = format!("Bearer {}", signer.token(json!({"groups": "c"})));
        assert_eq!(code(&ask(&cluster, node, "/groups/x", &[("authorization", &bearer)]).await), "blocked");
    }
    assert_eq!(odd(json!({"groups": "d"})).await, "ok");
}
