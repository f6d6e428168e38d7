//! Session tickets: what a client keeps of a handshake, so that the next one is short, at whichever node.
//!
//! ```text
//! | name of the key, 16 | nonce, 12 | sealed: made at (s, 8), the session | tag, 16 |
//! ```
//! The key is the cluster's ([`Tickets::replace`]), one of this process until there is one. What is sealed is bound to the
//! terms it was agreed under ([`Scope`]): a ticket of a name that asks for no certificate of its clients opens nothing where
//! one is asked for, nor where another CA signs them. That a session is taken up under its own name alone is for rustls,
//! which keeps the name in it. Knows no Raft, no timer: `tidegate` brings keys, the wall clock says what is too old.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{self, SHA256, SHA256_OUTPUT_LEN};
use rustls::server::ProducesTickets;
use tidegate_policy::ClientCertificates;

const NAME: usize = 16;
const SECRET: usize = 32;
/// A clock may be this much behind the one of the node that made the ticket.
const SKEW: u64 = 60;

/// What nodes share of one key: its name, which travels in the clear, and its secret.
pub const TICKET_KEY_LEN: usize = NAME + SECRET;

/// All keys of tickets. Cheap to share; a replacement takes effect with the next handshake.
pub struct Tickets {
    ring: ArcSwap<Ring>,
    lifetime: AtomicU32,
}

#[derive(Default)]
struct Ring {
    keys: Vec<Key>,
    /// Which of them new tickets are made with.
    current: usize,
}

struct Key {
    name: [u8; NAME],
    cipher: RandomizedNonceKey,
}

/// The terms of one kind of handshake, as a digest.
type Scope = [u8; SHA256_OUTPUT_LEN];

/// Tickets of one scope.
struct Producer {
    tickets: Arc<Tickets>,
    scope: Scope,
}

impl Tickets {
    /// With a key of this process, until there is one that nodes share. Without random numbers: no tickets.
    pub(crate) fn new() -> Arc<Self> {
        let mut own = [0; TICKET_KEY_LEN];
        let drawn = aws_lc_rs::rand::fill(&mut own).ok().and_then(|()| Key::new(&own));
        let ring = Ring { keys: drawn.into_iter().collect(), current: 0 };
        let lifetime = AtomicU32::new(tidegate_policy::defaults::TICKET_ROTATION.as_secs() as u32);
        Arc::new(Self { ring: ArcSwap::from_pointee(ring), lifetime })
    }

    /// These from now on, new tickets with `keys[current]`. None of them changes nothing: handshakes must not become dear
    /// because of a state that cannot be read.
    pub fn replace(&self, keys: &[[u8; TICKET_KEY_LEN]], current: usize) {
        let keys: Vec<Key> = keys.iter().filter_map(Key::new).collect();
        if !keys.is_empty() {
            let current = current.min(keys.len() - 1);
            self.ring.store(Arc::new(Ring { keys, current }));
        }
    }

    /// How long a ticket is good for.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.lifetime.store(u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX), Relaxed);
    }

    pub(crate) fn producer(self: &Arc<Self>, clients: Option<&ClientCertificates>) -> Arc<dyn ProducesTickets> {
        Arc::new(Producer { tickets: Arc::clone(self), scope: scope(clients) })
    }

    fn seal(&self, session: &[u8], scope: &Scope, now: u64) -> Option<Vec<u8>> {
        let ring = self.ring.load();
        let key = ring.keys.get(ring.current)?;
        let mut body = Vec::with_capacity(8 + session.len() + AES_256_GCM_SIV.tag_len());
        body.extend(now.to_be_bytes());
        body.extend(session);
        let nonce = key.cipher.seal_in_place_append_tag(Aad::from(bound(&key.name, scope)), &mut body).ok()?;
        Some([&key.name[..], nonce.as_ref(), &body].concat())
    }

    fn open(&self, ticket: &[u8], scope: &Scope, now: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        let ring = self.ring.load();
        let key = ring.keys.iter().find(|key| key.name == *name)?;
        let mut body = body.to_vec();
        let (nonce, aad) = (Nonce::assume_unique_for_key(*nonce), Aad::from(bound(name, scope)));
        let opened = key.cipher.open_in_place(nonce, aad, &mut body).ok()?;
        let (made_at, session) = opened.split_first_chunk::<8>()?;
        let made_at = u64::from_be_bytes(*made_at);
        let fresh = made_at <= now + SKEW && now <= made_at.saturating_add(u64::from(self.lifetime.load(Relaxed)));
        fresh.then(|| session.to_vec())
    }
}

