//! What is a request and what is none, by table and by dice.

use proptest::prelude::*;

use super::fuzz::{Told, request, told};
use super::*;

fn all(text: &str) -> Told {
    let whole = told(text.as_bytes(), usize::MAX);
    for step in [1, 2, 3, 7, 64] {
        assert_eq!(told(text.as_bytes(), step), whole, "in pieces of {step}: {text:?}");
    }
    whole
}

/// Its first line as it was understood, the body, and what is left; or what is wrong.
fn asked(text: &str) -> Result<(String, String, String), Option<Bad>> {
    match all(text) {
        Told::Waits => Err(None),
        Told::Bad(bad) => Err(Some(bad)),
        Told::Whole(whole) => {
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            Ok((whole.line, text(whole.body.data), text(whole.body.left)))
        }
    }
}

#[test]
fn a_request_ends_where_its_framing_says() {
    for (text, want) in [
        ("GET / HTTP/1.1\r\n\r\nGET", ("GET / HTTP/1.1", "", "GET")),
        ("\r\n\n\r\nGET /x?y HTTP/1.0\r\n\r\n", ("GET /x?y HTTP/1.0", "", "")),
        // RFC 9110 § 2.5: a higher minor version is read as the highest known.
        ("GET / HTTP/1.2\r\n\r\n", ("GET / HTTP/1.1", "", "")),
        ("GET / HTTP/1.9\n\nx", ("GET / HTTP/1.1", "", "x")),
        ("GET / HTTP/1.1\nhost: a\n\n", ("GET / HTTP/1.1", "", "")),
        ("POST http://a/b HTTP/1.1\r\ncontent-length: 2\r\n\r\nokmore", ("POST http://a/b HTTP/1.1", "ok", "more")),
        ("POST / HTTP/1.1\r\ncontent-length: 2\r\nContent-Length: 2\r\n\r\nok", ("POST / HTTP/1.1", "ok", "")),
        ("POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\nok", ("POST / HTTP/1.1", "", "ok")),
        ("POST / HTTP/1.1\r\ntransfer-encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\nx", ("POST / HTTP/1.1", "ok", "x")),
    ] {
        let want = (want.0.to_owned(), want.1.to_owned(), want.2.to_owned());
        assert_eq!(asked(text), Ok(want), "{text:?}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_no_request() {
    for text in [
        "GET / HTTP/1.12\r\n\r\n",
        "GET /HTTP/1.2\r\n\r\n",
        "GET / HTTP/2.00\r\n\r\n",
        "GET / http/2.0\r\n\r\n",
        "GET /\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "\rGET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nx: a\0b\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 2, 2\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: +2\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length:\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 18446744073709551615\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n",
        "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(asked(text), Err(Some(Bad::Malformed)), "{text:?}");
    }
}

#[test]
fn another_major_version_is_told_from_what_is_no_version() {
    for version in ["0.9", "2.0", "3.0", "9.9"] {
        for end in ["\r\n", "\n"] {
            let text = format!("GET / HTTP/{version}{end}");
            assert_eq!(asked(&text), Err(Some(Bad::OtherVersion)), "{text:?}");
        }
    }
}

#[test]
fn what_is_too_large_says_what_of_it_is() {
    let long = "a".repeat(5 << 10);
    for (text, want) in [
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), Bad::TargetTooLong),
        (format!("GET /{long}"), Bad::TargetTooLong),
        (format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n"), Bad::TooLarge),
        (format!("GET / HTTP/1.1\r\nx: {long}"), Bad::TooLarge),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(17)), Bad::TooLarge),
    ] {
        assert_eq!(told(text.as_bytes(), usize::MAX), Told::Bad(want), "{text:.40}");
        assert_eq!(told(text.as_bytes(), 7), Told::Bad(want), "{text:.40}");
    }
    let as_many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(16));
    assert!(asked(&as_many).is_ok());
}

#[test]
fn the_head_says_what_is_to_become_of_the_connection() {
    let flags = |fields: &str, version: &str| match all(&format!("GET / HTTP/{version}\r\n{fields}\r\n")) {
        Told::Whole(whole) => whole.flags,
        other => panic!("{other:?}"),
    };
    for (fields, version, [stays, expects, upgrades, takes_trailers]) in [
        ("", "1.1", [true, false, false, false]),
        ("", "1.0", [false; 4]),
        ("connection: keep-alive\r\n", "1.0", [true, false, false, false]),
        ("connection: x, Close\r\nconnection: keep-alive\r\n", "1.1", [false; 4]),
        ("connection: keep-alive\r\nconnection: close\r\n", "1.0", [false; 4]),
        ("content-length: 1\r\ntransfer-encoding: chunked\r\n", "1.1", [false; 4]),
        ("expect: 100-Continue\r\n", "1.1", [true, true, false, false]),
        ("upgrade: websocket\r\nte: trailers\r\n", "1.1", [true, false, true, true]),
        ("upgrade: websocket\r\n", "1.0", [false; 4]),
    ] {
        assert_eq!(flags(fields, version), [stays, expects, upgrades, takes_trailers], "{fields:?} {version}");
    }
}

proptest! {
    #[test]
    fn cuts_make_no_difference(parts in proptest::collection::vec(prop_oneof![
        Just("GET / HTTP/1.1\r\n"), Just("POST /a HTTP/1.0\n"), Just("host: a\r\n"), Just("content-length: 5\r\n"),
        Just("transfer-encoding: chunked\r\n"), Just("connection: close\r\n"), Just("\r\n"), Just("\n"), Just("\r"),
        Just("3\r\nabc\r\n"), Just("0\r\n"), Just("x: y\r\n"), Just(" "), Just(":"), Just("abcde"),
    ], 0..12), step in 1_u8..20) {
        let mut bytes = vec![step - 1];
        bytes.extend_from_slice(parts.concat().as_bytes());
        request(&bytes);
    }
}
