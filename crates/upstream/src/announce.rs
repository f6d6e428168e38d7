//! For whom a connection is made, said in its first bytes: the PROXY protocol, versions 1 and 2 (haproxy.org,
//! proxy-protocol.txt, §§ 2.1, 2.2). What `proxy` reads of others, this says to upstreams.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tidegate_policy::Announce;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Whose requests a connection carries. It goes along in a request's extensions, as an [`Arc`](std::sync::Arc).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Both ends of the client's own connection.
    Client { from: SocketAddr, to: SocketAddr },
    /// Checks, and what nobody waits for.
    Ourselves,
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Before anything else is sent.
pub(crate) async fn say(tcp: &mut TcpStream, version: Announce, whom: &Whom) -> io::Result<()> {
    tcp.write_all(&header(version, whom)).await
}

fn header(version: Announce, whom: &Whom) -> Vec<u8> {
    match (version, whom) {
        (Announce::V1, Whom::Ourselves) => b"PROXY UNKNOWN\r\n".to_vec(),
        (Announce::V1, Whom::Client { from, to }) => text(*from, *to),
        (Announce::V2, Whom::Ourselves) => [&SIGNATURE[..], &[LOCAL, 0, 0, 0]].concat(),
        (Announce::V2, Whom::Client { from, to }) => binary(*from, *to),
    }
}

fn text(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (client, here) = of_one_family(from.ip(), to.ip());
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let mut line = Vec::with_capacity(107);
    // Not to be refused: a Vec takes all bytes.
    let _written = write!(line, "PROXY {family} {client} {here} {} {}\r\n", from.port(), to.port());
    line
}

fn binary(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    match of_one_family(from.ip(), to.ip()) {
        (IpAddr::V4(client), IpAddr::V4(here)) => {
            bytes.extend([PROXY, TCP4, 0, 12]);
            bytes.extend(client.octets());
            bytes.extend(here.octets());
        }
        (client, here) => {
            bytes.extend([PROXY, TCP6, 0, 36]);
            bytes.extend(wide(client).octets());
            bytes.extend(wide(here).octets());
        }
    }
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes
}

/// IPv4 in its own form where both are that; the protocol has no room for one of each.
fn of_one_family(one: IpAddr, other: IpAddr) -> (IpAddr, IpAddr) {
    match (one.to_canonical(), other.to_canonical()) {
        both @ (IpAddr::V4(_), IpAddr::V4(_)) => both,
        (one, other) => (wide(one).into(), wide(other).into()),
    }
}

fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(from: &str, to: &str) -> Whom {
        Whom::Client { from: from.parse().expect("an address"), to: to.parse().expect("an address") }
    }

    #[test]
    fn version_1_is_a_line() {
        for (whom, line) in [
            (client("192.0.2.1:56324", "198.51.100.1:443"), "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"),
            (client("[::ffff:192.0.2.1]:5", "[::ffff:10.0.0.1]:80"), "PROXY TCP4 192.0.2.1 10.0.0.1 5 80\r\n"),
            (client("[2001:db8::1]:5", "[2001:db8::2]:80"), "PROXY TCP6 2001:db8::1 2001:db8::2 5 80\r\n"),
            (client("192.0.2.1:5", "[2001:db8::2]:80"), "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 5 80\r\n"),
            (Whom::Ourselves, "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(String::from_utf8(header(Announce::V1, &whom)).expect("text"), line);
        }
    }

    #[test]
    fn version_2_is_binary() {
        let start = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a";
        let four = header(Announce::V2, &client("192.0.2.1:56324", "198.51.100.1:443"));
        let expected =
            [&start[..], &[0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb]].concat();
        assert_eq!(four, expected);
        let six = header(Announce::V2, &client("[2001:db8::1]:5", "[2001:db8::2]:80"));
        assert_eq!((&six[..16], six.len()), (&[&start[..], &[0x21, 0x21, 0, 36]].concat()[..], 16 + 36));
        assert_eq!((six[31], six[47], &six[48..]), (1, 2, &[0, 5, 0, 80][..]));
        assert_eq!(header(Announce::V2, &Whom::Ourselves), [&start[..], &[0x20, 0, 0, 0]].concat());
    }
}
