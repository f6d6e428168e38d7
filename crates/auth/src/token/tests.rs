//! What is a good token and what is none, with keys made here.

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tidegate_policy::{Algorithm, ClaimPath, ClaimRule, Issuer, Keys, Stranger, TokenPlace};

use super::*;

const NOW: u64 = 1_800_000_000;
static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"));
static EC: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"));
static ED: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::generate().expect("a key"));
const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn sign(algorithm: &str, signed: &str) -> Vec<u8> {
    let (random, signed) = (SystemRandom::new(), signed.as_bytes());
    match algorithm {
        "RS256" => {
            let mut signature = vec![0; RSA.public_modulus_len()];
            RSA.sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature).expect("signed");
            signature
        }
        "ES256" => EC.sign(&random, signed).expect("signed").as_ref().to_vec(),
        "EdDSA" => ED.sign(signed).as_ref().to_vec(),
        "HS256" => hmac(SECRET, signed),
        other => panic!("{other}"),
    }
}

fn hmac(secret: &[u8], signed: &[u8]) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    aws_lc_rs::hmac::sign(&key, signed).as_ref().to_vec()
}

fn jwks() -> Value {
    // RFC 8017 § A.1.1: of a key of 2048 bits, numbers stand where they always do.
    let rsa = RSA.public_key().as_ref();
    let (n, e) = (b64(&rsa[9..265]), b64(&rsa[267..]));
    let point = EC.public_key().as_ref();
    json!({"keys": [
        {"kty": "RSA", "kid": "rs", "use": "sig", "n": n, "e": e, "x5t": "ignored"},
        {"kty": "EC", "kid": "es", "crv": "P-256", "alg": "ES256", "x": b64(&point[1..33]), "y": b64(&point[33..])},
        {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": b64(ED.public_key().as_ref())},
        {"kty": "oct", "kid": "hs", "k": b64(SECRET)},
        {"kty": "RSA", "kid": "enc", "use": "enc", "n": n, "e": e},
    ]})
}

fn issuer(keys: Keys, algorithms: &[Algorithm]) -> Issuer {
    Issuer {
        name: "main".into(),
        iss: Some("https://id.example".into()),
        audiences: vec!["orders".into(), "users".into()],
        keys: Arc::new(keys),
        algorithms: algorithms.to_vec(),
        leeway: Duration::from_secs(60),
        required: Vec::new(),
        places: vec![TokenPlace::Bearer],
        forward: false,
        consumer: None,
        stranger: Stranger::Refuse,
        end_user: None,
        headers: Vec::new(),
    }
}

fn by_set(algorithms: &[Algorithm]) -> (Arc<Issuer>, KeySet) {
    let keys = Keys::Set(jwks().to_string().into_bytes());
    let set = KeySet::read(&keys).expect("keys");
    (Arc::new(issuer(keys, algorithms)), set)
}

const PUBLIC: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": ["users", "x"], "sub": "ann", "exp": NOW + 100, "nbf": NOW})
}

fn raw(algorithm: &str, header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", b64(header), b64(payload));
    let signature = b64(sign(algorithm, &signed));
    format!("{signed}.{signature}")
}

fn token(algorithm: &str, kid: &str, claims: &Value) -> String {
    raw(algorithm, &json!({"alg": algorithm, "kid": kid, "typ": "JWT"}).to_string(), &claims.to_string())
}

fn prove(text: &str, (issuer, set): &(Arc<Issuer>, KeySet)) -> Result<Token, Invalid> {
    Unproven::read(text)?.prove(issuer, set, NOW)
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    if value.is_null() {
        claims.as_object_mut().map(|map| map.remove(name))
    } else {
        claims.as_object_mut().map(|map| map.insert(name.into(), value))
    };
    claims
}

#[test]
fn a_token_is_good_when_its_own_key_signed_it() {
    let ring = by_set(&PUBLIC);
    for (algorithm, kid) in [("RS256", "rs"), ("ES256", "es"), ("EdDSA", "ed")] {
        let good = prove(&token(algorithm, kid, &claims()), &ring).expect("good");
        assert_eq!((good.until, good.claims.top("sub")), (NOW + 160, Some(&Claim::Text("ann".into()))));
        for other in ["rs", "es", "ed"].iter().filter(|other| **other != kid) {
            assert_eq!(prove(&token(algorithm, other, &claims()), &ring).map(drop), Err(Invalid::Algorithm), "{other}");
        }
        let nameless = raw(algorithm, &json!({"alg": algorithm}).to_string(), &claims().to_string());
        assert!(prove(&nameless, &ring).is_ok());
    }
    for kid in ["hs", "enc", "?"] {
        let unknown = token("RS256", kid, &claims());
        assert_eq!(prove(&unknown, &ring).map(drop), Err(Invalid::UnknownKey), "{kid}: no key to check with");
    }
}

