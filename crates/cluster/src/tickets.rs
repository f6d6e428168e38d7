//! Keys of TLS session tickets: drawn and sealed by whoever rotates, opened by every node.

use std::time::Duration;

use tidegate_model::Millis;
use tidegate_state::audit::By;
use tidegate_state::tickets::TicketKey;
use tidegate_state::{Command, TicketKeys};

use crate::cluster::{Cluster, wall};
use crate::error::ProposeError;
use crate::propose::Applied;

/// A name and a secret.
pub const TICKET_KEY: usize = 48;

impl Cluster {
    /// The keys, the newest first, and which of them new tickets are made with: the last but one, which every node has.
    ///
    /// # Errors
    /// One was not sealed with this cluster's key.
    pub fn ticket_keys(&self) -> Result<(Vec<[u8; TICKET_KEY]>, usize), String> {
        let sealed: Vec<TicketKey> = self.read(|state| state.ticket_keys.keys().cloned().collect());
        let open = |key: &TicketKey| {
            let opened = self.unseal(&TicketKeys::sealing(key.generation), &key.sealed)?;
            <[u8; TICKET_KEY]>::try_from(opened).map_err(|_| "a key of tickets has a wrong length".to_owned())
        };
        Ok((sealed.iter().map(open).collect::<Result<_, _>>()?, 1))
    }

    /// Is the newest key older than this, or is there none that comes next?
    #[must_use]
    pub fn ticket_keys_are_due(&self, after: Duration) -> bool {
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let due = |newest: &TicketKey| newest.made_at.0.saturating_add(after) <= wall().0;
        self.read(|state| state.ticket_keys.keys().len() < 2 || state.ticket_keys.keys().next().is_some_and(due))
    }

    /// A new key: the one that came next is current, the oldest is forgotten. When somebody else does so at once, it is done
    /// once.
    ///
    /// # Errors
    /// No leader took it in time, or a node is too old to know of such keys.
    pub async fn rotate_ticket_keys(&self) -> Result<Applied, ProposeError> {
        self.rotate_ticket_keys_by(By::node(self.node())).await
    }

    /// The same on behalf of somebody.
    ///
    /// # Errors
    /// As [`rotate_ticket_keys`](Self::rotate_ticket_keys).
    pub async fn rotate_ticket_keys_by(&self, by: By) -> Result<Applied, ProposeError> {
        let after = self.read(|state| state.ticket_keys.generation());
        let mut secret = [0; TICKET_KEY];
        for part in secret.chunks_exact_mut(16) {
            part.copy_from_slice(&crate::token::random::<16>());
        }
        let sealed = self.seal(&TicketKeys::sealing(after + 1), &secret).map_err(ProposeError::Refused)?;
        self.propose_by(by, Command::RotateTicketKeys { after, sealed }).await
    }

    /// Of the newest key, and when it was made.
    #[must_use]
    pub fn newest_ticket_key(&self) -> Option<(u64, Millis)> {
        self.read(|state| state.ticket_keys.keys().next().map(|key| (key.generation, key.made_at)))
    }
}
