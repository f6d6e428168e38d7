//! Where a request comes from, and what the next hop is told about it. A header that says so is believed only when the
//! peer is one of the document's `trusted_proxies`; what others send is taken out.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderName, VIA};
use http::{HeaderMap, HeaderValue, Version};
use tidegate_policy::Snapshot;

use crate::connection::Client;
use crate::head::Host;
use crate::headers::{
    self, CLIENT_CERT, CLIENT_CERT_CHAIN, Seen, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO,
    X_REQUEST_ID,
};
use crate::request_id::RequestId;

/// Hops of `X-Forwarded-For` that are looked at.
const HOPS: usize = 32;

/// Judged once per request.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The client, as far as trusted peers let us see.
    pub(crate) address: IpAddr,
    pub(crate) trusted: bool,
    /// Did the client speak TLS, to us or to a trusted peer?
    pub(crate) secure: bool,
    /// Of the listener it came in by.
    pub(crate) port: u16,
    pub(crate) request_id: RequestId,
}

pub(crate) fn judge(client: &Client, snapshot: &Snapshot, headers: &HeaderMap, seen: Seen) -> Origin {
    let trusts = |address: IpAddr| snapshot.trusted_proxies.iter().any(|net| net.contains(&address));
    let trusted = trusts(client.address);
    let (secure, port) = (client.tls.is_some(), client.port);
    if !trusted {
        return Origin { address: client.address, trusted, secure, port, request_id: RequestId::new() };
    }
    let taken = if seen.request_id { headers.get(X_REQUEST_ID).and_then(RequestId::taken) } else { None };
    Origin {
        address: if seen.forwarded { walk(client.address, headers, trusts) } else { client.address },
        trusted,
        secure: proto(headers).map_or(secure, |proto| proto == "https"),
        port,
        request_id: taken.unwrap_or_else(RequestId::new),
    }
}

/// From the right, where our own load balancers wrote, to the first address that is none of them. What stands further
/// left anybody can have written.
fn walk(peer: IpAddr, headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut address = peer;
    // Those who write both write the same; whoever writes `Forwarded` alone is heard as well.
    let plain = headers.contains_key(X_FORWARDED_FOR);
    let lines = headers.get_all(if plain { X_FORWARDED_FOR } else { FORWARDED });
    let hops = lines.iter().rev_lines().flat_map(|line| line.rsplit(|&b| b == b','));
    for hop in hops.take(HOPS) {
        let Some(next) = parse(if plain { hop } else { node(hop) }) else { break };
        address = next;
        if !trusts(next) {
            break;
        }
    }
    address
}

trait RevLines<'a> {
    fn rev_lines(self) -> std::iter::Rev<std::vec::IntoIter<&'a [u8]>>;
}

impl<'a, I: Iterator<Item = &'a HeaderValue>> RevLines<'a> for I {
    fn rev_lines(self) -> std::iter::Rev<std::vec::IntoIter<&'a [u8]>> {
        self.map(HeaderValue::as_bytes).collect::<Vec<_>>().into_iter().rev()
    }
}

/// What `for=` says in a member of `Forwarded` (RFC 7239 § 4); empty when it says nothing. An address needs no comma,
/// semicolon or escape within its quotes: what has one is no address.
fn node(member: &[u8]) -> &[u8] {
    let said = member.split(|&b| b == b';').map(<[u8]>::trim_ascii).find_map(|pair| {
        let (name, value) = pair.split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then_some(value)
    });
    let said = said.unwrap_or(b"");
    said.strip_prefix(b"\"").and_then(|said| said.strip_suffix(b"\"")).unwrap_or(said)
}

/// `10.0.0.1`, `10.0.0.1:443`, `2001:db8::1`, `[2001:db8::1]:443`
fn parse(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop.trim_ascii()).ok()?;
    let address = text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|s| s.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    address.or_else(with_port).or_else(bracketed).map(|a| a.to_canonical())
}

fn proto(headers: &HeaderMap) -> Option<&'static str> {
    let sent = headers.get(X_FORWARDED_PROTO)?.as_bytes();
    if sent.eq_ignore_ascii_case(b"https") {
        Some("https")
    } else if sent.eq_ignore_ascii_case(b"http") {
        Some("http")
    } else {
        None
    }
}

/// Most fields that [`stamp`] adds: room for them is made at once.
pub(crate) const STAMPS: usize = 7;

