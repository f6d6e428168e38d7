//! What the fuzzer calls (docs/fuzzing.md), and tests with what it kept. Any bytes: nothing panics, promises hold.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidegate_model::Millis;
use tidegate_policy::Cache as Policy;

use crate::remote::codec;
use crate::rules::control::{RequestControl, ResponseControl};
use crate::rules::key::{Key, KeyDigest, UrlDigest};
use crate::rules::lifetime::Times;
use crate::rules::range::{self, Wanted};
use crate::rules::store::{self, Exchange};
use crate::rules::{conditional, date, fields, freshen, invalidate, tags, targeted, vary};

/// Fields of a request, an empty line, a status and fields of its answer, an empty line, fields of a 304.
pub fn rules(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let request = block(&mut lines);
    let status = lines.next().and_then(|line| StatusCode::from_bytes(line).ok()).unwrap_or(StatusCode::OK);
    let (response, fresh) = (block(&mut lines), block(&mut lines));
    let now = Millis(1_800_000_000_000);
    let times = Times { asked: Millis(now.0 - 30), answered: now };
    let exchange = Exchange { request: &request, status, response: &response, times };
    let control = RequestControl::of(&request);
    let _ =
        (ResponseControl::of(&response), targeted::said(&response), tags::of(&response, &[]), vary::names(&response));
    let _ = date::only(&response, &http::header::EXPIRES);
    if let Ok(verdict) = store::judge(&Policy::default(), &exchange, false, false) {
        let terms = verdict.terms;
        assert!(terms.born <= now, "it was made before it came");
        let said = targeted::said(&response).control;
        assert!(!said.no_store || said.must_understand, "who speaks to us said no");
        assert!(verdict.selector.matches(&request), "it fits the request that it answers");
        for later in [now, Millis(now.0 + 1_000), Millis(u64::MAX)] {
            let _ =
                (terms.reuse(&control, later), terms.ttl_seconds(later), terms.stands_in(&control, Millis(9), later));
        }
        let kept = fields::stored(&response, &verdict.unlisted, verdict.without_cookies);
        let _ = conditional::evaluate(&request, status, &kept, now);
        let _ = (conditional::not_modified(&kept), freshen::is_about(&kept, &fresh));
        let merged = freshen::merge(&kept, &fresh, now);
        assert!(merged.len() <= kept.len() + fresh.len() + 2, "out of nothing");
        asked_for_a_part(&request, &kept);
    }
    let _ = invalidate::targets("example.com", "/a", status, &response);
}

fn asked_for_a_part(request: &HeaderMap, kept: &HeaderMap) {
    let body = Bytes::from_static(b"0123456789");
    let within =
        |piece: &std::ops::Range<usize>| assert!(piece.start < piece.end && piece.end <= body.len(), "{piece:?}");
    let mut headers = kept.clone();
    match range::wanted(request, kept, body.len()) {
        Wanted::Whole => {}
        Wanted::Nothing => range::nothing(&mut headers, body.len()),
        Wanted::One(piece) => {
            within(&piece);
            assert_eq!(range::one(&mut headers, &body, &piece), body.slice(piece));
        }
        Wanted::Several(pieces) => {
            pieces.iter().for_each(within);
            let _ = range::several(&mut headers, &body, &pieces, 7);
        }
    }
}

fn block<'b>(lines: &mut impl Iterator<Item = &'b [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()).take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii()));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// What stands in Redis: as it is, and with a checksum and a key that are right.
pub fn value(bytes: &[u8]) {
    let key = Key { url: UrlDigest([1; 16]), key: KeyDigest([2; 32]) };
    let largest = 1 << 20;
    let _ = codec::read(bytes, &key, largest);
    let Some(codec::Value::Response(stored)) = codec::read(&codec::with_right_ends(bytes, &key), &key, largest) else {
        return;
    };
    assert!(stored.body.len() <= largest);
    let stored = Arc::<crate::stored::Stored>::from(stored);
    let again = codec::read(&codec::response(&stored), &key, largest);
    let Some(codec::Value::Response(again)) = again else { panic!("what was read is not read again") };
    assert_eq!(format!("{again:?}"), format!("{stored:?}"), "it is read as it was written");
}
