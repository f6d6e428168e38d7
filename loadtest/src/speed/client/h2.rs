//! As much of h2 as a client needs that asks for one thing at a time (RFC 9113): no dynamic table, no small windows.

use std::io::{self, Read, Write};

use crate::http::{Answer, Broken};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// Of a connection before anyone says otherwise.
const FIRST_WINDOW: u32 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

pub(super) struct Connection<S> {
    stream: S,
    next_stream: u32,
    /// Bytes of DATA since the connection's window was opened last.
    taken: u32,
    /// What was read; what stands before `at` is done with.
    read: Vec<u8>,
    at: usize,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    pub(super) fn over(mut stream: S) -> io::Result<Self> {
        let mut settings = Vec::new();
        // No dynamic table, no pushes, and windows that never shut.
        for (name, value) in [(1_u16, 0_u32), (2, 0), (4, LARGEST_WINDOW)] {
            settings.extend(name.to_be_bytes());
            settings.extend(value.to_be_bytes());
        }
        let window = (LARGEST_WINDOW - FIRST_WINDOW).to_be_bytes();
        let first = [PREFACE, &frame(SETTINGS, 0, 0, &settings), &frame(WINDOW_UPDATE, 0, 0, &window)].concat();
        stream.write_all(&first)?;
        stream.flush()?;
        Ok(Self { stream, next_stream: 1, taken: 0, read: Vec::new(), at: 0 })
    }

    /// Any status but 200 is an error. The body is read, counted against the windows, and dropped.
    pub(super) fn exchange(&mut self, block: &[u8]) -> Result<Answer, Broken> {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.write(&frame(HEADERS, END_STREAM | END_HEADERS, stream, block))?;
        let mut is_fine = false;
        loop {
            let frame = self.frame()?;
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.write(&self::frame(SETTINGS, ACK, 0, &[]))?,
                PING if frame.flags & ACK == 0 => self.write(&self::frame(PING, ACK, 0, &frame.payload))?,
                GOAWAY => return Err(io::Error::other("GOAWAY").into()),
                RST_STREAM if frame.stream == stream => return Err(io::Error::other("RST_STREAM").into()),
                HEADERS if frame.stream == stream => is_fine |= says_200(&frame),
                DATA => self.give_back(frame.payload.len())?,
                _ => {}
            }
            let is_last = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
            if is_last && frame.stream == stream {
                if !is_fine {
                    return Err(io::Error::other("a status other than 200").into());
                }
                return Ok(Answer { status: 200, node: None, body: Vec::new() });
            }
        }
    }

    /// Only rarely: the window is as large as a hundred long rounds.
    fn give_back(&mut self, bytes: usize) -> io::Result<()> {
        self.taken += u32::try_from(bytes).unwrap_or(u32::MAX);
        if self.taken > LARGEST_WINDOW / 2 {
            let window = frame(WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
            self.taken = 0;
            self.write(&window)?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    fn frame(&mut self) -> io::Result<Frame> {
        self.fill(9)?;
        let head = &self.read[self.at..self.at + 9];
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & LARGEST_WINDOW;
        self.fill(9 + length)?;
        let payload = self.read[self.at + 9..self.at + 9 + length].to_vec();
        self.at += 9 + length;
        Ok(Frame { kind, flags, stream, payload })
    }

    /// Until so many bytes are there.
    fn fill(&mut self, bytes: usize) -> io::Result<()> {
        if self.at == self.read.len() {
            self.read.clear();
            self.at = 0;
        }
        let mut chunk = [0; 16 * 1024];
        while self.read.len() - self.at < bytes {
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed in the middle of an answer")),
                n => self.read.extend_from_slice(&chunk[..n]),
            }
        }
        Ok(())
    }
}

/// Without a dynamic table 200 is always the eighth of the static one: RFC 7541, appendix A.
fn says_200(frame: &Frame) -> bool {
    let before = usize::from(frame.flags & PADDED != 0) + if frame.flags & PRIORITY != 0 { 5 } else { 0 };
    let block = frame.payload.get(before..).unwrap_or_default();
    // Confirmations of the table's size come first (§ 6.3).
    block.iter().find(|byte| **byte & 0b1110_0000 != 0b0010_0000) == Some(&0x88)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames of ours are short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A GET, from the static table and literals that nobody indexes.
pub(super) fn header_block(scheme: &str, host: &str, path: &str, headers: &[(String, String)]) -> Vec<u8> {
    let mut block = vec![0x82, if scheme == "http" { 0x86 } else { 0x87 }];
    block.push(0x01);
    string(&mut block, host);
    block.push(0x04);
    string(&mut block, path);
    for (name, value) in headers {
        block.push(0);
        string(&mut block, name);
        string(&mut block, value);
    }
    block
}

/// Not Huffman-coded: RFC 7541, § 5.1 and 5.2.
fn string(block: &mut Vec<u8>, text: &str) {
    let mut left = text.len();
    if left < 127 {
        block.push(left as u8);
    } else {
        block.push(127);
        left -= 127;
        while left >= 128 {
            block.push((left % 128) as u8 | 128);
            left /= 128;
        }
        block.push(left as u8);
    }
    block.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::Response;
    use hyper::server::conn::http2;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    use super::*;

    /// hyper answers with the status and as many bytes as the path says, if it understood the header as well.
    async fn answer(request: hyper::Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (status, bytes) = request.uri().path()[1..].split_once('/').expect("STATUS/BYTES");
        let (status, bytes): (u16, usize) = (status.parse().expect("a status"), bytes.parse().expect("bytes"));
        let is_whole = request.headers().get("x-long").is_some_and(|value| value.len() == 300);
        let body = Full::new(Bytes::from(vec![b'x'; bytes]));
        Ok(Response::builder().status(if is_whole { status } else { 400 }).body(body).expect("valid"))
    }

    fn connection() -> Connection<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            let (stream, _) = listener.accept().expect("accepts");
            stream.set_nonblocking(true).expect("a socket");
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
                let stream = TokioIo::new(tokio::net::TcpStream::from_std(stream).expect("a socket"));
                let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service_fn(answer)).await;
            });
        });
        Connection::over(TcpStream::connect(address).expect("connects")).expect("a preface")
    }

    fn block(path: &str) -> Vec<u8> {
        header_block("http", "h", path, &[("x-long".to_owned(), "y".repeat(300))])
    }

    #[test]
    fn answers_of_any_length_are_read_one_after_the_other() {
        let mut connection = connection();
        for bytes in [0, 12, 1 << 20, 3] {
            assert_eq!(connection.exchange(&block(&format!("/200/{bytes}"))).expect("answered").status, 200);
        }
        assert!(connection.taken > 1 << 20);
    }

    #[test]
    fn another_status_is_a_failure() {
        assert!(connection().exchange(&block("/503/0")).is_err());
    }
}