/// Takes out what the client claims and says what we know.
pub(crate) fn stamp(
    headers: &mut HeaderMap,
    origin: &Origin,
    client: &Client,
    host: &Host,
    version: Version,
    seen: Seen,
) {
    let scheme = if origin.secure { "https" } else { "http" };
    if origin.trusted {
        pass_on(headers, client, host, scheme);
    } else {
        if seen.forwarded {
            headers::strip_claims(headers);
        }
        headers.insert(X_FORWARDED_FOR, client.address_text.clone());
        headers.insert(X_FORWARDED_PORT, client.port_text.clone());
        if let Some(host) = host.value() {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
    }
    if let Some(shown) = client.promised.as_ref().and_then(|promised| promised.shown.as_ref()) {
        headers.insert(CLIENT_CERT, shown.clone());
        headers.remove(CLIENT_CERT_CHAIN);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    headers.insert(X_REQUEST_ID, origin.request_id.value());
    let passage = match version {
        Version::HTTP_3 => "3 tidegate",
        Version::HTTP_2 => "2 tidegate",
        Version::HTTP_10 => "1.0 tidegate",
        _ => "1.1 tidegate",
    };
    headers.append(VIA, HeaderValue::from_static(passage));
}

/// The peer is one of ours: its lists get longer, what it says of the client's side stands.
fn pass_on(headers: &mut HeaderMap, client: &Client, host: &Host, scheme: &str) {
    let list = joined(headers, &X_FORWARDED_FOR, client.address_text.as_bytes());
    headers.insert(X_FORWARDED_FOR, list.unwrap_or_else(|| client.address_text.clone()));
    if !headers.contains_key(X_FORWARDED_PORT) {
        headers.insert(X_FORWARDED_PORT, client.port_text.clone());
    }
    if let Some(host) = host.value().filter(|_| !headers.contains_key(X_FORWARDED_HOST)) {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    if headers.contains_key(FORWARDED) {
        let by = match client.address {
            IpAddr::V4(v4) => format!("for={v4};proto={scheme};host=\"{}\"", host.as_str()),
            IpAddr::V6(v6) => format!("for=\"[{v6}]\";proto={scheme};host=\"{}\"", host.as_str()),
        };
        if let Some(list) = joined(headers, &FORWARDED, by.as_bytes()) {
            headers.insert(FORWARDED, list);
        }
    }
}

/// All lines of a list as one, and one more member. `None`: there is no such list.
fn joined(headers: &HeaderMap, name: &HeaderName, last: &[u8]) -> Option<HeaderValue> {
    let mut list = Vec::new();
    for line in headers.get_all(name) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    if list.is_empty() {
        return None;
    }
    list.extend_from_slice(last);
    HeaderValue::try_from(list).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen_as(lines: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let ours = |a: IpAddr| a.to_string().starts_with("10.");
        walk("10.0.0.1".parse().expect("an address"), &headers, ours).to_string()
    }

    #[test]
    fn forwarded_alone_is_heard_as_well() {
        let seen_as = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED, HeaderValue::from_static(line));
            }
            let ours = |a: IpAddr| a.to_string().starts_with("10.");
            walk("10.0.0.1".parse().expect("an address"), &headers, ours).to_string()
        };
        assert_eq!(seen_as(&["for=1.2.3.4"]), "1.2.3.4");
        assert_eq!(
            seen_as(&["for=6.6.6.6, proto=https;For=\"[2001:db8::1]:47\";by=_x", "for=10.0.0.2"]),
            "2001:db8::1"
        );
        assert_eq!(seen_as(&["for=6.6.6.6, for=_hidden"]), "10.0.0.1");
        assert_eq!(seen_as(&["for=6.6.6.6, by=10.0.0.3"]), "10.0.0.1");
        assert_eq!(seen_as(&["for=6.6.6.6, for=\"1.2.3.4;x=y\""]), "10.0.0.1");
    }

    #[test]
    fn the_client_is_the_first_stranger_from_the_right() {
        assert_eq!(seen_as(&["1.1.1.1, 2.2.2.2, 10.0.0.9"]), "2.2.2.2");
        assert_eq!(seen_as(&["6.6.6.6", "1.1.1.1, 10.0.0.9"]), "1.1.1.1");
        assert_eq!(seen_as(&["10.0.0.7, 10.0.0.9"]), "10.0.0.7");
        assert_eq!(seen_as(&["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(seen_as(&["1.2.3.4:99"]), "1.2.3.4");
        assert_eq!(seen_as(&["1.1.1.1, nonsense, 10.0.0.9"]), "10.0.0.9");
        assert_eq!(seen_as(&[]), "10.0.0.1");
    }
}
