//! Google's OAuth tokens: what is sent to get one (RFC 7523, developers.google.com/identity/protocols/oauth2/service-account),
//! and what comes back. Who sends it is `proxy`.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;
use tidegate_policy::ServiceAccount;

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// As long as Google takes them.
const LIFE: u64 = 3_600;
/// Google's tokens have 2 KiB at most.
const LONGEST_TOKEN: usize = 16 * 1024;

/// The form that asks for a token. `seconds`: since 1970.
///
/// # Errors
/// Why the account's key cannot sign.
pub fn assertion(account: &ServiceAccount, seconds: u64) -> Result<String, String> {
    let mut head = json!({"alg": "RS256", "typ": "JWT"});
    if let Some(id) = &account.key_id {
        head["kid"] = (**id).into();
    }
    let claims = json!({
        "iss": &*account.email, "scope": SCOPE, "aud": &*account.audience,
        "iat": seconds, "exp": seconds + LIFE,
    });
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mut jwt = format!("{}.{}", part(head), part(claims));
    let key = key(account.key.shown())?;
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), jwt.as_bytes(), &mut signature)
        .map_err(|_| "its private key cannot sign")?;
    jwt.push('.');
    jwt.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(format!("grant_type={}&assertion={jwt}", utf8_percent_encode(GRANT, NON_ALPHANUMERIC)))
}

/// Google writes PKCS #8.
fn key(pem: &str) -> Result<RsaKeyPair, String> {
    const NONE: &str = "its private_key is no RSA key in PEM (PKCS #8)";
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----").ok_or(NONE)?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----").ok_or(NONE)?;
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| NONE)?;
    RsaKeyPair::from_pkcs8(&der).map_err(|_| NONE.to_owned())
}

/// A token and how long it is good.
pub struct Granted {
    /// `Bearer …`, marked sensitive.
    pub header: HeaderValue,
    pub life: Duration,
}

/// What the token's endpoint, or the metadata server, answered.
///
/// # Errors
/// Why that is no token, without repeating what was sent.
pub fn granted(status: u16, body: &[u8]) -> Result<Granted, String> {
    #[derive(Deserialize)]
    struct Token {
        access_token: String,
        #[serde(default)]
        expires_in: Option<f64>,
    }
    #[derive(Deserialize)]
    struct Told {
        error: String,
        #[serde(default)]
        error_description: String,
    }
    if status != 200 {
        let told = serde_json::from_slice::<Told>(body).map(|Told { error, error_description }| {
            let short: String = error_description.chars().filter(|c| !c.is_control()).take(200).collect();
            format!(": {error} {short}")
        });
        return Err(format!("the answer is {status}{}", told.unwrap_or_default()));
    }
    let token: Token = serde_json::from_slice(body).map_err(|_| "the answer holds no access_token")?;
    if token.access_token.is_empty() || token.access_token.len() > LONGEST_TOKEN {
        return Err("the answer's access_token has no usual length".into());
    }
    let header = HeaderValue::try_from(format!("Bearer {}", token.access_token));
    let mut header = header.map_err(|_| "the answer's access_token has control characters")?;
    header.set_sensitive(true);
    // Never for ever, whatever it says; not at all if it says so.
    let life = Duration::from_secs_f64(token.expires_in.unwrap_or(60.0).clamp(0.0, 86_400.0));
    Ok(Granted { header, life })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use tidegate_policy::{Hidden, Url};

    use super::*;

    fn account(pem: String) -> ServiceAccount {
        let url = Url { https: false, host: "h".into(), port: 1, authority: "h:1".into(), path: "/token".into() };
        ServiceAccount {
            email: "robot@p.iam.gserviceaccount.com".into(),
            key: Hidden::new(pem),
            key_id: Some("k1".into()),
            audience: "https://oauth2.googleapis.com/token".into(),
            token_url: url,
        }
    }

    #[test]
    fn an_assertion_says_who_asks_for_what_and_is_signed() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = pair.as_der().unwrap();
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()));
        let form = assertion(&account(pem), 1_000).unwrap();
        let jwt = form.strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant%2Dtype%3Ajwt%2Dbearer&assertion=");
        let (signed, signature) = jwt.unwrap().rsplit_once('.').unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).expect("it is signed");
        let parts: Vec<serde_json::Value> = signed
            .split('.')
            .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
            .collect();
        assert_eq!((&parts[0]["alg"], &parts[0]["kid"]), (&"RS256".into(), &"k1".into()));
        assert_eq!((&parts[1]["iat"], &parts[1]["exp"]), (&1_000.into(), &4_600.into()));
        assert_eq!(parts[1]["aud"], "https://oauth2.googleapis.com/token");
        assert!(assertion(&account("no key".into()), 1).unwrap_err().contains("PKCS #8"));
    }

    #[test]
    fn what_comes_back_is_a_token_or_a_reason() {
        let good = granted(200, br#"{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}"#).unwrap();
        assert_eq!((good.header.to_str().unwrap(), good.life.as_secs()), ("Bearer ya29.x", 3_599));
        assert!(good.header.is_sensitive());
        for (status, body, why) in [
            (400, &br#"{"error":"invalid_grant","error_description":"Invalid JWT\n: Token"}"#[..], "invalid_grant"),
            (500, b"<html>", "the answer is 500"),
            (200, b"{}", "no access_token"),
            (200, br#"{"access_token":""}"#, "usual length"),
            (200, br#"{"access_token":"a\nb"}"#, "control"),
        ] {
            let told = granted(status, body).err().unwrap();
            assert!(told.contains(why) && !told.contains('\n'), "{told}");
        }
    }
}
