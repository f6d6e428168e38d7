//! The server's side of a QUIC handshake (RFC 9001), by the same certificates: TLS 1.3 and nothing before it, `h3` by ALPN, no
//! early data.
//!
//! quinn's own wants its configuration before the client has said a word; what a client has to show depends on the name that it
//! asks for. So its first message is gathered and read here, and the session begins then.

use std::any::Any;
use std::io::Cursor;
use std::sync::Arc;

use quinn_proto::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn_proto::crypto::{self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, UnsupportedVersion};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError, TransportErrorCode};
use rustls::quic::{KeyChange, Secrets, ServerConnection, Version};
use rustls::server::Acceptor;
use rustls::version::TLS13;
use rustls::{AlertDescription, ServerConfig};

use super::{Asking, Certificates, Choice, config};

const OVER_QUIC: [&[u8]; 1] = [b"h3"];

/// Longer than any that was seen, and as long as one TLS record.
const LONGEST_HELLO: usize = 16 << 10;

impl Certificates {
    /// For an endpoint that speaks version 1 of QUIC alone.
    ///
    /// # Panics
    /// Never: the cipher suite that every QUIC connection begins with is among ours.
    #[must_use]
    pub fn over_quic(self: &Arc<Self>) -> Arc<dyn crypto::ServerConfig> {
        let first = QuicServerConfig::try_from(Arc::clone(self.quic_config(None)));
        Arc::new(OverQuic {
            certificates: Arc::clone(self),
            first: first.expect("aws-lc-rs has AES-128-GCM, for QUIC too"),
        })
    }

    fn quic_config<'a>(&'a self, asking: Option<&'a Asking>) -> &'a Arc<ServerConfig> {
        let place = asking.map_or(&self.quic, |asking| &asking.quic);
        place.get_or_init(|| config(&self.shown, &self.tickets, &[&TLS13], &OVER_QUIC, asking))
    }
}

struct OverQuic {
    certificates: Arc<Certificates>,
    /// For packets that come before anything is agreed.
    first: QuicServerConfig,
}

impl crypto::ServerConfig for OverQuic {
    fn initial_keys(&self, version: u32, to: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.first.initial_keys(version, to)
    }

    fn retry_tag(&self, version: u32, to: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.first.retry_tag(version, to, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, parameters: &TransportParameters) -> Box<dyn crypto::Session> {
        let mut ours = Vec::new();
        parameters.write(&mut ours);
        Box::new(Session { host: self, version, ours, heard: Vec::new(), begun: None, told: false, next: None })
    }
}

struct Session {
    host: Arc<OverQuic>,
    version: u32,
    /// Our transport parameters, until the session begins.
    ours: Vec<u8>,
    /// Of the client's first message, until it is whole.
    heard: Vec<u8>,
    begun: Option<Begun>,
    /// The caller knows that there is something to know.
    told: bool,
    next: Option<Secrets>,
}

struct Begun {
    tls: ServerConnection,
    /// What was asked for a certificate of the client's.
    asking: Option<Arc<Asking>>,
    finished: bool,
}

impl Session {
    fn begin(&mut self) -> Result<Option<&mut Begun>, TransportError> {
        let Some(name) = name_asked(&self.heard)? else { return Ok(None) };
        let certificates = &self.host.certificates;
        let Some(choice) = certificates.shown.0.load().find(name.as_deref()).cloned() else {
            return Err(alert(AlertDescription::UnrecognisedName, "no certificate for the name asked for"));
        };
        let Choice { clients: asking, .. } = choice;
        let config = Arc::clone(certificates.quic_config(asking.as_deref()));
        let tls = ServerConnection::new(config, Version::V1, std::mem::take(&mut self.ours))
            .map_err(|why| failed(TransportErrorCode::INTERNAL_ERROR, why))?;
        Ok(Some(self.begun.insert(Begun { tls, asking, finished: false })))
    }
}

impl Begun {
    fn read(&mut self, bytes: &[u8], certificates: &Certificates) -> Result<(), TransportError> {
        self.tls.read_hs(bytes).map_err(|why| match self.tls.alert() {
            Some(description) => alert(description, why),
            None => failed(TransportErrorCode::PROTOCOL_VIOLATION, why),
        })?;
        if !self.finished && !self.tls.is_handshaking() {
            self.finished = true;
            if let Some(asking) = &self.asking {
                asking.verify_again(&self.tls).map_err(|why| alert(AlertDescription::BadCertificate, why))?;
            }
            certificates.handshakes.count(&self.tls);
        }
        Ok(())
    }
}

/// The name in a client's first message: `None` while that is not whole.
fn name_asked(heard: &[u8]) -> Result<Option<Option<String>>, TransportError> {
    let [kind, a, b, c, ..] = *heard else { return Ok(None) };
    let length = 4 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
    if kind != 1 || length > LONGEST_HELLO {
        return Err(alert(AlertDescription::UnexpectedMessage, "the handshake does not begin with a ClientHello"));
    }
    let Some(hello) = heard.get(..length) else { return Ok(None) };
    // As a record of TLS over TCP, which is what rustls has a reader for.
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    record.extend(hello);
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut Cursor::new(record)).map_err(|why| alert(AlertDescription::DecodeError, why))?;
    match acceptor.accept() {
        Ok(accepted) => Ok(accepted.map(|accepted| accepted.client_hello().server_name().map(str::to_owned))),
        Err((why, _)) => Err(alert(AlertDescription::DecodeError, why)),
    }
}

