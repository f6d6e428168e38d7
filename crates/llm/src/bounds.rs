//! How large anything that a provider streams may grow here.

/// Of one stream. What exceeds them ends it with [`crate::meaning::Kind::BadStream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// One SSE event, one event-stream frame, one element of a JSON array: bytes. Images arrive in one piece.
    pub frame: usize,
    /// Text, thought and call blocks of one answer.
    pub blocks: usize,
    /// Bytes held back because another block must be finished first, and bytes gathered to be said again at the end.
    pub held: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { frame: 16 << 20, blocks: 1_024, held: 16 << 20 }
    }
}
