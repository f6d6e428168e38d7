//! A UDP relay in front of a node's peer port. Others know the node by the relay's address; cutting it takes the node off
//! the network both ways, without rights and without touching the machine's firewall.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

/// Who is cut off now, by peer socket: relays drop what comes from them, and what goes to them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Switchboard(Arc<Mutex<HashMap<SocketAddr, Arc<AtomicBool>>>>);

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    cut: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Switchboard {
    /// A relay for the node whose peer socket is bound to `peer`.
    pub(crate) async fn wire(&self, peer: SocketAddr) -> Wire {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = front.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        self.0.lock().unwrap().insert(peer, cut.clone());
        let task = tokio::spawn(relay(self.clone(), front, peer, cut.clone()));
        Wire { address, cut, task }
    }

    fn is_cut(&self, from: SocketAddr) -> bool {
        self.0.lock().unwrap().get(&from).is_some_and(|cut| cut.load(Ordering::Relaxed))
    }
}

impl Wire {
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub(crate) fn mend(&self) {
        self.cut.store(false, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(board: Switchboard, front: Arc<UdpSocket>, peer: SocketAddr, cut: Arc<AtomicBool>) {
    let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut datagram = vec![0; 65_536];
    loop {
        let Ok((length, from)) = front.recv_from(&mut datagram).await else { continue };
        if cut.load(Ordering::Relaxed) || board.is_cut(from) {
            continue;
        }
        let back = match backs.get(&from) {
            Some(back) => back.clone(),
            None => {
                let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                back.connect(peer).await.unwrap();
                backs.insert(from, back.clone());
                tokio::spawn(answers(board.clone(), front.clone(), back.clone(), from, cut.clone()));
                back
            }
        };
        let _peer_down = back.send(&datagram[..length]).await;
    }
}

async fn answers(
    board: Switchboard,
    front: Arc<UdpSocket>,
    back: Arc<UdpSocket>,
    to: SocketAddr,
    cut: Arc<AtomicBool>,
) {
    let mut datagram = vec![0; 65_536];
    loop {
        // An error is the peer's port being closed for now.
        let Ok(length) = back.recv(&mut datagram).await else {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        };
        if !cut.load(Ordering::Relaxed) && !board.is_cut(to) {
            let _asker_gone = front.send_to(&datagram[..length], to).await;
        }
    }
}
