//! Watches a body on its way to a client and stores it when it is whole. It never holds more than the route's largest
//! object; what is longer than that, broken, or has trailers passes by unheld.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_policy::Cache as Policy;

use crate::cache::Cache;
use crate::fetch::Duty;
use crate::flight::{Lead, Shared, Watch};
use crate::stored::{Fields, Stored, gathered};

/// What becomes a stored response.
#[derive(Debug)]
pub struct Tee {
    cache: Arc<Cache>,
    policy: Arc<Policy>,
    head: Option<Arc<Stored>>,
    announced: Option<u64>,
    parts: Vec<Bytes>,
    length: usize,
    held: Held,
    /// Bytes of room that it has.
    room: usize,
    shared: Option<Arc<Shared>>,
}

/// What others wait for, and what would void it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) watch: Watch,
    pub(crate) lead: Option<Lead>,
    pub(crate) duty: Option<Duty>,
}

impl Held {
    /// What is too long for other nodes they need not wait for.
    fn hold_up_nobody(&mut self, length: u64) {
        if let Some(Duty::Seat(seat)) = self.duty.take_if(|duty| duty.is_too_much(length)) {
            seat.alone(false);
        }
    }
}

impl Tee {
    pub(crate) fn new(
        cache: Arc<Cache>,
        policy: Arc<Policy>,
        head: Stored,
        announced: Option<u64>,
        held: Held,
    ) -> Self {
        let head = Arc::new(head);
        let mut tee = Self {
            cache,
            policy,
            head: Some(Arc::clone(&head)),
            announced,
            parts: Vec::new(),
            length: 0,
            held,
            room: 0,
            shared: None,
        };
        if let Some(length) = announced {
            tee.held.hold_up_nobody(length);
            // All the room at once: who reads along must not be cut off for want of it.
            if !tee.has_room(usize::try_from(length).unwrap_or(usize::MAX)) {
                tee.give_up();
            } else if let Some(lead) = &tee.held.lead {
                let shared = Shared::new(head, length);
                lead.stream(Arc::clone(&shared));
                tee.shared = Some(shared);
            }
        } else if let Some(lead) = &tee.held.lead {
            lead.unmeasured();
        }
        tee
    }

    /// All of it at once.
    pub fn whole(mut self: Box<Self>, body: &Bytes) {
        self.data(body);
        self.end();
    }

    fn has_room(&mut self, length: usize) -> bool {
        let more = length.saturating_sub(self.room);
        let has = more == 0 || self.cache.reserve(more);
        self.room += if has { more } else { 0 };
        has
    }

    pub(crate) fn data(&mut self, data: &Bytes) {
        if self.head.is_none() || data.is_empty() {
            return;
        }
        let length = self.length + data.len();
        if length as u64 > self.policy.max_object || !self.has_room(length) {
            return self.give_up();
        }
        self.length = length;
        self.held.hold_up_nobody(length as u64);
        self.parts.push(data.clone());
        if let Some(shared) = &self.shared {
            shared.push(data.clone());
        }
    }

    /// For who reads along.
    pub(crate) fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.clone()
    }

    /// It is whole.
    pub(crate) fn end(&mut self) {
        if self.announced.is_some_and(|length| length != self.length as u64) {
            return self.give_up();
        }
        let Some(head) = self.head.take() else { return };
        let body = gathered(&self.parts, self.length);
        let stored = Arc::new(Stored::new(Fields { body, ..Fields::clone(&head) }));
        let kept = self.cache.keep(&stored, &self.policy, &self.held.watch);
        if let Some(shared) = self.shared.take() {
            shared.end(true);
        }
        if let Some(lead) = self.held.lead.take() {
            lead.forget_unshared();
            // Void already, it is nobody's; too large for the memory tier, it is still theirs who wait.
            if kept { lead.stored(Arc::clone(&stored)) } else { lead.not_shared(None) }
        }
        if let Some(duty) = self.held.duty.take().filter(|_| kept) {
            duty.stored(&stored, self.policy.vary_limit);
        }
    }

    /// It will not be stored. Whoever reads along reads on if he can.
    pub(crate) fn give_up(&mut self) {
        self.head = None;
        if let Some(lead) = self.held.lead.take() {
            lead.not_shared(Some(self.cache.now()));
        }
        if let Some(shared) = self.shared.take() {
            shared.end(false);
        }
        if let Some(duty) = self.held.duty.take() {
            duty.alone(true);
        }
        self.parts = Vec::new();
        self.cache.release(std::mem::take(&mut self.room));
    }

    /// Is it worth reading on when the client has gone? Somebody waits, or it is known to fit.
    pub(crate) fn is_wanted(&self) -> bool {
        self.head.is_some()
            && (self.announced.is_some() || self.held.lead.as_ref().is_some_and(|lead| lead.waiters() > 0))
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.end(false);
        }
        self.cache.release(self.room);
    }
}
