//! What the cache did, as plain numbers that the binary exports.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::answer::Kind;
use crate::rules::status::Forward;
use crate::rules::store::Refused;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        impl Counters {
            /// Metric name and value of each.
            #[must_use]
            pub fn read(&self) -> Vec<(&'static str, u64)> {
                vec![$((concat!("cache_", stringify!($name)), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    hits,
    /// Served out of date while somebody fetches anew, or because the client agreed.
    stale,
    /// Served in place of a failing origin.
    stand_ins,
    /// The origin said that a stored response still holds.
    revalidated,
    /// Answered by a fetch of somebody else.
    collapsed,
    misses,
    /// Stored, but for other values of the fields it varies by.
    vary_misses,
    expired,
    /// The request asked for the origin's own word.
    requested,
    bypassed,
    partial,
    stored,
    /// Whole, but purged, made void or cut off meanwhile.
    stillborn,
    /// Larger than the memory tier takes, or older than what is there.
    not_held,
    refused_no_store,
    refused_private,
    refused_vary,
    refused_cookie,
    refused_authorized,
    refused_other,
    /// Fetches begun before anybody needed them.
    refreshes,
    /// Waited for another's fetch in vain.
    waits_over,
    /// What another node held or fetched.
    from_peers,
    /// Owners of a key that did not answer, or took no part.
    owners_away,
    purged,
    invalidated,
}

pub(crate) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn stood_in(&self) {
        bump(&self.stand_ins);
    }

    pub(crate) fn revalidated(&self) {
        bump(&self.revalidated);
    }

    pub(crate) fn answered(&self, kind: Kind) {
        match kind {
            Kind::Hit => bump(&self.hits),
            Kind::Stale => bump(&self.stale),
            Kind::Collapsed => bump(&self.collapsed),
            // Counted where they come about.
            Kind::StandIn | Kind::Revalidated | Kind::OnlyIfCached => {}
        }
    }

    pub(crate) fn forwarded(&self, why: Forward) {
        bump(match why {
            Forward::UriMiss => &self.misses,
            Forward::VaryMiss => &self.vary_misses,
            Forward::Stale => &self.expired,
            Forward::Request => &self.requested,
            Forward::Partial => &self.partial,
            Forward::Bypass | Forward::Method => &self.bypassed,
        });
    }

    pub(crate) fn refused(&self, why: Refused) {
        bump(match why {
            Refused::NoStore | Refused::Request => &self.refused_no_store,
            Refused::Private => &self.refused_private,
            Refused::Vary | Refused::Tags => &self.refused_vary,
            Refused::Cookie => &self.refused_cookie,
            Refused::Authorized => &self.refused_authorized,
            Refused::Status | Refused::Partial | Refused::Useless => &self.refused_other,
        });
    }
}
