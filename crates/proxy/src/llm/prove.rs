//! Shows a provider who we are: a header, a signature, a token. The last step before a call goes out, since a signature is of
//! all the rest.

use std::time::SystemTime;

use http::header::{AUTHORIZATION, DATE};
use http::{HeaderMap, Request};
use tidegate_auth::outward::sigv4::{self, Unsigned};
use tidegate_llm::meaning::{Error, Kind};
use tidegate_policy::{Credential, Provider};

use super::tokens::Tokens;

/// AWS refuses what was signed longer ago, or later, than five minutes.
const CLOSE: u64 = 240;

/// # Errors
/// Why we cannot; for the log.
pub(super) async fn show<B>(
    tokens: &Tokens,
    provider: &Provider,
    credential: Option<&Credential>,
    own: Option<&str>,
    request: &mut Request<B>,
    body: &[u8],
) -> Result<(), String> {
    if let Some(own) = own {
        let header = provider.kind.key_place().header(own);
        let (name, value) = header.ok_or("the caller's key has characters that no header has")?;
        request.headers_mut().insert(name, value);
        return Ok(());
    }
    match credential {
        None => {}
        Some(Credential::Header(name, value)) => {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        Some(Credential::Google(source)) => {
            let value = Box::pin(tokens.header(source)).await.map_err(|why| format!("no token from Google: {why}"))?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Some(Credential::Aws(keys)) => {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let unsigned = Unsigned { method: &method, path: uri.path(), query: uri.query().unwrap_or_default(), body };
            let seconds = tidegate_clock::wall().0 / 1_000_000_000;
            let signed = sigv4::sign(&unsigned, request.headers_mut(), keys, seconds);
            signed.map_err(|_| "the AWS credentials have characters that no header has")?;
        }
    }
    Ok(())
}

/// Does the provider refuse us, and not the call? AWS says 403 for what others say 401.
pub(super) fn is_refused(error: &Error) -> bool {
    const WORDS: [&str; 6] = [
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "IncompleteSignatureException",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "InvalidClientTokenId",
    ];
    let named = error.code.as_deref().is_some_and(|code| WORDS.contains(&code));
    error.kind != Kind::Unauthenticated && named
}

/// The provider's clock and ours, where they differ so much that a signature is not taken.
pub(super) fn off(headers: &HeaderMap, error: &Error) -> Option<String> {
    if !is_refused(error) {
        return None;
    }
    let theirs = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let theirs = theirs.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let ours = tidegate_clock::wall().0 / 1_000_000_000;
    let off = ours.abs_diff(theirs);
    let way = if ours > theirs { "ahead of" } else { "behind" };
    (off > CLOSE).then(|| format!("this node's clock is {off} s {way} the provider's; set it by NTP"))
}

/// Told to operators; a token that is not taken is not used again.
pub(super) fn refused(tokens: &Tokens, provider: &str, credential: Option<&Credential>, message: &str) {
    tracing::warn!(provider, "{message}");
    if let Some(Credential::Google(source)) = credential {
        tokens.forget(source);
    }
}
