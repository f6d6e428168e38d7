//! Whose a connection is, when a load balancer in front says so in its first bytes: the PROXY protocol, versions 1 and 2
//! (haproxy.org, proxy-protocol.txt, sections 2.1 and 2.2). Nothing else of the connection is read here.
//!
//! Peers in the document's `listeners.proxy_protocol` have to say it, for nobody may guess whether it is there: without it
//! their connection is closed. What all others send is theirs, and the parser of HTTP refuses it. Called by `server`.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included.
const LONGEST_LINE: usize = 107;
/// Addresses and what else version 2 may tell (certificates' names, checksums): none of it is used but the addresses.
const LONGEST_REST: usize = 4 << 10;

/// Both ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    pub(crate) here: SocketAddr,
}

/// Reads the announcement and not a byte more. `None`: the balancer speaks for itself (its own health checks), or does not
/// know whom it speaks for. Bring your own deadline.
///
/// # Errors
/// The first bytes are no announcement, or not one that can be read.
pub(crate) async fn read(socket: &mut TcpStream) -> Result<Option<Ends>> {
    let mut first = [0; SIGNATURE.len()];
    socket.read_exact(&mut first).await?;
    if first == SIGNATURE {
        let mut head = [0; 4];
        socket.read_exact(&mut head).await?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if length > LONGEST_REST {
            return Err(wrong("it is longer than 4 KiB"));
        }
        let mut rest = vec![0; length];
        socket.read_exact(&mut rest).await?;
        return binary(head[0], head[1], &rest);
    }
    if !first.starts_with(b"PROXY ") {
        return Err(wrong("the connection does not begin with one"));
    }
    let mut line = first.to_vec();
    while !line.ends_with(b"\n") {
        let mut seen = [0; LONGEST_LINE];
        let room = LONGEST_LINE - line.len();
        let seen = match socket.peek(&mut seen[..room]).await? {
            0 if room == 0 => return Err(wrong("its line does not end")),
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            some => &seen[..some],
        };
        // What is taken is the line's in any case: all of it, or up to its end.
        let take = seen.iter().position(|&byte| byte == b'\n').map_or(seen.len(), |end| end + 1);
        let known = line.len();
        line.resize(known + take, 0);
        socket.read_exact(&mut line[known..]).await?;
    }
    text(&line)
}

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`.
fn text(line: &[u8]) -> Result<Option<Ends>> {
    let line = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok());
    let Some(line) = line else { return Err(wrong("its line is not text, or does not end in CR LF")) };
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", "TCP4", client, here, from, to] => ends::<Ipv4Addr>([client, here], [from, to]),
        ["PROXY", "TCP6", client, here, from, to] => ends::<Ipv6Addr>([client, here], [from, to]),
        _ => Err(wrong("its line is not `PROXY TCP4|TCP6 FROM TO PORT PORT`")),
    }
}

fn ends<A: FromStr + Into<IpAddr>>(addresses: [&str; 2], ports: [&str; 2]) -> Result<Option<Ends>> {
    let address = |nth: usize| addresses[nth].parse::<A>().ok().map(Into::into);
    let port = |nth: usize| -> Option<u16> {
        let text: &str = ports[nth];
        let plain = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
        if plain { text.parse().ok() } else { None }
    };
    let read =
        || Some(Ends { client: SocketAddr::new(address(0)?, port(0)?), here: SocketAddr::new(address(1)?, port(1)?) });
    read().map(Some).ok_or_else(|| wrong("an address or a port in it is none"))
}

/// Version 2: a version and a command, a family and a protocol, then addresses, then what may be skipped.
fn binary(command: u8, family: u8, rest: &[u8]) -> Result<Option<Ends>> {
    match command {
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(wrong("its version is not 2, or its command neither LOCAL nor PROXY")),
    }
    let short = || wrong("it is too short for its addresses");
    match family {
        0x11 => {
            let (addresses, ports) = rest.split_first_chunk::<8>().ok_or_else(short)?;
            let [a, b, c, d, e, f, g, h] = *addresses;
            of(ports, Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into()).ok_or_else(short)
        }
        0x21 => {
            let (client, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
            let (here, ports) = rest.split_first_chunk::<16>().ok_or_else(short)?;
            of(ports, Ipv6Addr::from(*client).into(), Ipv6Addr::from(*here).into()).ok_or_else(short)
        }
        // Unspecified, datagrams, sockets of one machine: whoever is connected counts.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => Ok(None),
        _ => Err(wrong("its family or protocol is not known")),
    }
}

fn of(ports: &[u8], client: IpAddr, here: IpAddr) -> Option<Option<Ends>> {
    let [a, b, c, d] = *ports.first_chunk::<4>()?;
    let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some(Some(Ends { client: SocketAddr::new(client, from), here: SocketAddr::new(here, to) }))
}

fn wrong(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("PROXY protocol: {why}"))
}

/// A line, or the binary form without its signature.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(Some(ends)) = text(bytes) {
        let version = if ends.client.is_ipv4() { "TCP4" } else { "TCP6" };
        let Ends { client, here } = ends;
        let line = format!("PROXY {version} {} {} {} {}\r\n", client.ip(), here.ip(), client.port(), here.port());
        assert_eq!(text(line.as_bytes()).ok(), Some(Some(ends)), "it is read as it is written");
    }
    if let [command, family, rest @ ..] = bytes {
        let read = binary(*command, *family, rest);
        assert!(!matches!(read, Ok(Some(_))) || (*command == 0x21 && rest.len() >= 12), "addresses out of nothing");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(line: &str) -> std::result::Result<Option<(String, String)>, String> {
        let ends = text(line.as_bytes()).map_err(|why| why.to_string())?;
        Ok(ends.map(|ends| (ends.client.to_string(), ends.here.to_string())))
    }

    #[test]
    fn lines_are_read_as_they_are_written() {
        let both = |a: &str, b: &str| Ok(Some((a.to_owned(), b.to_owned())));
        let v4 = told("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n");
        assert_eq!(v4, both("192.0.2.1:56324", "198.51.100.1:443"));
        let v6 = told("PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n");
        assert_eq!(v6, both("[2001:db8::1]:0", "[2001:db8::2]:65535"));
        assert_eq!(told("PROXY UNKNOWN\r\n"), Ok(None));
        assert_eq!(told("PROXY UNKNOWN ffff:f::1 ffff::2 65535 65535\r\n"), Ok(None));
    }

    #[test]
    fn lines_that_say_something_else_are_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 056 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +56 443\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.1 56 443\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 56 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 56 443\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.1 56 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56 443 \r\n",
            "PROXY TCP5 192.0.2.1 198.51.100.1 56 443\r\n",
            "PROXY \r\n",
        ] {
            told(line).expect_err(line);
        }
    }

    #[test]
    fn the_binary_form_tells_addresses_and_what_follows_them_is_skipped() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xDC, 0x04, 0x01, 0xBB, 0x04, 0x00, 0x01, 0x00];
        let ends = binary(0x21, 0x11, &v4).unwrap().unwrap();
        assert_eq!((ends.client.to_string(), ends.here.port()), ("192.0.2.1:56324".to_owned(), 443));
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 7, 8);
        let ends = binary(0x21, 0x21, &v6).unwrap().unwrap();
        assert_eq!((ends.client.to_string(), ends.here.to_string()), ("[::1]:7".to_owned(), "[::2]:8".to_owned()));
        assert_eq!(binary(0x20, 0x11, &[]).unwrap(), None, "LOCAL");
        assert_eq!(binary(0x21, 0x00, &[9; 3]).unwrap(), None, "unspecified");
        for (command, family, rest) in
            [(0x21, 0x11, &v4[..11]), (0x21, 0x21, &v6[..35]), (0x22, 0x11, &v4), (0x11, 0x11, &v4), (0x21, 0x13, &v4)]
        {
            binary(command, family, rest).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(command: u8, family: u8, rest: Vec<u8>, line: Vec<u8>) {
            let (_any, _answer) = (binary(command, family, &rest), text(&line));
            let _prefixed = text(&[b"PROXY TCP4 ", &line[..], b"\r\n"].concat());
        }
    }
}
