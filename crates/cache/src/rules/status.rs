//! `Cache-Status` (RFC 9211): what we did, for people who debug.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went on to the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forward {
    /// The route or the node does not use the cache now.
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    /// The request asked for it.
    Request,
    Stale,
    /// Only a part was asked for, and nothing is stored.
    Partial,
}

impl Forward {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// One member of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// `None`: a hit.
    pub forward: Option<Forward>,
    /// Of the origin's answer, where it is not what the client gets.
    pub forward_status: Option<u16>,
    pub ttl: Option<i64>,
    pub stored: bool,
    pub collapsed: bool,
    pub detail: Option<&'static str>,
}

impl Report {
    #[must_use]
    pub fn hit(ttl: i64) -> Self {
        Self { ttl: Some(ttl), ..Self::default() }
    }

    #[must_use]
    pub fn forward(why: Forward) -> Self {
        Self { forward: Some(why), ..Self::default() }
    }

    #[must_use]
    pub fn value(&self) -> HeaderValue {
        let mut text = String::with_capacity(64);
        text.push_str("Tidegate");
        match self.forward {
            None => text.push_str("; hit"),
            Some(why) => {
                text.push_str("; fwd=");
                text.push_str(why.name());
            }
        }
        if let Some(status) = self.forward_status {
            let _fits = write!(text, "; fwd-status={status}");
        }
        if let Some(ttl) = self.ttl {
            let _fits = write!(text, "; ttl={ttl}");
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(detail) = self.detail {
            let _fits = write!(text, "; detail={detail}");
        }
        HeaderValue::try_from(text).expect("tokens and numbers")
    }

    /// After what caches nearer to the origin said.
    pub fn put(&self, headers: &mut HeaderMap) {
        headers.append(CACHE_STATUS, self.value());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_structured_field() {
        assert_eq!(Report::hit(30).value(), "Tidegate; hit; ttl=30");
        assert_eq!(
            Report { detail: Some("stale-if-error"), ..Report::hit(-3) }.value(),
            "Tidegate; hit; ttl=-3; detail=stale-if-error"
        );
        let miss = Report { stored: true, forward_status: Some(200), ..Report::forward(Forward::UriMiss) };
        assert_eq!(miss.value(), "Tidegate; fwd=uri-miss; fwd-status=200; stored");
        assert_eq!(
            Report { collapsed: true, ..Report::forward(Forward::VaryMiss) }.value(),
            "Tidegate; fwd=vary-miss; collapsed"
        );
    }
}
