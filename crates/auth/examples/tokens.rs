//! What a token costs: taken apart and proven, and found again. `cargo run --profile perf -p tidegate-auth --example tokens`

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidegate_auth::token::{KeySet, Memo, Unproven};
use tidegate_policy::{Algorithm, Issuer, Keys, Stranger, TokenPlace};

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn token(algorithm: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let header = format!(r#"{{"alg":"{algorithm}","kid":"1","typ":"JWT"}}"#);
    let roles = r#"["offline_access","uma_authorization","clerk","default-roles-main"]"#;
    let payload = format!(
        r#"{{"exp":{},"iat":{NOW},"jti":"1b0f7c1e-52f4-4b0f-9a52-5a1f5b8b1a4e","iss":"https://id.example.com/realms/main","aud":["orders","account"],"sub":"f3a1c7de-8a4e-4b43-9d7b-0e6cf4b8d2f1","typ":"Bearer","azp":"web-app","scope":"openid email profile read write","realm_access":{{"roles":{roles}}},"email_verified":true,"preferred_username":"ann"}}"#,
        NOW + 300
    );
    let signed = format!("{}.{}", b64(header), b64(payload));
    let signature = b64(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// Nanoseconds of the best of several rounds.
fn cost(mut run: impl FnMut()) -> u128 {
    let mut best = Duration::MAX;
    for _ in 0..7 {
        let begun = Instant::now();
        (0..2_000).for_each(|_| run());
        best = best.min(begun.elapsed());
    }
    best.as_nanos() / 2_000
}

fn measure(algorithm: Algorithm, keys: Keys, text: &str) {
    let set = match &keys {
        Keys::Set(json) => KeySet::of_set(json),
        other => KeySet::read(other),
    };
    let set = set.expect("keys");
    let issuer = Arc::new(Issuer {
        name: "main".into(),
        iss: Some("https://id.example.com/realms/main".into()),
        audiences: vec!["orders".into()],
        keys: Arc::new(keys),
        algorithms: vec![algorithm],
        leeway: Duration::from_secs(60),
        required: Vec::new(),
        places: vec![TokenPlace::Bearer],
        forward: false,
        consumer: None,
        stranger: Stranger::Refuse,
        end_user: None,
        headers: Vec::new(),
    });
    let prove = || Unproven::read(text).and_then(|token| token.prove(&issuer, &set, NOW)).expect("good");
    let memo = Memo::default();
    memo.keep(text, &Arc::new(prove()), 1);
    let read = cost(|| drop(black_box(Unproven::read(black_box(text)))));
    let proven = cost(|| drop(black_box(prove())));
    let found = cost(|| drop(black_box(memo.find(black_box(text), &issuer, 1, NOW)).expect("known")));
    println!(
        "{:6} {:5} bytes: read {read} ns, proven {proven} ns, remembered {found} ns",
        algorithm.name(),
        text.len()
    );
}

fn main() {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let der = rsa.public_key().as_ref();
    let set =
        format!(r#"{{"keys":[{{"kty":"RSA","kid":"1","n":"{}","e":"{}"}}]}}"#, b64(&der[9..265]), b64(&der[267..]));
    let by_rsa = token("RS256", |signed| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed, &mut signature).expect("signed");
        signature
    });
    measure(Algorithm::Rs256, Keys::Set(set.into_bytes()), &by_rsa);
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let point = ec.public_key().as_ref();
    let (x, y) = (b64(&point[1..33]), b64(&point[33..]));
    let set = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"1","x":"{x}","y":"{y}"}}]}}"#);
    let by_ec = token("ES256", |signed| ec.sign(&SystemRandom::new(), signed).expect("signed").as_ref().to_vec());
    measure(Algorithm::Es256, Keys::Set(set.into_bytes()), &by_ec);
    let ed = Ed25519KeyPair::generate().expect("a key");
    let x = b64(ed.public_key().as_ref());
    let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"1","x":"{x}"}}]}}"#);
    measure(Algorithm::EdDsa, Keys::Set(set.into_bytes()), &token("EdDSA", |signed| ed.sign(signed).as_ref().to_vec()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET);
    let by_secret = token("HS256", |signed| aws_lc_rs::hmac::sign(&key, signed).as_ref().to_vec());
    measure(Algorithm::Hs256, Keys::Secret(SECRET.to_vec()), &by_secret);
}
