//! The types our Raft groups are made of. Commands travel as bytes: encoded once, shared by the log and all followers.

use std::any::Any;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::runtime::Runtime;

/// An encoded command of whichever group.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payload(pub(crate) Bytes);

/// What applying an entry said, for whoever waits on this node. It never travels: `None` for everybody else.
#[derive(Default)]
pub(crate) struct Answer(Option<Box<dyn Any + Send + Sync>>);

openraft::declare_raft_types!(
    pub(crate) Types: D = Payload, R = Answer, AsyncRuntime = Runtime
);

pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type LeaderId = openraft::alias::CommittedLeaderIdOf<Types>;
pub(crate) type Membership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<Types, Bytes>;

impl Answer {
    pub(crate) fn of<T: Send + Sync + 'static>(outcome: T) -> Self {
        Self(Some(Box::new(outcome)))
    }

    pub(crate) fn take<T: 'static>(self) -> Option<T> {
        self.0?.downcast().ok().map(|outcome| *outcome)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self(None))
    }
}
