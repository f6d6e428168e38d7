//! The admin port behind TLS, and operators who are known by their certificates. Handshakes run beside each other, so a slow client
//! holds up nobody. The files are watched: a certificate that was renewed on disk, or another list of revoked ones, holds for
//! every connection from then on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tidegate_admin::{Operator, Peer, Places};
use tidegate_tls::tokio_rustls::TlsAcceptor;
use tidegate_tls::tokio_rustls::server::TlsStream;
use tidegate_tls::{Caller, Callers};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::args::operators::{Operators, Rule};
use super::files::Files;

const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections whose handshake is done and that nobody has taken yet.
const MOST_WAITING: usize = 64;
/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(2);
/// Before the end of the port's certificate.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// What the port shows, and whom it knows.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) operators: Option<Operators>,
    pub(crate) ends: Ends,
}

/// When what is shown ends, in seconds since 1970; 0: nothing is shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends(Arc<AtomicU64>);

impl Ends {
    pub(super) fn seconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Clients refuse what has ended, or does not hold yet; it is shown all the same, for the clock may be what is wrong.
    fn judge(&self, chain: &[u8]) -> anyhow::Result<()> {
        let facts = tidegate_tls::facts("the admin port", chain)?;
        self.0.store(facts.not_after, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if facts.not_after <= now {
            tracing::warn!(
                "the admin port's certificate (--admin-cert) has ended: clients refuse it. Put a newer one in its place"
            );
        } else if now < facts.not_before {
            tracing::warn!(
                "the admin port's certificate (--admin-cert) does not hold yet: clients refuse it. Is this machine's clock right?"
            );
        } else if facts.not_after < now + SOON.as_secs() {
            let days = (facts.not_after - now) / 86_400;
            tracing::warn!(days, "the admin port's certificate (--admin-cert) ends soon");
        }
        Ok(())
    }
}

impl Terms {
    /// By what is in the files now.
    pub(super) fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
        let (chain, key) = (read(&self.chain)?, read(&self.key)?);
        self.ends.judge(&chain)?;
        let Some(Operators { ca, revoked, required, roles: _ }) = &self.operators else {
            return Ok(tidegate_tls::single("the admin port", &chain, &key, None)?);
        };
        let (ca, revoked) = (read(ca)?, revoked.as_deref().map(read).transpose()?);
        let callers = Callers { ca_pem: &ca, revoked_pem: revoked.as_deref(), required: *required };
        Ok(tidegate_tls::single("the admin port", &chain, &key, Some(callers))?)
    }

    fn paths(&self) -> impl Iterator<Item = String> {
        let of =
            self.operators.iter().flat_map(|operators| [Some(&operators.ca), operators.revoked.as_ref()]).flatten();
        [&self.chain, &self.key].into_iter().chain(of).map(|path| path.display().to_string())
    }

    fn rules(&self) -> &[Rule] {
        self.operators.as_ref().map_or(&[], |operators| &operators.roles)
    }
}

pub(super) struct Listener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, Peer)>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

/// What is shown, and whether it still is.
struct Shown {
    acceptor: TlsAcceptor,
    outdated: watch::Sender<bool>,
}

impl Shown {
    fn new(acceptor: TlsAcceptor) -> Self {
        Self { acceptor, outdated: watch::channel(false).0 }
    }
}

impl Listener {
    pub(super) fn new(listener: TcpListener, acceptor: TlsAcceptor, address: SocketAddr, terms: Terms) -> Self {
        let (done, ready) = mpsc::channel(MOST_WAITING);
        let (shown, terms) = (Arc::new(Mutex::new(Shown::new(acceptor))), Arc::new(terms));
        let watching = tokio::spawn(reread(Arc::clone(&shown), Arc::clone(&terms)));
        let accepting = tokio::spawn(async move {
            let places = Places::default();
            loop {
                let Ok((socket, peer)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                // Bounded by address, too: a stranger's handshakes that never end hold up nobody else's.
                let Some(place) = places.take(peer.ip()) else {
                    tracing::debug!(%peer, "too many TLS handshakes on the admin port at once");
                    continue;
                };
                let (acceptor, outdated) = {
                    let shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                    (shown.acceptor.clone(), shown.outdated.subscribe())
                };
                let (terms, done) = (Arc::clone(&terms), done.clone());
                tokio::spawn(async move {
                    match tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await {
                        Ok(Ok(stream)) => {
                            let operator = operator(&stream, terms.rules());
                            let outdated = operator.is_some().then_some(outdated);
                            let _gone = done.send((stream, Peer { address: peer, operator, outdated })).await;
                        }
                        Ok(Err(why)) => tracing::debug!(%peer, %why, "no TLS on the admin port"),
                        Err(_) => tracing::debug!(%peer, "TLS handshake on the admin port timed out"),
                    }
                    drop(place);
                });
            }
        });
        Self { address, ready, tasks: [accepting, watching] }
    }
}

/// Whom a certificate names that was verified.
fn operator(stream: &TlsStream<TcpStream>, rules: &[Rule]) -> Option<Arc<Operator>> {
    let shown = stream.get_ref().1.peer_certificates()?.first()?;
    let caller = Caller::of(shown).unwrap_or_default();
    let role = rules.iter().filter(|rule| rule.is_for(&caller)).map(|rule| rule.role).max();
    Some(Arc::new(Operator { name: caller.name().to_owned(), role, not_after: caller.not_after }))
}

/// What cannot be used is told of, and what was shown before goes on being shown. Connections that showed a certificate end when there is
/// something newer, so that it holds for them as well.
async fn reread(shown: Arc<Mutex<Shown>>, terms: Arc<Terms>) {
    let files = Files::default();
    files.reading_these(terms.paths());
    loop {
        tokio::time::sleep(LOOK).await;
        if !files.have_changed() {
            continue;
        }
        files.reading_these(terms.paths());
        match terms.acceptor() {
            Ok(acceptor) => {
                let newer = Shown::new(acceptor);
                let older = std::mem::replace(&mut *shown.lock().unwrap_or_else(PoisonError::into_inner), newer);
                let _nobody = older.outdated.send(true);
                tracing::info!("the admin port's certificates were read anew");
            }
            Err(why) => tracing::warn!(%why, "the admin port's certificates cannot be used; those from before go on"),
        }
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Peer> {
        Ok(self.address.into())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
