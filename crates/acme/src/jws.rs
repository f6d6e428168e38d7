//! Signatures of requests: JSON Web Signatures (RFC 7515) with ES256, and HS256 for an external account's binding.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};

/// An account's key: ECDSA on P-256.
pub(crate) struct Key(EcdsaKeyPair);

/// Who signs: a key that the authority does not know yet, or an account that it does.
pub(crate) enum By<'a> {
    Key,
    Account(&'a str),
}

impl Key {
    /// PKCS#8, to be kept.
    pub(crate) fn generate() -> Result<Vec<u8>, String> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        made.map(|key| key.as_ref().to_vec()).map_err(|_| "no key could be made".to_owned())
    }

    pub(crate) fn read(pkcs8: &[u8]) -> Result<Self, String> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8);
        key.map(Self).map_err(|_| "the account's key is none".to_owned())
    }

    /// RFC 7518 § 6.2: the point without its leading 4, in halves. In the order that RFC 7638 hashes.
    pub(crate) fn public(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        json!({"crv": "P-256", "kty": "EC", "x": BASE64.encode(x), "y": BASE64.encode(y)})
    }

    /// RFC 7638.
    pub(crate) fn thumbprint(&self) -> String {
        let point = self.0.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, BASE64.encode(x), BASE64.encode(y));
        BASE64.encode(digest(&SHA256, text.as_bytes()))
    }

    /// The body of a request. `payload` empty: a POST that reads (RFC 8555 § 6.3).
    pub(crate) fn sign(&self, by: &By<'_>, nonce: &str, url: &str, payload: &str) -> Result<Vec<u8>, String> {
        let mut protected = json!({"alg": "ES256", "nonce": nonce, "url": url});
        match by {
            By::Key => protected["jwk"] = self.public(),
            By::Account(id) => protected["kid"] = (*id).into(),
        }
        let sign = |text: &[u8]| {
            let signature = self.0.sign(&SystemRandom::new(), text);
            signature.map(|it| it.as_ref().to_vec()).map_err(|_| "signing failed".to_owned())
        };
        Ok(envelope(&protected, payload, sign)?.to_string().into_bytes())
    }

    /// RFC 8555 § 7.3.4: the external account vouches for this key.
    pub(crate) fn bound_to(&self, kid: &str, secret: &[u8], url: &str) -> Result<Value, String> {
        let protected = json!({"alg": "HS256", "kid": kid, "url": url});
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        envelope(&protected, &self.public().to_string(), |text| Ok(hmac::sign(&key, text).as_ref().to_vec()))
    }
}

fn envelope(
    protected: &Value,
    payload: &str,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, String>,
) -> Result<Value, String> {
    let (protected, payload) = (BASE64.encode(protected.to_string()), BASE64.encode(payload));
    let signature = BASE64.encode(sign(format!("{protected}.{payload}").as_bytes())?);
    Ok(json!({"protected": protected, "payload": payload, "signature": signature}))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn who_knows_the_key_can_check_what_it_signed() {
        let key = Key::read(&Key::generate().unwrap()).unwrap();
        let body = key.sign(&By::Account("https://ca/acct/1"), "n-1", "https://ca/x", r#"{"a":1}"#).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let protected: Value = serde_json::from_slice(&BASE64.decode(text("protected")).unwrap()).unwrap();
        assert_eq!(protected["kid"], "https://ca/acct/1");
        assert!(protected.get("jwk").is_none() && protected["nonce"] == "n-1" && protected["url"] == "https://ca/x");
        let signed = format!("{}.{}", text("protected"), text("payload"));
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.0.public_key().as_ref().to_vec());
        public.verify(signed.as_bytes(), &BASE64.decode(text("signature")).unwrap()).unwrap();
        let new: Value = serde_json::from_slice(&key.sign(&By::Key, "n", "u", "").unwrap()).unwrap();
        assert_eq!(new["payload"], "");
    }

    #[test]
    fn the_order_of_a_thumbprint_is_the_order_of_the_alphabet() {
        let key = Key::read(&Key::generate().unwrap()).unwrap();
        let sorted = key.public().to_string();
        assert_eq!(key.thumbprint(), BASE64.encode(digest(&SHA256, sorted.as_bytes())), "{sorted}");
    }
}