fn alert(description: AlertDescription, why: impl std::fmt::Display) -> TransportError {
    failed(TransportErrorCode::crypto(description.into()), why)
}

fn failed(code: TransportErrorCode, why: impl std::fmt::Display) -> TransportError {
    TransportError { code, frame: None, reason: why.to_string() }
}

impl crypto::Session for Session {
    fn initial_keys(&self, to: &ConnectionId, _: Side) -> Keys {
        let keys = crypto::ServerConfig::initial_keys(&self.host.first, self.version, to);
        keys.unwrap_or_else(|_| unreachable!("the session began with this version"))
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let begun = self.begun.as_ref().filter(|_| self.told)?;
        let protocol = begun.tls.alpn_protocol().map(<[u8]>::to_vec);
        Some(Box::new(HandshakeData { protocol, server_name: begun.tls.server_name().map(str::to_owned) }))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        let shown = self.begun.as_ref()?.tls.peer_certificates()?;
        Some(Box::new(shown.iter().map(|one| one.clone().into_owned()).collect::<Vec<_>>()))
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.begun.as_ref().is_none_or(|begun| begun.tls.is_handshaking())
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        let host = Arc::clone(&self.host);
        match &mut self.begun {
            Some(begun) => begun.read(bytes, &host.certificates)?,
            None => {
                self.heard.extend(bytes);
                if self.begin()?.is_none() {
                    return Ok(false);
                }
                let heard = std::mem::take(&mut self.heard);
                self.begun.as_mut().map_or(Ok(()), |begun| begun.read(&heard, &host.certificates))?;
            }
        }
        Ok(!std::mem::replace(&mut self.told, true))
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let sent = self.begun.as_ref().and_then(|begun| begun.tls.quic_transport_parameters());
        let read = sent.map(|sent| TransportParameters::read(Side::Server, &mut Cursor::new(sent)));
        Ok(read.transpose()?)
    }

    fn write_handshake(&mut self, into: &mut Vec<u8>) -> Option<Keys> {
        let keys = match self.begun.as_mut()?.tls.write_hs(into)? {
            KeyChange::Handshake { keys } => keys,
            KeyChange::OneRtt { keys, next } => {
                self.next = Some(next);
                keys
            }
        };
        let header = KeyPair { local: boxed(keys.local.header), remote: boxed(keys.remote.header) };
        let packet = KeyPair { local: packets(keys.local.packet), remote: packets(keys.remote.packet) };
        Some(Keys { header, packet })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.next.as_mut()?.next_packet_keys();
        Some(KeyPair { local: packets(keys.local), remote: packets(keys.remote) })
    }

    /// A client's matter.
    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    /// Nobody here asks.
    fn export_keying_material(&self, _: &mut [u8], _: &[u8], _: &[u8]) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}

fn boxed(key: Box<dyn rustls::quic::HeaderProtectionKey>) -> Box<dyn HeaderKey> {
    Box::new(key)
}

fn packets(key: Box<dyn rustls::quic::PacketKey>) -> Box<dyn PacketKey> {
    Box::new(key)
}
