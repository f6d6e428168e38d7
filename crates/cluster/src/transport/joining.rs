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
use super::tls;
use crate::codec;
use crate::error::Error;
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

/// Asks a member to be let in, again and again while the cluster is only busy, until the deadline.
pub(crate) async fn join(
    address: &str,
    token: &JoinToken,
    request: &JoinRequest,
    patience: Duration,
) -> Result<Welcome, Error> {
    let deadline = tokio::time::Instant::now() + patience;
    let mut pause = Duration::from_millis(50);
    loop {
        let last = match tokio::time::timeout_at(deadline, ask(address, token, request)).await {
            Ok(Ok(JoinReply::Welcome(welcome))) => return Ok(*welcome),
            Ok(Ok(JoinReply::Refused(reason))) => return Err(Error::JoinRefused(reason)),
            Ok(Ok(JoinReply::Busy(reason))) => reason,
            Ok(Err(Asking::WrongCa)) => {
                let reason = format!("{address} does not belong to the cluster that issued this token");
                return Err(Error::JoinRefused(reason));
            }
            Ok(Err(Asking::Failed(reason))) => reason,
            Err(_) => "no answer".to_owned(),
        };
        if deadline <= tokio::time::Instant::now() + pause {
            return Err(Error::JoinFailed(format!("{address}: {last}")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

enum Asking {
    WrongCa,
    Failed(String),
}

async fn ask(address: &str, token: &JoinToken, request: &JoinRequest) -> Result<JoinReply, Asking> {
    let failed = |error: &dyn fmt::Display| Asking::Failed(error.to_string());
    let target = resolve(address, None).await.map_err(|error| failed(&error))?;
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::client(any).map_err(|error| failed(&error))?;
    let config = tls::joiner(token.ca).map_err(|error| failed(&error))?;
    let connecting = endpoint.connect_with(config, target, ANY_MEMBER).map_err(|error| failed(&error))?;
    let connection = match tokio::time::timeout(Duration::from_secs(3), connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) if error.to_string().contains("UnknownIssuer") => return Err(Asking::WrongCa),
        Ok(Err(error)) => return Err(failed(&error)),
        Err(_) => return Err(Asking::Failed("no answer".into())),
    };
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| failed(&error))?;
    send.write_all(&codec::encode(request)).await.map_err(|error| failed(&error))?;
    send.finish().map_err(|error| failed(&error))?;
    let reply = receive.read_to_end(codec::MAX_FRAME).await.map_err(|error| failed(&error))?;
    connection.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
    codec::decode(&reply).map_err(|error| failed(&error))
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
