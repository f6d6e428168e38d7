//! Listening sockets by what they are for, and their way to another process.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// In one message; the kernel takes 253.
const AT_ONCE: usize = 64;
/// A listener has one for each worker.
pub(super) const MOST: usize = 16_384;

#[derive(Debug, Default)]
pub(in super::super) struct Sockets(Vec<(String, TcpListener)>);

impl Sockets {
    /// Keeps another handle of a socket: as long as one is open anywhere, its connections wait in the kernel.
    pub(in super::super) fn keep(&mut self, name: &str, socket: &TcpListener) -> io::Result<()> {
        self.0.push((name.to_owned(), socket.try_clone()?));
        Ok(())
    }

    /// Those of this name, if they listen where that is to be: port 0 is any.
    pub(in super::super) fn take(&mut self, name: &str, address: SocketAddr) -> Vec<TcpListener> {
        let fits = |(called, socket): &mut (String, TcpListener)| {
            let there = socket.local_addr().ok();
            let same = |it: SocketAddr| it.ip() == address.ip() && [0, it.port()].contains(&address.port());
            called.as_str() == name && there.is_some_and(same)
        };
        self.0.extract_if(.., fits).map(|(_, socket)| socket).collect()
    }

    pub(in super::super) fn again(&self) -> io::Result<Self> {
        self.0.iter().map(|(name, socket)| Ok((name.clone(), socket.try_clone()?))).collect::<io::Result<_>>().map(Self)
    }

    pub(in super::super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    /// A byte goes with each message: one without any brings nothing.
    pub(super) fn send(&self, to: &UnixStream) -> io::Result<()> {
        for some in self.0.chunks(AT_ONCE) {
            let some: Vec<BorrowedFd<'_>> = some.iter().map(|(_, socket)| socket.as_fd()).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(&some)) {
                return Err(io::Error::other("no room for the sockets of one message")); // Not reached: it is made for them.
            }
            sendmsg(to, &[IoSlice::new(b"s")], &mut control, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    pub(super) fn receive(from: &UnixStream, names: Vec<String>) -> io::Result<Self> {
        let mut all: Vec<OwnedFd> = Vec::new();
        while all.len() < names.len() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let got = recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let before = all.len();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(some) = message {
                    all.extend(some);
                }
            }
            if got.bytes == 0 || all.len() == before {
                return Err(io::Error::other(format!("{before} of {} sockets came", names.len())));
            }
        }
        Ok(Self(names.into_iter().zip(all.into_iter().map(TcpListener::from)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_sockets_pass_with_their_names_and_go_on_listening() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut sockets = Sockets::default();
        let listeners: Vec<_> = (0..150).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        for (number, listener) in listeners.iter().enumerate() {
            sockets.keep(&format!("listener {}", number % 3), listener).unwrap();
        }
        sockets.send(&here).unwrap();
        let mut passed = Sockets::receive(&there, sockets.names()).unwrap();
        let address = listeners[7].local_addr().unwrap();
        drop((listeners, sockets));
        assert!(passed.take("listener 0", address).is_empty(), "another one's");
        let of_it = passed.take("listener 1", address);
        assert_eq!(of_it.len(), 1);
        let _client = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(of_it[0].accept().unwrap().0.local_addr().unwrap(), address);
        let any_port = SocketAddr::new(address.ip(), 0);
        assert_eq!(passed.take("listener 1", any_port).len(), 49);
    }

    #[test]
    fn sockets_that_do_not_come_are_missed() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(here);
        assert!(Sockets::receive(&there, vec!["admin".into()]).is_err());
    }
}