impl Key {
    fn new(bytes: &[u8; TICKET_KEY_LEN]) -> Option<Self> {
        let (name, secret) = bytes.split_first_chunk::<NAME>()?;
        Some(Self { name: *name, cipher: RandomizedNonceKey::new(&AES_256_GCM_SIV, secret).ok()? })
    }
}

impl ProducesTickets for Producer {
    fn enabled(&self) -> bool {
        !self.tickets.ring.load().keys.is_empty()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime.load(Relaxed)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.tickets.seal(session, &self.scope, wall())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.tickets.open(ticket, &self.scope, wall())
    }
}

fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn scope(clients: Option<&ClientCertificates>) -> Scope {
    let mut terms = digest::Context::new(&SHA256);
    match clients {
        None => terms.update(b"anybody"),
        Some(ClientCertificates { ca_pem, optional }) => {
            terms.update(if *optional { b"clients may " } else { b"clients must" });
            terms.update(ca_pem);
        }
    }
    let mut scope = Scope::default();
    scope.copy_from_slice(terms.finish().as_ref());
    scope
}

fn bound(name: &[u8; NAME], scope: &Scope) -> [u8; NAME + SHA256_OUTPUT_LEN] {
    let mut both = [0; NAME + SHA256_OUTPUT_LEN];
    both[..NAME].copy_from_slice(name);
    both[NAME..].copy_from_slice(scope);
    both
}

/// Keys are never printed.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("keys", &self.ring.load().keys.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tickets.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn key(n: u8) -> [u8; TICKET_KEY_LEN] {
        [n; TICKET_KEY_LEN]
    }

    fn with(keys: &[u8], current: usize) -> Arc<Tickets> {
        let tickets = Tickets::new();
        tickets.replace(&keys.iter().map(|n| key(*n)).collect::<Vec<_>>(), current);
        tickets
    }

    fn clients(ca: &[u8], optional: bool) -> Scope {
        scope(Some(&ClientCertificates { ca_pem: ca.to_vec(), optional }))
    }

    #[test]
    fn what_one_node_seals_another_opens_while_it_has_the_key() {
        let scope = scope(None);
        let here = with(&[3, 2, 1], 1);
        let ticket = here.seal(b"session", &scope, DAY).expect("a ticket");
        assert_eq!(ticket[..16], key(2)[..16], "made with the current key");
        for (keys, opens) in [([2, 1], true), ([3, 2], true), ([4, 3], false)] {
            let there = with(&keys, 0);
            assert_eq!(there.open(&ticket, &scope, DAY).is_some(), opens, "{keys:?}");
        }
        assert_eq!(Tickets::new().open(&ticket, &scope, DAY), None, "another process's own key");
    }

    #[test]
    fn a_ticket_ends_with_its_lifetime_and_does_not_come_from_the_future() {
        let (tickets, scope) = (with(&[1], 0), scope(None));
        tickets.set_lifetime(Duration::from_secs(100));
        let ticket = tickets.seal(b"session", &scope, DAY).expect("a ticket");
        for (now, opens) in [(DAY - 61, false), (DAY - 60, true), (DAY + 100, true), (DAY + 101, false), (0, false)] {
            assert_eq!(tickets.open(&ticket, &scope, now), opens.then(|| b"session".to_vec()), "{now}");
        }
    }

    #[test]
    fn a_ticket_is_bound_to_what_clients_have_to_show() {
        let tickets = with(&[1], 0);
        let scopes = [scope(None), clients(b"one", false), clients(b"one", true), clients(b"two", false)];
        for (i, made) in scopes.iter().enumerate() {
            let ticket = tickets.seal(b"session", made, DAY).expect("a ticket");
            for (j, taken) in scopes.iter().enumerate() {
                assert_eq!(tickets.open(&ticket, taken, DAY).is_some(), i == j, "{i} {j}");
            }
        }
    }

    #[test]
    fn a_changed_ticket_opens_nothing() {
        let (tickets, scope) = (with(&[1, 2], 0), scope(None));
        let ticket = tickets.seal(b"session", &scope, DAY).expect("a ticket");
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets.open(&changed, &scope, DAY), None, "byte {at}");
            assert_eq!(tickets.open(&ticket[..at], &scope, DAY), None, "cut at {at}");
        }
        assert_ne!(ticket, tickets.seal(b"session", &scope, DAY).expect("another"), "no nonce comes twice");
    }

    #[test]
    fn no_keys_change_nothing_and_none_is_printed() {
        let (tickets, scope) = (with(&[65], 0), scope(None));
        let ticket = tickets.seal(b"session", &scope, DAY).expect("a ticket");
        tickets.replace(&[], 0);
        assert!(tickets.open(&ticket, &scope, DAY).is_some());
        assert_eq!(format!("{tickets:?}"), "Tickets { keys: 1, .. }");
    }
}
