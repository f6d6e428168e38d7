//! Ids. Each is a newtype, so that a node cannot be passed where a limit is meant.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(", $format, ")"), self.0)
            }
        }
    };
}

id! {
    /// A member of the cluster. Given out by the control log, from 1 upwards, never reused.
    NodeId(u64), "{}"
}
id! {
    /// A limit with one meaning: the stable hash of its name, kind, window and scope.
    /// Changing `max` keeps the id and so the count; changing what is counted makes a new one.
    LimitId(u64), "{:016x}"
}
id! {
    /// Who a limit counts: the hash of the values of its scope (a key, a consumer, an address, …).
    /// 128 bits keyed with the cluster's secret, so that nobody can aim at another one's counter.
    Subject(u128), "{:032x}"
}
id! {
    /// A credential of a consumer. Given out by the control log, never reused.
    KeyId(u64), "{}"
}
id! {
    /// A published version of the document: 1, 2, 3, … ; 0 means nothing was published yet.
    Revision(u64), "{}"
}
id! {
    /// One life of one process: 128 random bits drawn at its start, never inherited.
    Incarnation(u128), "{:032x}"
}
