//! The first start of machines that are all told the same: the addresses of all of them and a secret. They find each other,
//! one forms the cluster, the others join it; whoever comes later joins too. No machine needs to be up before another.
//!
//! ```text
//! each   asks all: who are you?      one of a cluster → join it
//! fresh  a majority is there, and I am the first of them in the list → ask all for their word
//! first  has the word of a majority, its own among it → forms the cluster
//! ```
//! A word is given to one, kept on disk and given back only by who has it (`word`): no two ever have a majority's, whatever
//! the network does. What they say travels over TLS by a CA that only the secret makes (`secret`).

mod answer;
mod secret;
mod seek;
mod word;

use std::net::UdpSocket;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::secret::Secret;
use self::seek::Seeker;
pub(crate) use self::word::FILE;
use self::word::{Candidate, Word};
use crate::codec;
use crate::error::Error;
use crate::folder::Folder;
use crate::settings::Progress;
use crate::transport::joining::{self, Asking, Trust};
use crate::transport::{GATHER_ALPN, tls};

const ASK: Duration = Duration::from_secs(2);

/// What those who gather say to each other. Positional: append only.
#[derive(Serialize, Deserialize)]
pub(crate) struct Call {
    /// By [`Secret::proof`]: the caller knows the secret.
    pub(crate) proof: [u8; 32],
    pub(crate) ask: Ask,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    WhoAreYou,
    /// I would form the cluster: may I?
    YourWord(Candidate),
    /// I would not any more: it is yours again.
    TakeBack {
        id: String,
        attempt: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Said {
    /// Nobody's node yet.
    Fresh(Fresh),
    /// A cluster's node: join it.
    Member,
    /// On its way to become one.
    Busy,
    Promised {
        by: String,
    },
    /// Another one has its word.
    Taken(Candidate),
    Refused(String),
}

/// A node that is nobody's yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fresh {
    pub(crate) id: String,
    /// Of this process: two with one id are two machines with copies of one disk.
    pub(crate) process: u64,
    /// Hash of the initial peers that it was told.
    pub(crate) list: [u8; 32],
    pub(crate) promised: Option<Candidate>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// This node forms the cluster.
    Form,
    /// This one's cluster is to be joined.
    Join(String),
}

/// What else a node knows that looks for the others.
#[derive(Debug)]
pub(crate) struct Way {
    /// Whom it is no use to ask first: joining it failed.
    pub(crate) failed: Option<String>,
    pub(crate) progress: Progress,
}

/// Answers the others and asks them, until it is known what this node shall do. Waits as long as it takes.
pub(crate) async fn gather(
    folder: &Folder,
    socket: &UdpSocket,
    own: &str,
    peers: &[String],
    secret: &Secret,
    way: &Way,
) -> Result<Meeting, Error> {
    let word = Word::of(folder)?;
    way.progress.is("it looks for the initial peers".into());
    let socket = socket.try_clone().map_err(Error::io("peer port"))?;
    let runtime = quinn::default_runtime().ok_or_else(|| Error::Internal("no tokio runtime".into()))?;
    let server = Some(tls::gathering_server(secret)?);
    let endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), server, socket, runtime);
    let endpoint = endpoint.map_err(Error::io("peer port"))?;
    let me = Me { word: &word, process: u64::from_le_bytes(crate::token::random()), list: hash_of(peers) };
    let seeker = Seeker { me: &me, own, peers, secret, way };
    let meeting = tokio::select! {
        meeting = seeker.seek() => meeting,
        () = answer::forever(&endpoint, &me, secret) => Err(Error::Internal("the peer port was closed".into())),
    };
    endpoint.close(0_u32.into(), b"");
    _ = tokio::time::timeout(ASK, endpoint.wait_idle()).await;
    meeting
}

/// This node, while it is nobody's.
struct Me<'a> {
    word: &'a Word<'a>,
    process: u64,
    list: [u8; 32],
}

impl Me<'_> {
    fn fresh(&self) -> Fresh {
        Fresh { id: self.word.me(), process: self.process, list: self.list, promised: self.word.promised() }
    }
}

/// In whichever order they were told.
fn hash_of(peers: &[String]) -> [u8; 32] {
    let mut sorted: Vec<&str> = peers.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    *blake3::hash(sorted.join("\n").as_bytes()).as_bytes()
}

async fn ask(address: &str, secret: &Secret, ask: Ask) -> Result<Said, Asking> {
    let frame = codec::encode(&Call { proof: secret.proof(), ask });
    let trust = Trust::Secret(secret);
    let called = joining::call(address, &trust, GATHER_ALPN, &frame);
    let reply = tokio::time::timeout(ASK, called).await.map_err(|_| Asking::Failed("no answer".into()))??;
    codec::decode(&reply).map_err(|error| Asking::Failed(error.to_string()))
}
