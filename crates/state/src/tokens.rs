//! Tokens that let nodes join and operators ask. Hashes only.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_model::Millis;

use crate::MAX_NAME;
use crate::outcome::{Change, Outcome};

const MAX_TOKENS: usize = 10_000;

/// What an admin token may do; each role may do all that the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    Reader,
    Operator,
    Admin,
}

#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AdminToken {
    pub id: u64,
    pub name: String,
    pub role: Role,
    pub hash: [u8; 32],
    pub created_at: Millis,
    pub expires_at: Option<Millis>,
}

#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JoinToken {
    pub created_at: Millis,
    pub expires_at: Option<Millis>,
    /// How many nodes may still join with it. A used-up token is kept until it expires or is revoked, so that the
    /// refusal can say why.
    pub uses_left: u32,
}

#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tokens {
    last_admin: u64,
    admin: BTreeMap<u64, AdminToken>,
    join: BTreeMap<[u8; 32], JoinToken>,
}

impl Tokens {
    /// The admin token with this hash, if it is good at `now`.
    #[must_use]
    pub fn admin(&self, hash: &[u8; 32], now: Millis) -> Option<&AdminToken> {
        let token = self.admin.values().find(|token| token.hash == *hash)?;
        token.expires_at.is_none_or(|end| now < end).then_some(token)
    }

    pub fn admins(&self) -> impl Iterator<Item = &AdminToken> {
        self.admin.values()
    }

    pub fn joins(&self) -> impl Iterator<Item = (&[u8; 32], &JoinToken)> {
        self.join.iter()
    }

    /// May a node join with this token? The refusal otherwise.
    pub fn check_join(&self, hash: [u8; 32], now: Millis) -> Result<(), Outcome> {
        let token = self.join.get(&hash).ok_or(Outcome::TokenUnknown)?;
        if token.expires_at.is_some_and(|end| end <= now) {
            return Err(Outcome::TokenExpired);
        }
        if token.uses_left == 0 { Err(Outcome::TokenUsed) } else { Ok(()) }
    }

    pub(crate) fn use_join(&mut self, hash: [u8; 32]) {
        if let Some(token) = self.join.get_mut(&hash) {
            token.uses_left = token.uses_left.saturating_sub(1);
        }
    }

    pub(crate) fn create_join(
        &mut self,
        hash: [u8; 32],
        expires_at: Option<Millis>,
        uses: u32,
        at: Millis,
    ) -> (Outcome, Vec<Change>) {
        // Dead tokens go when a new one comes, a day after they expired: until then the refusal says "expired".
        const DAY: u64 = 86_400_000;
        self.join.retain(|_, token| token.expires_at.is_none_or(|end| at.0 < end.0.saturating_add(DAY)));
        if MAX_TOKENS <= self.join.len() {
            return (Outcome::Full, Vec::new());
        }
        if self.join.contains_key(&hash) {
            return (Outcome::Duplicate, Vec::new());
        }
        self.join.insert(hash, JoinToken { created_at: at, expires_at, uses_left: uses });
        (Outcome::Done, vec![Change::JoinTokens])
    }

    pub(crate) fn revoke_join(&mut self, hash: [u8; 32]) -> (Outcome, Vec<Change>) {
        match self.join.remove(&hash) {
            Some(_) => (Outcome::Done, vec![Change::JoinTokens]),
            None => (Outcome::NotFound, Vec::new()),
        }
    }

    pub(crate) fn revoke_all_joins(&mut self) {
        self.join.clear();
    }

    pub(crate) fn create_admin(
        &mut self,
        hash: [u8; 32],
        name: &str,
        role: Role,
        expires_at: Option<Millis>,
        at: Millis,
    ) -> (Outcome, Vec<Change>) {
        if MAX_NAME < name.len() {
            return (Outcome::TooLarge { limit: MAX_NAME as u64 }, Vec::new());
        }
        if MAX_TOKENS <= self.admin.len() {
            return (Outcome::Full, Vec::new());
        }
        if self.admin.values().any(|token| token.hash == hash) {
            return (Outcome::Duplicate, Vec::new());
        }
        let id = self.last_admin.saturating_add(1);
        self.last_admin = id;
        let name = name.to_owned();
        self.admin.insert(id, AdminToken { id, name, role, hash, created_at: at, expires_at });
        (Outcome::AdminTokenCreated { id }, vec![Change::AdminTokens])
    }

    pub(crate) fn revoke_admin(&mut self, id: u64) -> (Outcome, Vec<Change>) {
        match self.admin.remove(&id) {
            Some(_) => (Outcome::Done, vec![Change::AdminTokens]),
            None => (Outcome::NotFound, Vec::new()),
        }
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdminToken({}, {}, {:?})", self.id, self.name, self.role)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken(uses left: {})", self.uses_left)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.admin.values()).entries(self.join.values()).finish()
    }
}
