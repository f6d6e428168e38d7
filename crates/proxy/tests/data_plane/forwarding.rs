//! What the backend is told about the client, and what is nobody's business beyond one hop.

use crate::backend;
use crate::harness::{Setup, World, route, upstream};

async fn world(trusting: bool) -> World {
    let (backend, _) = backend::start().await;
    let setup = Setup::routes(vec![route("/", &upstream(backend))]);
    if trusting { setup.trusting_loopback().start().await } else { setup.start().await }
}

#[tokio::test]
async fn a_stranger_cannot_say_who_he_is() {
    let world = world(false).await;
    let lies = "x-forwarded-for: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nx-forwarded-proto: https\r\n\
                x-forwarded-host: bank.test\r\nx-forwarded-port: 443\r\nx-forwarded-prefix: /x\r\nx-real-ip: 6.6.6.6\r\n\
                forwarded: for=6.6.6.6\r\nx-request-id: mine\r\nx-tidegate-node: 1\r\n\
                x_forwarded_for: 6.6.6.6\r\nx_real_ip: 6.6.6.6\r\n";
    let reply = world.ask("GET", "/", lies).await;
    assert_eq!(reply.sent("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(reply.sent("x-forwarded-proto"), ["http"]);
    assert_eq!(reply.sent("x-forwarded-host"), ["gate.test"]);
    assert_eq!(reply.sent("x-forwarded-port"), [world.address.port().to_string()]);
    assert_eq!(reply.sent("via"), ["1.1 tidegate"]);
    for gone in ["x-forwarded-prefix", "x-real-ip", "forwarded", "x-tidegate-node", "x_forwarded_for", "x_real_ip"] {
        assert!(reply.sent(gone).is_empty(), "{gone}");
    }
    let id = reply.sent("x-request-id");
    assert_eq!(id.len(), 1);
    assert_ne!(id[0], "mine");
    assert_eq!(reply.header("x-request-id"), Some(id[0].as_str()));
}

#[tokio::test]
async fn names_that_some_backends_read_as_others_go_no_further() {
    let world = world(false).await;
    let lies = "content_length: 7\r\nTransfer_Encoding: chunked\r\nx_request_id: mine\r\nx-user: a\r\nx_user: b\r\napi_key: c\r\n";
    let reply = world.ask("GET", "/", lies).await;
    for gone in ["content_length", "transfer_encoding", "x_request_id", "x_user"] {
        assert!(reply.sent(gone).is_empty(), "{gone}");
    }
    assert_eq!((reply.sent("x-user"), reply.sent("api_key")), (vec!["a".into()], vec!["c".into()]));
}

#[tokio::test]
async fn te_says_that_it_concerns_one_connection() {
    let world = world(false).await;
    let reply = world.ask("GET", "/", "te: trailers\r\n").await;
    assert_eq!((reply.sent("te"), reply.sent("connection")), (vec!["trailers".into()], vec!["te".into()]));
    assert!(world.get("/").await.sent("connection").is_empty());
}

#[tokio::test]
async fn a_trusted_peer_is_believed_and_added_to_the_list() {
    let world = world(true).await;
    let says = "x-forwarded-for: 9.9.9.9\r\nx-forwarded-for: 8.8.8.8\r\nx-forwarded-proto: https\r\n\
                x-forwarded-host: bank.test\r\nforwarded: for=8.8.8.8\r\nx-request-id: from-lb-1\r\n";
    let reply = world.ask("GET", "/", says).await;
    assert_eq!(reply.sent("x-forwarded-for"), ["9.9.9.9, 8.8.8.8, 127.0.0.1"]);
    assert_eq!(reply.sent("x-forwarded-proto"), ["https"]);
    assert_eq!(reply.sent("x-forwarded-host"), ["bank.test"]);
    assert_eq!(reply.sent("forwarded"), ["for=8.8.8.8, for=127.0.0.1;proto=https;host=\"gate.test\""]);
    assert_eq!(reply.header("x-request-id"), Some("from-lb-1"));
    let odd = world.ask("GET", "/", "x-request-id: a\"b\r\n").await;
    assert_ne!(odd.header("x-request-id"), Some("a\"b"));
}

#[tokio::test]
async fn hop_by_hop_headers_stay_on_their_hop_both_ways() {
    let world = world(false).await;
    let hop = "connection: x-one-hop\r\nx-one-hop: 1\r\nkeep-alive: timeout=9\r\nproxy-connection: keep-alive\r\n\
               proxy-authorization: Basic eA==\r\nte: trailers\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\
               x-kept: 1\r\n";
    let reply = world.ask("GET", "/", hop).await;
    for gone in ["x-one-hop", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade", "http2-settings"] {
        assert!(reply.sent(gone).is_empty(), "{gone}: {}", reply.body);
    }
    assert_eq!(reply.sent("te"), ["trailers"]);
    assert_eq!(reply.sent("connection"), ["te"], "of this hop, as TE asks for (RFC 9110 § 10.1.4)");
    assert_eq!(reply.sent("x-kept"), ["1"]);
    let back = world.get("/hop").await;
    for gone in ["x-one-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(back.header(gone), None);
    }
    assert_eq!(back.header("x-kept"), Some("1"));
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let world = world(false).await;
    for (path, status) in [("/status/204", 204), ("/status/304", 304)] {
        let reply = world.get(path).await;
        assert_eq!((reply.status, reply.body.as_str()), (status, ""));
    }
    let head = world.ask("HEAD", "/", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.header("content-length").is_some_and(|n| n != "0"), "{}", head.head);
}