#[test]
fn a_public_key_is_no_secret_and_none_is_no_algorithm() {
    let rsa_der = RSA.public_key().as_ref().to_vec();
    // RFC 5280: the algorithm, and the key as bits.
    let algorithm = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0];
    let bits = [&[3, 0x82, 1, 15, 0], &rsa_der[..]].concat();
    let spki = [&[0x30, 0x82, 1, 34], &algorithm[..], &bits].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&spki));
    // Even if somebody allowed HS256 beside RS256, the key's kind decides.
    let all = [Algorithm::Rs256, Algorithm::Hs256];
    let of_pem = (
        Arc::new(issuer(Keys::Pem(pem.clone().into_bytes()), &all)),
        KeySet::read(&Keys::Pem(pem.clone().into_bytes())).expect("a key"),
    );
    assert!(prove(&token("RS256", "rs", &claims()), &of_pem).is_ok(), "a PEM has no name and fits all");
    for secret in [rsa_der, spki, pem.into_bytes()] {
        let signed = format!("{}.{}", b64(r#"{"alg":"HS256","kid":"rs"}"#), b64(claims().to_string()));
        let forged = format!("{signed}.{}", b64(hmac(&secret, signed.as_bytes())));
        assert_eq!(prove(&forged, &of_pem).map(drop), Err(Invalid::Algorithm));
        assert_eq!(prove(&forged, &by_set(&all)).map(drop), Err(Invalid::Algorithm));
    }
    for none in ["none", "None", "nOnE", "", "HS257", "rs256"] {
        let unsigned = format!("{}.{}.", b64(json!({"alg": none}).to_string()), b64(claims().to_string()));
        assert_eq!(prove(&unsigned, &of_pem).map(drop), Err(Invalid::Malformed));
        assert_eq!(prove(&format!("{unsigned}AAAA"), &of_pem).map(drop), Err(Invalid::Algorithm), "{none}");
    }
}

#[test]
fn a_secret_checks_hmac_and_nothing_else() {
    let ring = (
        Arc::new(issuer(Keys::Secret(SECRET.into()), &[Algorithm::Hs256])),
        KeySet::read(&Keys::Secret(SECRET.into())).expect("a secret"),
    );
    let good = token("HS256", "any", &claims());
    assert!(prove(&good, &ring).is_ok());
    let (head, last) = good.split_at(good.len() - 6);
    assert_eq!(prove(&format!("{head}AAAA{}", &last[4..]), &ring).map(drop), Err(Invalid::Signature));
    assert_eq!(prove(&token("RS256", "rs", &claims()), &ring).map(drop), Err(Invalid::Algorithm));
    assert!(KeySet::read(&Keys::Secret(b"too short".to_vec())).is_err());
}

#[test]
fn times_audience_and_issuer_are_told_apart() {
    let ring = by_set(&PUBLIC);
    let check = |name: &str, value: Value, expected: Result<(), Invalid>| {
        let seen = prove(&token("ES256", "es", &with(claims(), name, value.clone())), &ring).map(drop);
        assert_eq!(seen, expected, "{name}: {value}");
    };
    let incomplete = |name: &str| Err(Invalid::Incomplete(name.into()));
    check("exp", json!(NOW - 59), Ok(()));
    check("exp", json!(NOW - 60), Err(Invalid::Expired));
    check("exp", json!(NOW as f64 - 0.5), Ok(()));
    check("exp", json!(-1), Err(Invalid::Expired));
    check("exp", json!(u64::MAX), Ok(()));
    check("exp", json!(1e300), Ok(()));
    check("exp", Value::Null, incomplete("exp"));
    check("exp", json!((NOW + 5).to_string()), incomplete("exp"));
    check("nbf", json!(NOW + 60), Ok(()));
    check("nbf", json!(NOW + 61), Err(Invalid::NotYet));
    check("nbf", json!([NOW]), incomplete("nbf"));
    check("aud", json!("orders"), Ok(()));
    check("aud", json!("order"), Err(Invalid::Audience));
    check("aud", json!([["orders"]]), Err(Invalid::Audience));
    check("aud", Value::Null, Err(Invalid::Audience));
    check("iss", json!("https://id.example/"), Err(Invalid::Issuer));
    check("iss", json!(["https://id.example"]), Err(Invalid::Issuer));
    check("iss", Value::Null, Err(Invalid::Issuer));
    let expired = token("ES256", "es", &with(claims(), "exp", json!(1)));
    let (body, signature) = expired.rsplit_once('.').expect("three parts");
    let forged = format!("{body}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    assert_eq!(prove(&forged, &ring).map(drop), Err(Invalid::Signature), "who cannot sign learns nothing of times");
}

#[test]
fn what_is_no_plain_token_is_none() {
    let ring = by_set(&PUBLIC);
    let good = token("ES256", "es", &claims());
    assert!(prove(&good, &ring).is_ok());
    let padded = good.replacen('.', "=.", 1);
    for text in [
        "",
        ".",
        "..",
        "a.b.c",
        "a.b.c.d.e",
        &padded,
        &format!(" {good}"),
        &format!("{good} "),
        &format!("{good}\n"),
        &format!("{good}.x"),
    ] {
        assert_eq!(prove(text, &ring).map(drop), Err(Invalid::Malformed), "{text:?}");
    }
    assert_eq!(prove(&"a".repeat(MAX_TOKEN_BYTES + 1), &ring).map(drop), Err(Invalid::TooLong));
    let header = |header: &str| prove(&raw("ES256", header, &claims().to_string()), &ring).map(drop);
    assert_eq!(header(r#"{"alg":"ES256","kid":"es","crit":["exp"],"exp":1}"#), Err(Invalid::Critical));
    assert_eq!(header(r#"{"alg":"ES256","kid":"es","b64":false}"#), Err(Invalid::Critical));
    assert_eq!(header(r#"{"alg":"none","alg":"ES256","kid":"es"}"#), Err(Invalid::Malformed), "a name is said twice");
    assert_eq!(header(r#"{"alg":"ES256","kid":7}"#), Err(Invalid::Malformed));
    assert_eq!(header(r#"["ES256"]"#), Err(Invalid::Malformed));
    // Keys that a token brings along are nobody's.
    let own = json!({"alg": "ES256", "jwk": jwks()["keys"][1], "jku": "http://127.0.0.1/", "x5u": "http://127.0.0.1/"});
    let mut other = by_set(&PUBLIC);
    other.1 = KeySet::of_set(json!({"keys": [jwks()["keys"][0]]}).to_string().as_bytes()).expect("one key");
    assert_eq!(
        prove(&raw("ES256", &own.to_string(), &claims().to_string()), &other).map(drop),
        Err(Invalid::Algorithm)
    );
    let payload = |text: &str| prove(&raw("ES256", r#"{"alg":"ES256","kid":"es"}"#, text), &ring).map(drop);
    let twice = claims().to_string().replacen('{', r#"{"sub":"bob","#, 1);
    assert_eq!(payload(&twice), Err(Invalid::Malformed), "two subjects are none");
    assert_eq!(payload(&claims().to_string().replacen('{', r#"{"a":{"b":1,"b":2},"#, 1)), Err(Invalid::Malformed));
    assert_eq!(
        payload(&claims().to_string().replacen('{', &format!(r#"{{"a":{}{},"#, "[".repeat(200), "]".repeat(200)), 1)),
        Err(Invalid::Malformed)
    );
    assert_eq!(payload("\"text\""), Err(Invalid::Malformed));
    assert_eq!(payload("{}{}"), Err(Invalid::Malformed));
}

#[test]
fn claims_become_consumers_headers_and_counts() {
    let mut it = issuer(Keys::Set(jwks().to_string().into_bytes()), &PUBLIC);
    let path = |text: &str| ClaimPath::new(text).expect("a name");
    it.consumer = Some(path("azp"));
    it.required = vec![path("roles")];
    let header = |name: &'static str, claim: &str| (HeaderName::from_static(name), path(claim));
    it.headers = vec![
        header("x-roles", "roles"),
        header("x-realm", "realm.name"),
        header("x-odd", "odd"),
        header("x-none", "none"),
    ];
    let ring = (Arc::new(it), by_set(&PUBLIC).1);
    let claims = |odd: Value| {
        let mut claims = with(with(claims(), "azp", json!("web")), "roles", json!(["b", "a", "b", 1.0]));
        claims = with(claims, "realm", json!({"name": "x", "deep": [[1]]}));
        with(with(claims, "a.b", json!(true)), "odd", odd)
    };
    let good = prove(&token("EdDSA", "ed", &claims(json!("a\r\nx-admin: 1"))), &ring).expect("good");
    let headers: Vec<_> = good.headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
    assert_eq!(headers, ["x-roles: b,a,b,1", "x-realm: x"], "no line is written by a claim");
    assert_eq!(good.consumer.as_deref(), Some("web"));
    let counted = |name: &str| good.claims.counted(&path(name)).map(|v| v.map(|v| v.join("|")));
    assert_eq!(counted("roles"), Ok(Some("1|a|b".into())));
    assert_eq!(counted("a.b"), Ok(Some("true".into())), "a claim with dots in its name");
    assert_eq!((counted("realm.name"), counted("none")), (Ok(Some("x".into())), Ok(None)));
    assert_eq!((counted("realm"), counted("realm.deep")), (Err(NotCounted), Err(NotCounted)));
    let listed = prove(&token("EdDSA", "ed", &claims(json!(["a,b", {"c": "\u{e9}\""}]))), &ring).expect("good");
    assert_eq!(listed.headers[2].1.to_str().unwrap(), r#"["a,b",{"c":"\u00e9\""}]"#);
    assert_ne!(good.home, listed.home, "the upstream may answer otherwise");
    let lacking = token("EdDSA", "ed", &with(claims(json!(1)), "roles", json!([])));
    assert_eq!(prove(&lacking, &ring).map(drop), Err(Invalid::Incomplete("roles".into())));
    assert!(!format!("{good:?} {:?}", good.claims).contains("web"));
}

#[test]
fn a_route_asks_for_words_of_a_scope_or_values() {
    let ring = by_set(&PUBLIC);
    let check = |scope: Value, any: &[&str], expected: bool| {
        let good = prove(&token("ES256", "es", &with(claims(), "scope", scope.clone())), &ring).expect("good");
        let any = any.iter().map(|all| all.split(' ').map(Into::into).collect()).collect();
        let rule = ClaimRule { claim: ClaimPath::new("scope").expect("a name"), any };
        assert_eq!(good.meets(&[rule]), expected, "{scope}");
    };
    check(json!("read write"), &["read"], true);
    check(json!("read write"), &["write read"], true);
    check(json!("read"), &["write read"], false);
    check(json!("reader"), &["read"], false);
    check(json!(["a", "read"]), &["write", "read"], true);
    check(json!([["read"]]), &["read"], false);
    check(Value::Null, &["read"], false);
    check(json!({"read": true}), &["read"], false);
}

#[test]
fn a_remembered_token_is_forgotten_with_its_end_its_keys_and_its_document() {
    let (it, set) = by_set(&PUBLIC);
    let text = token("ES256", "es", &claims());
    let good = Arc::new(Unproven::read(&text).expect("a token").prove(&it, &set, NOW).expect("good"));
    let memo = Memo::default();
    memo.keep(&text, &good, 7);
    assert!(memo.find(&text, &it, 7, NOW).is_some());
    assert!(memo.find(&text, &it, 8, NOW).is_none(), "other keys");
    assert!(memo.find(&text, &it, 7, NOW + 160).is_none(), "at its end");
    assert!(memo.find(&format!("{text}A"), &it, 7, NOW).is_none());
    assert!(memo.find(&text, &by_set(&PUBLIC).0, 7, NOW).is_none(), "another document");
    for n in 0..40_000 {
        memo.keep(&format!("{n}{text}"), &good, 7);
    }
    assert!(memo.len() * text.len() < 32 << 20, "it is bounded: {}", memo.len());
}

#[test]
fn keys_stay_while_the_issuer_is_down_and_not_for_ever() {
    let url =
        tidegate_policy::Url { https: true, host: "id".into(), port: 443, authority: "id".into(), path: "/".into() };
    let (refresh, max_stale) = (Duration::from_secs(60), Duration::from_secs(600));
    let ring = Ring::new(&Arc::new(Keys::Url { url, ca: None, refresh, max_stale })).expect("a ring");
    assert!(ring.keys(5).is_none());
    let set = jwks().to_string();
    ring.fetched(set.as_bytes(), 1_000).expect("keys");
    let epoch = ring.keys(1_000).expect("keys").1;
    ring.failed("down".into());
    assert!(ring.fetched(b"<html>", 2_000).is_err());
    assert_eq!(
        ring.facts(3_000),
        RingFacts {
            keys: 3,
            rounds: 3,
            failures: 2,
            age: Some(2_000),
            trouble: Some("it is no JWK set: `{\"keys\": […]}`".into())
        }
    );
    assert_eq!(ring.keys(601_000).expect("still").1, epoch);
    assert!(ring.keys(601_001).is_none(), "too old to be trusted");
    ring.fetched(set.as_bytes(), 700_000).expect("keys");
    assert_eq!(ring.keys(700_000).expect("again").1, epoch, "the same keys");
    ring.fetched(set.replace("ed", "ed2").as_bytes(), 700_000).expect("keys");
    assert_ne!(ring.keys(700_000).expect("others").1, epoch);
    let asked = (0..100).filter(|_| ring.may_fetch(700_000)).count();
    assert_eq!(asked, 3, "made-up names of keys do not turn us against the issuer");
    assert_eq!((0..100).filter(|n| ring.may_fetch(700_000 + n * 1_000)).count(), 9);
}
