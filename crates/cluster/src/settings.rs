//! What a node is told at its start.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::gathering::Secret;
use crate::token::JoinToken;

#[derive(Debug, Clone)]
pub struct Settings {
    pub data: PathBuf,
    /// For people: it need not be unique.
    pub name: String,
    /// UDP address of the peer port; port 0 takes a free one.
    pub bind: SocketAddr,
    /// `host:port` under which the others reach the peer port. `None`: the bound address, or for `0.0.0.0` the local
    /// address towards the node that is joined.
    pub advertise: Option<String>,
    /// Machines of one zone are lost together: voters are spread over zones. Empty: it does not say.
    pub zone: String,
    /// `host:port` of the HTTP listener, to show and to pass on; may be empty.
    pub http: String,
    /// `host:port` of the admin listener, to show and to pass on; may be empty.
    pub admin: String,
    /// What this build understands; see `State::members.feature_level()`.
    pub feature_level: u32,
    /// Another process was this node until now, said this level, and may have to be it again: until
    /// [`Cluster::took_over`](crate::Cluster::took_over) nothing is said that it could not go on with.
    pub heir_of: Option<u32>,
    pub start: Start,
    /// Known to all nodes beforehand: who knows it may join.
    pub secret: Option<Secret>,
    /// The first admin token, if this node forms the cluster; `None`: one is made up.
    pub first_admin_token: Option<FirstToken>,
    /// When does an entry count as "in effect" here?
    pub acks: Acks,
    /// As leader: a learner that was not heard of for so long is removed for good. `None`: only by hand.
    pub forget_after: Option<Duration>,
    /// How long a certificate is good that a node is given, or gives itself.
    pub certificate_life: Duration,
    /// How long a key of the cluster that another one replaced is kept after nothing is sealed with it: longer than any proposal is
    /// tried. Three quarters of that are waited for nodes that died with the only copy of a new one.
    pub key_grace: Duration,
    /// How long joining may take before `start` fails.
    pub join_patience: Duration,
    /// Told what `start` waits for.
    pub progress: Progress,
}

/// What a start waits for, in words, for whoever asks before it is done.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<String>>);

impl Progress {
    /// Empty: nothing that takes long.
    #[must_use]
    pub fn now(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is(&self, what: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

/// An admin token in its text form: never printed.
#[derive(Clone)]
pub struct FirstToken(pub String);

impl fmt::Debug for FirstToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FirstToken(…)")
    }
}

/// How a node with an empty data folder begins. A folder with a node in it always resumes as that node.
#[derive(Debug, Clone)]
pub enum Start {
    /// Form a new cluster of one.
    Bootstrap,
    /// Become a member of the cluster that this peer address belongs to.
    Join { address: String, token: JoinToken },
    /// Find these peer addresses with the secret in [`Settings::secret`]: join their cluster, or form one with them.
    Gather { peers: Vec<String> },
    /// Only resume: an empty folder is an error.
    Resume,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// As soon as it is applied to the state.
    OnApply,
    /// When [`Cluster::in_effect`](crate::Cluster::in_effect) said so.
    ByCaller,
}

impl Settings {
    /// A node on loopback with free ports: what tests and `dev` start from.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>, start: Start) -> Self {
        Self {
            data: data.into(),
            name: "node".into(),
            bind: ([127, 0, 0, 1], 0).into(),
            advertise: None,
            zone: String::new(),
            http: String::new(),
            admin: String::new(),
            feature_level: 1,
            heir_of: None,
            start,
            secret: None,
            first_admin_token: None,
            acks: Acks::OnApply,
            forget_after: None,
            certificate_life: crate::certificate::LIFE,
            key_grace: crate::keys::GRACE,
            join_patience: Duration::from_secs(30),
            progress: Progress::default(),
        }
    }
}
