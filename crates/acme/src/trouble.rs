//! Why an attempt came to nothing, and how to go on.

use std::fmt;
use std::time::Duration;

/// Never holds a key or a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// For people: who said what about which host.
    pub why: String,
    pub then: Then,
    /// The authority said not to come back before.
    pub retry_after: Option<Duration>,
}

/// What is left of the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing was decided: no answer, no quorum. The order goes on later.
    GoOn,
    /// The authority said no: the order is over.
    BeginAnew,
    /// The authority does not know the account any more, nor its orders.
    NoAccount,
}

impl Trouble {
    pub fn no_answer(why: impl Into<String>) -> Self {
        Self { why: why.into(), then: Then::GoOn, retry_after: None }
    }

    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self { why: why.into(), then: Then::BeginAnew, retry_after: None }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}
