//! What is read, written and refused, by table and by dice.

use bytes::Bytes;
use http::Request;
use proptest::prelude::*;

use super::*;

fn told(bytes: &[u8]) -> Told {
    let told = read(bytes, usize::MAX, false);
    for step in [1, 2, 3, 7, 64] {
        assert_eq!(read(bytes, step, false), told, "in pieces of {step}: {:?}", String::from_utf8_lossy(bytes));
    }
    told
}

/// The body, and what was wrong with it.
fn body(text: &str) -> (String, Option<&'static str>) {
    let told = told(text.as_bytes());
    (String::from_utf8(told.body).unwrap(), told.broken)
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn a_body_ends_where_its_framing_says() {
    for (text, want, broken) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more", "ok", None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok", "ok", None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", "ok", None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", "ok", Some("ended")),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end", None),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end", None),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello", "", None),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", "", None),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200\r\n\r\nx", "x", None),
        ("\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx", "x", None),
    ] {
        assert_eq!(body(text), (want.into(), broken), "{text:?}");
    }
    let head = read(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 1, true);
    assert_eq!((head.body.len(), head.broken), (0, None));
}

#[test]
fn chunks_are_read_and_what_is_no_chunk_is_not() {
    for (text, want, broken) in [
        ("2\r\nok\r\n0\r\n\r\n", "ok", false),
        ("2;a=b\r\nok\r\n0\r\n\r\n", "ok", false),
        ("2 0\r\nok\r\n0\r\n\r\n", "", true),
        ("00000000000000002\r\nok\r\n0\r\n\r\n", "", true),
        ("2\r\nok\r\n0\r\nx: y\n\r\nevil: z\r\n\r\n", "ok", true),
        ("2 \t;a\r\nok\r\n0;z\r\n\r\nmore", "ok", false),
        ("02\r\nok\r\nA\r\n0123456789\r\n0\r\n\r\n", "ok0123456789", false),
        ("2\r\nok\r\n0\r\nX-A: b\r\n\r\n", "ok", false),
        ("2\r\nok\r\n", "ok", true),
        ("2\r\nok\r\nx\r\n\r\n", "ok", true),
        ("2\nok\r\n0\r\n\r\n", "", true),
        ("2\r\nokay\r\n0\r\n\r\n", "ok", true),
        ("10000000000000003\r\nabc\r\n", "", true),
        ("-2\r\nok\r\n0\r\n\r\n", "", true),
        ("2;a\nb\r\nok\r\n0\r\n\r\n", "", true),
        ("2\r\nok\r\n0\r\nno field\r\n\r\n", "ok", true),
        ("2\r\nok\r\n0\r\nx: y\n\r\n", "ok", true),
    ] {
        let (read, why) = body(&format!("{CHUNKED}{text}"));
        assert_eq!((&*read, why.is_some()), (want, broken), "{text:?}: {why:?}");
    }
    let trailers = told(format!("{CHUNKED}0\r\nX-A: b\r\nx-a: c\r\n\r\n").as_bytes()).trailers.unwrap();
    assert_eq!(trailers.get_all("x-a").iter().collect::<Vec<_>>(), ["b", "c"]);
    let endless = format!("{CHUNKED}2;{}\r\nok\r\n0\r\n\r\n", "a".repeat(20 << 10));
    assert!(body(&endless).1.is_some());
    let many = format!("{CHUNKED}0\r\n{}\r\n", "x: y\r\n".repeat(101));
    assert!(body(&many).1.is_some());
    let long = format!("{CHUNKED}0\r\nx: {}\r\n\r\n", "y".repeat(20 << 10));
    assert!(body(&long).1.is_some());
}

#[test]
fn what_cannot_be_read_in_one_way_is_no_answer() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(70_000));
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(65);
    for bad in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 99 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno field\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 204 No Content\r\ncontent-length: -3\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\n",
        &many,
        &endless,
        &hints,
    ] {
        let told = told(bad.as_bytes());
        assert_eq!((told.head, told.broken), (None, Some("malformed")), "{:?}", &bad[..bad.len().min(80)]);
        assert_eq!(
            read(bad.as_bytes(), usize::MAX, true).broken,
            Some("malformed"),
            "to HEAD: {:?}",
            &bad[..bad.len().min(80)]
        );
    }
    for short in ["", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let told = told(short.as_bytes());
        assert_eq!((told.head, told.broken), (None, Some("ended")), "{short:?}");
    }
}

