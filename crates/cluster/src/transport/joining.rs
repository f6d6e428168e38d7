//! How a stranger becomes a member: it shows a join token and a signing request, over a connection it trusts because
//! the CA has the fingerprint that the token names; it gets an id, a certificate and the cluster key.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use quinn::Endpoint;
use serde::{Deserialize, Serialize};
use tidegate_model::NodeId;
use tidegate_state::{Addresses, ClusterId};

use super::identity::ANY_MEMBER;
use super::peers::resolve;
use super::{JOIN_ALPN, tls};
use crate::codec;
use crate::error::Error;
use crate::gathering::Secret;
use crate::token::JoinToken;

/// What a joiner says. Positional: append only.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct JoinRequest {
    pub(crate) secret: [u8; 32],
    pub(crate) name: String,
    pub(crate) addresses: Addresses,
    pub(crate) feature_level: u32,
    /// PKCS#10, DER.
    pub(crate) signing_request: Vec<u8>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum JoinReply {
    Welcome(Box<Welcome>),
    /// The token or the request is wrong: trying again will not help.
    Refused(String),
    /// The cluster cannot take anybody just now.
    Busy(String),
    /// Of a cluster whose key was replaced: and what its limits tell subjects apart by.
    WelcomeLater(Box<Welcome>, [u8; 32]),
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) ca: Vec<u8>,
    pub(crate) certificate: Vec<u8>,
    pub(crate) cluster_key: [u8; 32],
    pub(crate) members: BTreeMap<NodeId, String>,
    /// The control entry that made it a member: whoever applied this far has seen itself join.
    pub(crate) index: u64,
}

/// By what a stranger knows the cluster that it talks to.
#[derive(Debug)]
pub(crate) enum Trust<'a> {
    /// It names the cluster's CA.
    Token(&'a JoinToken),
    /// All nodes know it.
    Secret(&'a Secret),
}

impl Trust<'_> {
    fn config(&self, alpn: &[u8]) -> Result<quinn::ClientConfig, Error> {
        match self {
            Self::Token(token) => tls::joiner(token.ca, alpn),
            Self::Secret(secret) => tls::gatherer(secret, alpn),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Token(_) => ANY_MEMBER,
            Self::Secret(_) => tls::GATHERING,
        }
    }

    fn broken(&self, address: &str) -> String {
        match self {
            Self::Token(_) => format!("{address} does not belong to the cluster that issued this token"),
            Self::Secret(_) => format!("{address} has another cluster secret, or none"),
        }
    }
}

/// Asks a member to be let in, again and again while the cluster is only busy, until the deadline.
pub(crate) async fn join(
    address: &str,
    trust: &Trust<'_>,
    request: &JoinRequest,
    patience: Duration,
) -> Result<(Welcome, Option<[u8; 32]>), Error> {
    let deadline = tokio::time::Instant::now() + patience;
    let mut pause = Duration::from_millis(50);
    let frame = codec::encode(request);
    loop {
        let last = match tokio::time::timeout_at(deadline, call(address, trust, JOIN_ALPN, &frame)).await {
            Ok(Ok(reply)) => match codec::decode(&reply) {
                Ok(JoinReply::Welcome(welcome)) => return Ok((*welcome, None)),
                Ok(JoinReply::WelcomeLater(welcome, subjects)) => return Ok((*welcome, Some(subjects))),
                Ok(JoinReply::Refused(reason)) => return Err(Error::JoinRefused(reason)),
                Ok(JoinReply::Busy(reason)) => reason,
                Err(error) => error.to_string(),
            },
            Ok(Err(Asking::WrongCa)) => return Err(Error::JoinRefused(trust.broken(address))),
            Ok(Err(Asking::Failed(reason))) => reason,
            Err(_) => NO_ANSWER.to_owned(),
        };
        if deadline <= tokio::time::Instant::now() + pause {
            return Err(Error::JoinFailed(format!("{address}: {last}")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

const NO_ANSWER: &str =
    "no answer by UDP: is that the peer address of a node that runs, and does nothing on the way drop it?";

/// Why a stranger got no answer.
#[derive(Debug)]
pub(crate) enum Asking {
    WrongCa,
    Failed(String),
}

/// One question of a stranger's, over a connection of its own.
pub(crate) async fn call(address: &str, trust: &Trust<'_>, alpn: &[u8], frame: &[u8]) -> Result<Vec<u8>, Asking> {
    let failed = |error: &dyn fmt::Display| Asking::Failed(error.to_string());
    // By IPv4 if it has both: that is where a peer port listens unless it is told otherwise.
    let target = resolve(address, Some((Ipv4Addr::UNSPECIFIED, 0).into())).await.map_err(|error| failed(&error))?;
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::client(any).map_err(|error| failed(&error))?;
    let config = trust.config(alpn).map_err(|error| failed(&error))?;
    let connecting = endpoint.connect_with(config, target, trust.name()).map_err(|error| failed(&error))?;
    let connection = match tokio::time::timeout(Duration::from_secs(3), connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) if not_ours(&error) => return Err(Asking::WrongCa),
        Ok(Err(error)) => return Err(failed(&error)),
        Err(_) => return Err(Asking::Failed(NO_ANSWER.into())),
    };
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| failed(&error))?;
    send.write_all(frame).await.map_err(|error| failed(&error))?;
    send.finish().map_err(|error| failed(&error))?;
    let reply = receive.read_to_end(codec::MAX_FRAME).await.map_err(|error| failed(&error))?;
    connection.close(0_u32.into(), b"");
    // The answer is there: that the other side hears of the end is nobody's to wait for.
    tokio::spawn(async move {
        _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    });
    Ok(reply)
}

/// Does the certificate that was shown come from another CA, or bear another name?
fn not_ours(error: &quinn::ConnectionError) -> bool {
    let text = error.to_string();
    ["UnknownIssuer", "BadSignature", "NotValidForName"].iter().any(|word| text.contains(word))
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinRequest({})", self.name)
    }
}

impl fmt::Debug for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Welcome(node {} of {})", self.node, self.cluster)
    }
}
