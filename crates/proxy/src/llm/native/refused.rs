//! A provider's "no" on a path of its own: as it told it, unless it tells of the gateway's account or key.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode, response};
use tidegate_llm::Dialect;
use tidegate_llm::meaning::{Error, Kind};
use tidegate_policy::{Credential, Provider};
use tidegate_upstream as upstream;

use crate::llm::attempt::{LONGEST_ERROR, names_accounts, read};
use crate::llm::coded::Source;
use crate::llm::tokens::Tokens;
use crate::llm::{bodies, prove};
use crate::unpack::coding;

/// What the caller is told; the head says the same. Only where the gateway's own key was shown.
pub(super) async fn told(
    (provider, dialect): (&Provider, Dialect),
    tokens: &Tokens,
    head: &mut response::Parts,
    source: upstream::Body,
) -> Bytes {
    let source = Source::as_it_is(&head.headers, source);
    let body = read(Bytes::new(), source, LONGEST_ERROR).await.unwrap_or_default();
    if coding(&head.headers).is_ok() {
        head.headers.remove(CONTENT_ENCODING);
    }
    let find = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let error = dialect.parse_error(head.status.as_u16(), &find, &body);
    let ours = matches!(error.kind, Kind::Unauthenticated | Kind::Billing)
        || prove::is_refused(&error)
        || (error.kind == Kind::Forbidden && names_accounts(provider.kind));
    if ours {
        let name = &provider.name;
        let message = match prove::off(&head.headers, &error) {
            Some(off) => format!("the provider `{name}` does not accept the gateway's signature: {off}"),
            None => format!("the provider `{name}` does not accept the gateway's key"),
        };
        prove::refused(tokens, name, provider.credential.as_ref(), &message);
        head.status = StatusCode::BAD_GATEWAY;
        // What else the head says is of us as well.
        head.headers.clear();
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return dialect.render_error(&Error { status: 502, ..Error::new(Kind::Server, message) }).into();
    }
    let readable = std::str::from_utf8(&body).ok().filter(|_| !head.headers.contains_key(CONTENT_ENCODING));
    let clean = readable.and_then(|text| without_keys(text, provider.credential.as_ref()));
    head.headers.remove(CONTENT_LENGTH);
    clean.map_or(body, Bytes::from)
}

/// `None`: there are none.
fn without_keys(text: &str, credential: Option<&Credential>) -> Option<String> {
    let shown = match credential {
        Some(Credential::Header(_, value)) => value.to_str().ok(),
        _ => None,
    };
    let key = shown.map(|value| value.strip_prefix("Bearer ").unwrap_or(value)).filter(|key| !key.is_empty());
    let clean = key.map_or_else(|| text.to_owned(), |key| text.replace(key, bodies::OUT));
    let clean = bodies::keys(&clean);
    (clean != text).then(|| clean.into_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::AUTHORIZATION;

    use super::*;

    #[test]
    fn our_key_is_left_out_however_it_looks() {
        let ours = Credential::Header(AUTHORIZATION, HeaderValue::from_static("Bearer odd-7"));
        assert_eq!(without_keys("no odd-7 here", Some(&ours)).unwrap(), format!("no {} here", bodies::OUT));
        assert_eq!(without_keys("nothing", Some(&ours)), None);
        assert!(!without_keys("sk-proj-abcdefghijklmnop1234", None).unwrap().contains("abcdef"));
    }
}
