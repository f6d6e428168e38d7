//! Who is told of alerts.

use std::fmt;

/// A receiver of alerts, by POST.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    pub name: String,
    /// Parts of it may be secret.
    pub url: http::Uri,
    /// What alerts are signed with.
    pub secret: Option<Box<str>>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).finish_non_exhaustive()
    }
}