/// As it is written, for a body of these frames.
fn written(request: http::request::Builder, body: Outgoing, frames: Vec<Frame<Bytes>>) -> String {
    let (head, ()) = request.body(()).unwrap().into_parts();
    let to = Address { https: false, host: "10.0.0.1".into(), port: 8080, ip: None };
    let mut out = Outbox::default();
    let mut encoder = ask::head(&mut out, &head, &body, &to);
    let mut text = Vec::new();
    let mut take = |out: &mut Outbox| {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(out.poll_write(&mut text, &mut cx), Poll::Ready(Ok(()))));
    };
    for frame in frames {
        encoder.put(frame, &mut out).unwrap();
        take(&mut out);
    }
    encoder.end(&mut out).unwrap();
    take(&mut out);
    String::from_utf8(text).unwrap()
}

fn whole(text: &str) -> (Outgoing, Vec<Frame<Bytes>>) {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    (Outgoing::whole(bytes.clone()), vec![Frame::data(bytes)])
}

/// Of a length that nobody knows.
fn stream() -> Outgoing {
    let body =
        http_body_util::StreamBody::new(tokio_stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x")))]));
    crate::outgoing::outgoing(body, tokio::time::Instant::now()).0
}

#[test]
fn a_request_says_where_it_ends() {
    let get = || Request::get("/a?b").header("host", "h");
    assert_eq!(written(get(), Outgoing::Empty, vec![]), "GET /a?b HTTP/1.1\r\nhost: h\r\n\r\n");
    let post = || Request::post("/").header("host", "h");
    let (body, frames) = whole("hello");
    let sized = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello";
    assert_eq!(written(post(), body, frames), sized);
    let (body, frames) = whole("hello");
    assert_eq!(written(post().header("content-length", "5"), body, frames), sized);
    let (body, frames) = whole("hello");
    assert_eq!(written(post().header("content-length", "x"), body, frames), sized, "what is no length is none");
    let head = "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
    let frames = || {
        vec![Frame::data(Bytes::from_static(b"hello")), Frame::data(Bytes::new()), Frame::data(vec![b'y'; 26].into())]
    };
    let chunks = format!("5\r\nhello\r\n1a\r\n{}\r\n0\r\n\r\n", "y".repeat(26));
    assert_eq!(written(post(), stream(), frames()), format!("{head}{chunks}"));
    let (body, _) = whole("hello");
    assert_eq!(written(post().header("transfer-encoding", "chunked"), body, frames()), format!("{head}{chunks}"));
    assert_eq!(
        written(Request::post("/").header("host", "h").header("content-length", "0"), Outgoing::Empty, vec![]),
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n"
    );
    let long = "z".repeat(5 << 10);
    let frames = vec![Frame::data(Bytes::from(long.clone()))];
    assert_eq!(written(post(), stream(), frames), format!("{head}1400\r\n{long}\r\n0\r\n\r\n"), "in slices");
}

#[test]
fn trailers_go_where_they_were_announced() {
    let mut trailers = HeaderMap::new();
    for name in ["x-sum", "x-else", "content-length"] {
        trailers.insert(name, "1".parse().unwrap());
    }
    let frames = || vec![Frame::data(Bytes::from_static(b"a")), Frame::trailers(trailers.clone())];
    let announced = Request::post("/").header("host", "h").header("trailer", "X-Sum, content-length");
    let text = written(announced, stream(), frames());
    assert!(text.ends_with("\r\n\r\n1\r\na\r\n0\r\nx-sum: 1\r\n\r\n"), "{text:?}");
    let text = written(Request::post("/").header("host", "h"), stream(), frames());
    assert!(text.ends_with("\r\n\r\n1\r\na\r\n0\r\n\r\n"), "{text:?}");
}

#[test]
fn somebody_is_always_named() {
    let of = |uri: &str| written(Request::get(uri), Outgoing::Empty, vec![]);
    assert_eq!(of("/"), "GET / HTTP/1.1\r\nhost: 10.0.0.1:8080\r\n\r\n");
    assert_eq!(of("http://a.example/x"), "GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n");
    assert_eq!(of("http://a.example?x"), "GET /?x HTTP/1.1\r\nhost: a.example\r\n\r\n");
    let options = Request::options("*").header("host", "h");
    assert_eq!(written(options, Outgoing::Empty, vec![]), "OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n");
}

/// Pieces that answers are made of, in any order.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 204 \r\n",
        "\r\n",
        "\n",
        "content-length: 5\r\n",
        "content-length: 0\r\n",
        "transfer-encoding: chunked\r\n",
        "connection: close\r\n",
        "x: y\r\n",
        "hello",
        "5\r\nhello\r\n",
        "0\r\n",
        "0\r\n\r\n",
        "a;b=c\r\n0123456789\r\n",
        "x-t: u\r\n\r\n",
        "\r",
        " ",
    ]);
    prop_oneof![9 => known.prop_map(|text| text.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..9)]
}

