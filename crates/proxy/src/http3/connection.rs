//! One client's QUIC connection: the handshake, the requests it brings, each in a task of its own, and its end.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h3::error::ConnectionError;
use http::Response;
use quinn::crypto::rustls::HandshakeData;
use quinn::rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::line::Common;
use super::quic::{Last, Quic};
use super::{code, exchange};
use crate::connection::{Client, Held, Late, Promised, Room, Version};
use crate::drain::{Draining, Phase, Told};
use crate::gate::{Counted, Gate};
use crate::local::Local;
use crate::reply::Reply;
use crate::request::Begun;
use crate::server::client_cert;

/// What a connection begins with.
pub(super) struct Comer {
    pub(super) gate: Arc<Gate>,
    pub(super) local: Arc<Local>,
    pub(super) certificates: Arc<tidegate_tls::Certificates>,
    pub(super) port: u16,
    pub(super) held: Held,
    pub(super) draining: Draining,
}

type Connection = h3::server::Connection<Quic, Bytes>;

/// `shaking` is held until the handshake is over.
pub(super) async fn serve<F: Future<Output = Response<Reply>> + Send + 'static>(
    incoming: quinn::Incoming,
    comer: Comer,
    shaking: Counted,
    (room, go): (Room<F>, impl Fn(Begun) -> F + Copy + Send + 'static),
) {
    let peer = incoming.remote_address();
    let bounds = comer.gate.bounds.clone();
    let quic = match incoming.accept() {
        Ok(connecting) => timeout(bounds.handshake_timeout, connecting).await,
        Err(why) => return debug!(%peer, %why, "no QUIC"),
    };
    drop(shaking);
    let quic = match quic {
        Ok(Ok(quic)) => quic,
        Ok(Err(why)) => return debug!(%peer, %why, "no QUIC"),
        Err(_) => {
            comer.gate.telemetry.connection_ended("handshake_timeout");
            return debug!(%peer, "QUIC handshake timed out");
        }
    };
    let mut draining = comer.draining.clone();
    let client = who(&quic, comer);
    client.speaks(Version::Http3);
    let common = Common::new(Arc::clone(&client), quic.clone());
    let (adapted, last) = Quic::new(&common);
    let mut speech = h3::server::builder();
    speech.max_field_section_size(bounds.head_bytes as u64).send_grease(false);
    // A client that gives us no streams of our own would have us wait for ever.
    let connection = match timeout(bounds.head_timeout, speech.build(adapted)).await {
        Ok(Ok(connection)) => connection,
        _ => return common.fails("protocol_error", code::STREAM_CREATION_ERROR, "no room for a control stream"),
    };
    let driving =
        Driving { connection, last, quic: quic.clone(), client: &client, requests: JoinSet::new(), closing: false };
    let late = driving.drive(room, go, &mut draining).await;
    client.ended(late);
}

fn who(quic: &quinn::Connection, comer: Comer) -> Arc<Client> {
    let Comer { gate, local, certificates, port, held, draining } = comer;
    let here = (quic.local_ip().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()), port).into();
    let mut client = Client::new(gate, local, quic.remote_address(), here, Some("TLSv1.3"), draining, held);
    let told = quic.handshake_data().and_then(|told| told.downcast::<HandshakeData>().ok());
    let name = told.and_then(|told| told.server_name).map(Into::into);
    let shown = quic.peer_identity().and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
    let shown = shown.and_then(|shown| shown.first().map(|shown| client_cert(shown)));
    client.promised = Some(Promised { certificates, name, shown });
    Arc::new(client)
}

struct Driving<'c> {
    connection: Connection,
    last: Last,
    quic: quinn::Connection,
    client: &'c Arc<Client>,
    requests: JoinSet<()>,
    /// GOAWAY was said.
    closing: bool,
}

impl Driving<'_> {
    /// Until the client leaves, is told to, or is cut. `Some`: it was too slow.
    async fn drive<F: Future<Output = Response<Reply>> + Send + 'static>(
        mut self,
        room: Room<F>,
        go: impl Fn(Begun) -> F + Copy + Send + 'static,
        draining: &mut Draining,
    ) -> Option<Late> {
        let idle = self.client.gate.bounds.idle_timeout;
        let mut phases = pin!(draining.changes());
        let mut over: Option<Instant> = None;
        loop {
            if self.closing && self.requests.is_empty() && over.is_none() {
                over = Some(Instant::now() + self.farewell());
            }
            let latest = Instant::now() + idle;
            let look = self.deadline().map_or(latest, |(end, _)| end.min(latest));
            tokio::select! {
                biased;
                told = poll_fn(|cx| phases.as_mut().poll_next(cx)) => match told {
                    Told::Phase(Phase::Cut) => return None,
                    Told::Phase(Phase::Draining) => self.goodbye().await,
                    // It holds no descriptor.
                    Told::Phase(Phase::Serving | Phase::Passing) | Told::MakeRoom => {}
                },
                Some(_) = self.requests.join_next() => {}
                accepted = self.connection.accept() => match accepted {
                    Ok(Some(resolver)) => {
                        let Some(asked) = self.last.take() else { continue };
                        if self.closing {
                            asked.0.ends_with(code::REQUEST_REJECTED);
                        } else {
                            over = None;
                            self.requests.spawn(exchange::serve(resolver, asked, room.clone(), go));
                        }
                    }
                    Ok(None) => self.closing = true,
                    Err(why) => {
                        self.lost(&why);
                        return None;
                    }
                },
                () = until(over) => return None,
                () = sleep_until(look) => match self.deadline() {
                    Some((end, _)) if end > Instant::now() => {}
                    Some((_, Late::Idle)) => {
                        self.client.is_at_fault(Late::Idle.reason());
                        self.goodbye().await;
                    }
                    Some((_, late)) => {
                        self.quic.close(super::varint(code::EXCESSIVE_LOAD), late.reason().as_bytes());
                        return Some(late);
                    }
                    None => {}
                },
            }
        }
    }

    /// Who was told to go is not idle.
    fn deadline(&self) -> Option<(Instant, Late)> {
        self.client.deadline().filter(|(_, late)| !(self.closing && *late == Late::Idle))
    }

    /// GOAWAY (§ 5.2). What comes behind the next request is for another connection; h3 would still take that one, so it is
    /// rejected here.
    async fn goodbye(&mut self) {
        if !std::mem::replace(&mut self.closing, true) {
            let _told = timeout(GOODBYE, self.connection.shutdown(1)).await;
        }
    }

    /// What the client sent before it heard GOAWAY is answered: rejected, to be asked elsewhere.
    fn farewell(&self) -> Duration {
        (3 * self.quic.rtt()).clamp(LEAST_FAREWELL, GOODBYE)
    }

    fn lost(&self, why: &ConnectionError) {
        debug!(client = %self.client.address, %why, "HTTP/3 connection ended");
        if let ConnectionError::Local { .. } = why {
            self.client.is_at_fault("protocol_error");
        }
    }
}

const GOODBYE: Duration = Duration::from_secs(1);
const LEAST_FAREWELL: Duration = Duration::from_millis(50);

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => pending().await,
    }
}
