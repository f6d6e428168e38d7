//! What a run of the soak consists of.

/// What a run consists of. To find out what piles up, leave the rest away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Short requests of all kinds.
    Short,
    Events,
    Chats,
    /// Slow readers and slow senders.
    Slow,
    /// Clients that leave in the middle.
    HangUps,
    /// WebSockets.
    Rooms,
    /// A new document each second.
    Documents,
    Purges,
    /// A fourth node that comes and goes.
    Joins,
    /// A backend that dies and returns.
    Deaths,
}

impl Part {
    /// Of none named, all are.
    pub(super) fn is_among(self, only: &[Self]) -> bool {
        only.is_empty() || only.contains(&self)
    }
}
