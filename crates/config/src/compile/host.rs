//! Host names.

use std::net::{Ipv4Addr, Ipv6Addr};

use tidegate_policy::HostPattern;

use super::Report;
use crate::decode::short;
use crate::path::Path;

/// A pattern of a route or a certificate.
pub(super) fn pattern(text: &str, path: &Path<'_>, report: &Report<'_>) -> Option<HostPattern> {
    let lower = text.to_ascii_lowercase();
    if let Some(suffix) = lower.strip_prefix('*') {
        let name = suffix.strip_prefix('.').filter(|name| is_name(name));
        if name.is_none() {
            let hint = if text == "*" { "leave `hosts` out to take every host" } else { "write `*.example.com`" };
            report.hinted(path, format!("`{}` is not a host pattern", short(text)), hint);
        }
        return name.map(|_| HostPattern::Suffix(suffix.to_owned()));
    }
    exact(&lower, text, path, report).then_some(HostPattern::Exact(lower))
}

/// Is `lower` one host, without port? If not, says why.
fn exact(lower: &str, text: &str, path: &Path<'_>, report: &Report<'_>) -> bool {
    if is_host(lower) {
        return true;
    }
    let hint = match lower.rsplit_once(':') {
        _ if lower.contains("://") => "write the host alone, without scheme",
        Some((host, port)) if is_host(host) && port.bytes().all(|b| b.is_ascii_digit()) => {
            "write the host without port"
        }
        _ if !lower.is_ascii() => "write it in punycode: `xn--…`",
        _ => "write `api.example.com` or `*.example.com`",
    };
    report.hinted(path, format!("`{}` is not a host name", short(text)), hint);
    false
}

/// A name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn is_host(text: &str) -> bool {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    bracketed.map_or_else(
        || is_name(text) || text.parse::<Ipv4Addr>().is_ok(),
        |address| address.parse::<Ipv6Addr>().is_ok(),
    )
}

/// RFC 1123, with `_` as seen in practice.
pub(super) fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let edges = !label.starts_with('-') && !label.ends_with('-');
        edges
            && !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    !text.is_empty() && text.len() <= 253 && text.split('.').all(label)
}
