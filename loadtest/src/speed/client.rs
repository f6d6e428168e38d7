//! Blocking connections for the generator: clear text or TLS, HTTP/1.1 or h2, kept or made anew for each request.

mod h2;
mod tls;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

pub(super) use tls::{H2LOAD, IN_WORDS, Session, Trust};

use super::contender::Doors;
use crate::generator::Call;
use crate::http::{Answer, Broken, Connection, get_request};
use crate::linux;

/// What contenders are called by whoever asks them.
pub(super) const HOST: &str = "load.test";
const PATIENCE: Duration = Duration::from_secs(30);

/// What is spoken with a contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Clear,
    H2,
    Tls,
    H2Tls,
    /// A connection and a whole handshake for each request.
    TlsNew,
    /// A connection and a resumed session for each request.
    TlsResumed,
}

impl Wire {
    pub(super) fn door(self, doors: &Doors) -> SocketAddr {
        match self {
            Self::Clear => doors.clear,
            Self::H2 => doors.h2c,
            Self::Tls | Self::H2Tls | Self::TlsNew | Self::TlsResumed => doors.tls,
        }
    }
}

/// Asks for `path` again and again.
pub(super) fn call(wire: Wire, doors: &Doors, path: &str, headers: &[(String, String)], session: Session) -> Call {
    let to = wire.door(doors);
    let fields: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let request = get_request(HOST, path, &fields);
    let block = h2::header_block(if wire == Wire::H2 { "http" } else { "https" }, HOST, path, headers);
    match wire {
        Wire::Clear => keeping(move || Ok(Connection::over(connect(to)?)), move |kept| kept.exchange(&request)),
        Wire::Tls => {
            keeping(move || Ok(Connection::over(session.over(connect(to)?)?)), move |kept| kept.exchange(&request))
        }
        Wire::H2 => keeping(move || h2::Connection::over(connect(to)?), move |kept| kept.exchange(&block)),
        Wire::H2Tls => {
            keeping(move || h2::Connection::over(session.over(connect(to)?)?), move |kept| kept.exchange(&block))
        }
        Wire::TlsNew | Wire::TlsResumed => Box::new(move || {
            let mut connection = Connection::over(session.over(connect(to)?)?);
            let answer = connection.exchange(&request)?;
            session.close(connection.into_stream())?;
            Ok(answer)
        }),
    }
}

/// One connection for all requests; a new one after a failure.
fn keeping<C: Send + 'static>(
    open: impl Fn() -> io::Result<C> + Send + 'static,
    exchange: impl Fn(&mut C) -> Result<Answer, Broken> + Send + 'static,
) -> Call {
    let mut kept = None;
    Box::new(move || {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => open()?,
        };
        let answer = exchange(&mut connection)?;
        kept = Some(connection);
        Ok(answer)
    })
}

/// From many addresses in turn: each has ports of its own, and the last thousands are not yet free again.
pub(super) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + NEXT.fetch_add(1, Relaxed) % 32));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    linux::choose_port_at_connect(&socket)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}
