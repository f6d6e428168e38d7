//! A blocking HTTP/1.1 client over one kept-alive connection: what the generator and the pollers need and no more.
//! It adds almost nothing to what is measured. Not for the outside world: it believes what the other side says.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The balancer writes the node's name here on every answer, its own included.
pub(crate) const NODE_HEADER: &str = "x-node";
const MAX_HEAD: usize = 64 * 1024;

pub(crate) struct Connection<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
    reusable: bool,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Which node answered, if the balancer said so.
    pub(crate) node: Option<String>,
    pub(crate) body: Vec<u8>,
}

enum Length {
    Exactly(usize),
    Chunked,
    UntilClose,
}

/// What was known of an answer when it failed.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) node: Option<String>,
    pub(crate) why: io::Error,
    /// Not a byte of the answer had come.
    pub(crate) unanswered: bool,
}

impl From<io::Error> for Broken {
    fn from(why: io::Error) -> Self {
        Self { node: None, why, unanswered: true }
    }
}

impl Connection {
    pub(crate) fn open(to: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self::over(stream))
    }
}

impl<S: Read + Write> Connection<S> {
    /// Over bytes to a server, in clear text or not.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::with_capacity(4096), reusable: true }
    }

    /// Gives the bytes back, and forgets what was read ahead.
    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    pub(crate) fn is_reusable(&self) -> bool {
        self.reusable
    }

    /// Sends a whole request and reads the whole answer.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<Answer, Broken> {
        self.reusable = false; // until the answer is complete
        self.stream.write_all(request)?;
        let head = self.read_head();
        let unanswered = self.buffer.is_empty();
        let (status, node, length, keep) = head.map_err(|why| Broken { node: None, why, unanswered })?;
        let body = match length {
            Length::Exactly(length) => self.read_exactly(length),
            Length::Chunked => self.read_chunks(),
            Length::UntilClose => self.read_rest(),
        };
        let keep = keep && !matches!(length, Length::UntilClose);
        match body {
            Ok(body) => {
                self.reusable = keep;
                Ok(Answer { status, node, body })
            }
            Err(why) => Err(Broken { node, why, unanswered: false }),
        }
    }

    fn read_head(&mut self) -> io::Result<(u16, Option<String>, Length, bool)> {
        loop {
            if let Some(head) = parse_head(&self.buffer)? {
                self.buffer.drain(..head.0);
                if head.1.0 >= 200 {
                    return Ok(head.1);
                }
                continue; // 1xx: the real answer follows
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(io::Error::other("the head of the answer is too long"));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 8192];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed in the middle of an answer")),
            n => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    }

    fn read_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.read_line()?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while !self.read_line()?.is_empty() {} // trailers
                return Ok(body);
            }
            body.extend(self.read_exactly(size)?);
            self.read_line()?;
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            self.fill()?;
        }
    }

    fn read_rest(&mut self) -> io::Result<Vec<u8>> {
        let mut body = std::mem::take(&mut self.buffer);
        self.stream.read_to_end(&mut body)?;
        Ok(body)
    }
}

type Head = (u16, Option<String>, Length, bool);

fn parse_head(bytes: &[u8]) -> io::Result<Option<(usize, Head)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = parsed.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let status = parsed.code.unwrap_or_default();
    let value = |name: &str| {
        let header = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let keep = parsed.version == Some(1) && !value("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
    let length = if status < 200 || status == 204 || status == 304 {
        Length::Exactly(0)
    } else if value("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        Length::Chunked
    } else {
        match value("content-length").map(str::parse) {
            Some(length) => Length::Exactly(length.map_err(io::Error::other)?),
            None => Length::UntilClose,
        }
    };
    Ok(Some((end, (status, value(NODE_HEADER).map(str::to_owned), length, keep))))
}

/// One GET on a connection of its own.
pub(crate) fn get(to: SocketAddr, path: &str, patience: Duration) -> Result<Answer, Broken> {
    Connection::open(to, patience)?.exchange(&get_request("tidegate.test", path, &[]))
}

/// The bytes of a GET.
pub(crate) fn get_request(host: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn check(wire: &'static [u8], status: u16, body: &str, reusable: bool) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepts");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).expect("reads");
            stream.write_all(wire).expect("writes");
        });
        let mut connection = Connection::open(address, Duration::from_secs(5)).expect("connects");
        let answer = connection.exchange(&get_request("h", "/", &[])).expect("an answer");
        assert_eq!((answer.status, String::from_utf8_lossy(&answer.body).as_ref()), (status, body));
        assert_eq!(connection.is_reusable(), reusable);
        server.join().expect("server");
    }

    #[test]
    fn a_body_is_read_by_its_length_and_the_connection_kept() {
        check(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok", true);
    }

    #[test]
    fn chunks_are_joined_and_trailers_skipped() {
        let wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nt: v\r\n\r\n";
        check(wire, 200, "abc", true);
    }

    #[test]
    fn an_interim_answer_is_skipped() {
        check(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 No\r\ncontent-length: 0\r\n\r\n", 429, "", true);
    }

    #[test]
    fn a_closing_answer_ends_the_connection() {
        check(b"HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx", 503, "x", false);
        check(b"HTTP/1.1 200 OK\r\n\r\nrest", 200, "rest", false);
    }

    #[test]
    fn a_cut_answer_names_the_node_it_came_from() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepts");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).expect("reads");
            stream.write_all(b"HTTP/1.1 200 OK\r\nx-node: n2\r\ncontent-length: 9\r\n\r\nhalf").expect("writes");
        });
        let broken = get(address, "/", Duration::from_secs(5)).expect_err("cut");
        assert_eq!(broken.node.as_deref(), Some("n2"));
        server.join().expect("server");
    }
}