proptest! {
    #[test]
    fn however_it_is_cut_an_answer_is_the_same(
        pieces in prop::collection::vec(piece(), 0..12),
        starts in any::<bool>(),
        steps in prop::collection::vec(1..40_usize, 3),
        head_alone in any::<bool>(),
    ) {
        let mut bytes = if starts { b"HTTP/1.1 200 OK\r\n".to_vec() } else { Vec::new() };
        bytes.extend(pieces.concat());
        let whole = read(&bytes, usize::MAX, head_alone);
        for step in steps {
            prop_assert_eq!(&read(&bytes, step, head_alone), &whole);
        }
    }

    #[test]
    fn what_is_written_in_chunks_is_read_the_same(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6000), 0..6)) {
        let frames = parts.iter().map(|part| Frame::data(Bytes::from(part.clone()))).collect::<Vec<_>>();
        let (mut out, mut text) = (Outbox::default(), CHUNKED.as_bytes().to_vec());
        let mut encoder = Encoder::Chunked(Vec::new());
        let mut cx = Context::from_waker(Waker::noop());
        for frame in frames {
            prop_assert!(encoder.put(frame, &mut out).is_ok());
            prop_assert!(matches!(out.poll_write(&mut text, &mut cx), Poll::Ready(Ok(()))));
        }
        prop_assert!(encoder.end(&mut out).is_ok());
        prop_assert!(matches!(out.poll_write(&mut text, &mut cx), Poll::Ready(Ok(()))));
        let told = read(&text, usize::MAX, false);
        prop_assert_eq!((told.body, told.broken), (parts.concat(), None));
    }

    #[test]
    fn wherever_a_socket_stalls_the_chunks_are_the_same(
        // Copied and not, and sockets that are full within what frames them.
        sizes in prop::collection::vec(prop_oneof![0..20_usize, 4_090..4_200_usize], 0..6),
        takes in prop::collection::vec(prop_oneof![3 => 0..4_usize, 1 => 4_000..4_300_usize], 1..12),
        ends_with_the_last in any::<bool>(),
    ) {
        let parts: Vec<Vec<u8>> = (0_u8..).zip(&sizes).map(|(n, size)| vec![b'a' + n; *size]).collect();
        let takes = if takes.iter().all(|take| *take == 0) { vec![1] } else { takes };
        let mut body = Parts { left: parts.iter().map(|part| Bytes::from(part.clone())).collect(), ends_with_the_last };
        let mut socket = Stalling { got: CHUNKED.as_bytes().to_vec(), takes, at: 0 };
        let (mut out, mut encoder) = (Outbox::default(), Encoder::Chunked(Vec::new()));
        let mut cx = Context::from_waker(Waker::noop());
        let mut polls = 0;
        while poll_send(&mut encoder, &mut out, &mut body, &mut socket, &mut cx).is_pending() {
            polls += 1;
            prop_assert!(polls < 100_000);
        }
        let told = read(&socket.got, usize::MAX, false);
        prop_assert_eq!((told.body, told.broken), (parts.concat(), None));
        prop_assert!(socket.got.ends_with(b"0\r\n\r\n"));
    }
}

struct Parts {
    left: std::collections::VecDeque<Bytes>,
    /// It says with the last part that it was the last.
    ends_with_the_last: bool,
}

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.left.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.ends_with_the_last && self.left.is_empty()
    }
}

/// Takes some bytes, then none for a moment.
struct Stalling {
    got: Vec<u8>,
    takes: Vec<usize>,
    at: usize,
}

impl tokio::io::AsyncWrite for Stalling {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Every other time it is full.
        self.at += 1;
        let most = self.takes[(self.at / 2) % self.takes.len()];
        if self.at.is_multiple_of(2) || most == 0 {
            return Poll::Pending;
        }
        let mut left = most;
        for slice in slices {
            let some = left.min(slice.len());
            self.got.extend_from_slice(&slice[..some]);
            left -= some;
        }
        Poll::Ready(Ok(most - left))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
