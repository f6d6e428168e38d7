//! A request's body as it was before its client compressed it: for upstreams that cannot read that, and for us where we read it.
//! What becomes too much is a matter of `inbound`, whose bounds hold for what comes out, and of [`tidegate_coding`].

use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use tidegate_coding::{Coding, Decoding, Spoiled};
use tidegate_policy::Route;

use crate::connection::Client;
use crate::inbound::{Broken, Inbound};
use crate::received::Received;
use crate::refusal::Refusal;

/// How a message is coded. `Err`: as nobody here can read it.
pub(crate) fn coding(headers: &HeaderMap) -> Result<Option<Coding>, ()> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Ok(None);
    }
    let lines = headers.get_all(CONTENT_ENCODING).into_iter().map(|line| line.to_str());
    let mut coding = None;
    for line in lines {
        for name in line.map_err(|_| ())?.split(',').map(str::trim) {
            if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                continue;
            }
            let found = Coding::named(name).ok_or(())?;
            if coding.replace(found).is_some() {
                return Err(());
            }
        }
    }
    Ok(coding)
}

/// A request's body as its route wants it.
pub(crate) fn inbound(
    body: Received,
    route: &Route,
    client: Arc<Client>,
    headers: &mut HeaderMap,
) -> Result<Inbound, Refusal> {
    let mut inbound = Inbound::new(body, route, client);
    if route.decompress
        && let Some(coding) = coding(headers).map_err(|()| Refusal::CodingUnknown)?
    {
        headers.remove(CONTENT_ENCODING);
        headers.remove(CONTENT_LENGTH);
        inbound.unpack(coding);
    }
    Ok(inbound)
}

/// Bytes that are decompressed as they come.
pub(crate) struct Unpacking {
    decoding: Decoding,
    /// Of what came last.
    left: Bytes,
    /// So much more may come out.
    most: u64,
}

impl Unpacking {
    pub(crate) fn new(coding: Coding, most: u64) -> Self {
        Self { decoding: Decoding::new(coding), left: Bytes::new(), most }
    }

    pub(crate) fn take(&mut self, data: Bytes) {
        self.left = data;
    }

    /// A piece of what it becomes; nothing until more is taken.
    pub(crate) fn piece(&mut self) -> Result<Option<Bytes>, Broken> {
        let mut rest = &self.left[..];
        let piece = self.decoding.piece(&mut rest).map_err(|why| match why {
            Spoiled::Invalid => Broken::Coding,
            Spoiled::TooLong => Broken::Bomb,
        })?;
        let left = rest.len();
        self.left.advance(self.left.len() - left);
        if let Some(piece) = &piece {
            self.most = self.most.checked_sub(piece.len() as u64).ok_or(Broken::TooLarge)?;
        }
        Ok(piece.map(Bytes::from))
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.decoding.is_whole()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_coding_can_be_read_and_no_second() {
        let of = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CONTENT_ENCODING, http::HeaderValue::from_static(line));
            }
            coding(&headers)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["identity", ""]), Ok(None));
        assert_eq!(of(&["GZIP"]), Ok(Some(Coding::Gzip)));
        assert_eq!(of(&["identity, br"]), Ok(Some(Coding::Brotli)));
        for lines in [&["compress"][..], &["gzip, gzip"], &["gzip", "br"]] {
            assert_eq!(of(lines), Err(()), "{lines:?}");
        }
    }
}
