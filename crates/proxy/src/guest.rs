//! Whose turn a request has where there is too little room: its class, and who it is for.

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::OnceLock;

use http::{HeaderMap, HeaderName};
use tidegate_policy::{Class, Route, Snapshot, Upstream};
use tidegate_upstream::Guest;

use crate::identify::Caller;
use crate::origin::Origin;

/// Who asks, and by what.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) route: &'a Route,
    pub(crate) caller: Option<&'a Caller<'a>>,
    pub(crate) origin: &'a Origin,
}

impl Asker<'_> {
    /// `None`: the upstream takes as many as come.
    pub(crate) fn guest(self, upstream: &Upstream, headers: &HeaderMap) -> Option<Guest> {
        let rules = upstream.overload.as_ref()?;
        Some(Guest { class: self.class(rules.class_header.as_ref(), headers), who: self.who() })
    }

    /// What a trusted proxy says; else the consumer's own, his plan's, the route's.
    pub(crate) fn class(self, told_in: Option<&HeaderName>, headers: &HeaderMap) -> Class {
        let told = || Class::of(headers.get(told_in.filter(|_| self.origin.trusted)?)?.to_str().ok()?.trim());
        let own = || self.caller?.consumer?.class;
        let plan = || self.snapshot.plans.get(self.caller?.plan()?)?.class;
        told().or_else(own).or_else(plan).or(self.route.class).unwrap_or_default()
    }

    /// Nobody can choose whom he shares a turn with: the hash is keyed.
    fn who(self) -> u64 {
        static HASH: OnceLock<std::hash::RandomState> = OnceLock::new();
        let hash = HASH.get_or_init(std::hash::RandomState::new);
        match self.caller {
            Some(caller) => match caller.consumer {
                Some(consumer) => hash.hash_one((&consumer.tenant, &consumer.name)),
                None => hash.hash_one(caller.home()),
            },
            None => hash.hash_one(network(self.origin.address)),
        }
    }
}

/// An address of version 4, or the network of one of version 6.
fn network(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}
