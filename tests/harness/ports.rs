//! The ports of a node, the same over all its lives. They lie below those that the kernel gives out by itself, so that nobody is
//! given one of them while the node is down.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

const LOWEST: u16 = 16_000;
const BLOCKS: u16 = 4_000;
/// Where nobody listens but who marks a block as taken.
const MARKS: Ipv4Addr = Ipv4Addr::new(127, 9, 9, 9);

#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) peer: SocketAddr,
    /// Whoever looks for ports finds these taken while this is there.
    _mark: TcpListener,
}

impl Ports {
    pub(crate) fn take() -> Self {
        let first = RandomState::new().hash_one(()) % u64::from(BLOCKS);
        let first = u16::try_from(first).unwrap();
        let mut blocks = (0..BLOCKS).map(|nth| (first + nth) % BLOCKS);
        blocks.find_map(Self::of).expect("four free ports")
    }

    fn of(block: u16) -> Option<Self> {
        let lowest = LOWEST + 4 * block;
        let mark = TcpListener::bind((MARKS, lowest)).ok()?;
        let [http, https, admin, peer] = [0, 1, 2, 3].map(|nth| SocketAddr::from(([127, 0, 0, 1], lowest + nth)));
        let is_free = |port: SocketAddr| TcpListener::bind(port).is_ok() && UdpSocket::bind(port).is_ok();
        let all_free = [http, https, admin, peer].into_iter().all(is_free);
        all_free.then_some(Self { http, https, admin, peer, _mark: mark })
    }
}
