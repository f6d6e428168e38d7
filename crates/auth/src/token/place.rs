//! Where a request carries a token, and taking it out of what is forwarded.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use tidegate_policy::TokenPlace;

use crate::presented::{Conflict, bearer};

/// The token of a request, if it carries one in one of `places`. `None` also for what is no text.
///
/// # Errors
/// [`Conflict`]: it carries two different ones.
pub fn find<'a>(request: &'a Parts, places: &[TokenPlace]) -> Result<Option<Cow<'a, str>>, Conflict> {
    let mut found: Option<Cow<'a, str>> = None;
    let mut add = |token: Cow<'a, [u8]>| {
        // What is no UTF-8 is no token either, but not nothing.
        let token = match token {
            Cow::Borrowed(token) => String::from_utf8_lossy(token),
            Cow::Owned(token) => String::from_utf8_lossy(&token).into_owned().into(),
        };
        match &found {
            _ if token.is_empty() => Ok(()),
            None => {
                found = Some(token);
                Ok(())
            }
            Some(first) if *first == token => Ok(()),
            Some(_) => Err(Conflict),
        }
    };
    for place in places {
        match place {
            TokenPlace::Bearer => {
                for value in request.headers.get_all(AUTHORIZATION) {
                    bearer(value.as_bytes()).map_or(Ok(()), |token| add(token.into()))?;
                }
            }
            TokenPlace::Header(name) => {
                for value in request.headers.get_all(name) {
                    let value = value.as_bytes().trim_ascii();
                    add(bearer(value).unwrap_or(value).into())?;
                }
            }
            TokenPlace::Cookie(name) => {
                for value in request.headers.get_all(COOKIE) {
                    cookies(value.as_bytes())
                        .filter(|(of, _)| *of == name.as_bytes())
                        .try_for_each(|(_, v)| add(v.into()))?;
                }
            }
            TokenPlace::Query(name) => {
                let pairs = request.uri.query().into_iter().flat_map(|query| query.split('&'));
                for (_, value) in pairs.map(pair).filter(|(of, _)| *of == **name) {
                    add(percent_decode_str(value).collect::<Vec<u8>>().into())?;
                }
            }
        }
    }
    Ok(found)
}

/// So begins a JWT and no key of ours.
#[must_use]
pub fn looks_like_one(bytes: &[u8]) -> bool {
    bytes.starts_with(b"eyJ") && bytes.iter().filter(|byte| **byte == b'.').count() == 2
}

/// Takes the token out of a request's headers.
pub fn strip(headers: &mut HeaderMap, places: &[TokenPlace]) {
    for place in places {
        match place {
            TokenPlace::Bearer => {
                if headers.get_all(AUTHORIZATION).iter().any(|value| bearer(value.as_bytes()).is_some()) {
                    headers.remove(AUTHORIZATION);
                }
            }
            TokenPlace::Header(name) => drop(headers.remove(name)),
            TokenPlace::Cookie(name) => without_cookie(headers, name),
            TokenPlace::Query(_) => {}
        }
    }
}

fn without_cookie(headers: &mut HeaderMap, name: &str) {
    let ours = |value: &HeaderValue| cookies(value.as_bytes()).any(|(of, _)| of == name.as_bytes());
    if !headers.get_all(COOKIE).iter().any(ours) {
        return;
    }
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        let kept = line.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let kept: Vec<&[u8]> = kept.filter(|pair| cookie(pair).0 != name.as_bytes() && !pair.is_empty()).collect();
        if let (false, Ok(mut line)) = (kept.is_empty(), HeaderValue::from_bytes(&kept.join(&b"; "[..]))) {
            line.set_sensitive(true);
            headers.append(COOKIE, line);
        }
    }
}

/// The query without its token; `None`: it carries none.
#[must_use]
pub fn strip_query(query: &str, places: &[TokenPlace]) -> Option<String> {
    let ours = |text: &&str| {
        let (name, _) = pair(text);
        places.iter().any(|place| matches!(place, TokenPlace::Query(of) if *name == **of))
    };
    if !places.iter().any(|place| matches!(place, TokenPlace::Query(_))) || !query.split('&').any(|text| ours(&text)) {
        return None;
    }
    Some(query.split('&').filter(|text| !ours(text)).collect::<Vec<_>>().join("&"))
}

/// A name may be written with escapes: a backend would read it so.
fn pair(text: &str) -> (Cow<'_, str>, &str) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (percent_decode_str(name).decode_utf8_lossy(), value)
}

fn cookies(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b';').map(|pair| cookie(pair.trim_ascii()))
}

fn cookie(pair: &[u8]) -> (&[u8], &[u8]) {
    let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    let value = pair.get(at + 1..).unwrap_or_default().trim_ascii();
    let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    (pair[..at].trim_ascii(), value)
}
