//! What went wrong at a provider, in words that routing understands.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub kind: Kind,
    /// As the provider sent it; 0 for an error that came inside a stream.
    pub status: u16,
    pub message: String,
    /// The provider's own word for it.
    pub code: Option<String>,
    /// The field that was wrong, in the provider's words.
    pub param: Option<String>,
    /// Milliseconds.
    pub retry_after: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    BadRequest,
    Unauthenticated,
    /// Money is used up: waiting does not help.
    Billing,
    Forbidden,
    NotFound,
    TooLarge,
    ContextExceeded,
    ContentFiltered,
    RateLimited,
    Timeout,
    Overloaded,
    /// It broke at the provider.
    Server,
    /// The stream said something that nobody can read, or grew past its bounds.
    BadStream,
}

impl Kind {
    /// For records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Billing => "billing",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::TooLarge => "too_large",
            Self::ContextExceeded => "context_exceeded",
            Self::ContentFiltered => "content_filtered",
            Self::RateLimited => "rate_limited",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Server => "server",
            Self::BadStream => "bad_stream",
        }
    }
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, status: 0, message: message.into(), code: None, param: None, retry_after: None }
    }

    pub fn bad_stream(message: impl Into<String>) -> Self {
        Self::new(Kind::BadStream, message)
    }

    /// The status to tell a caller whose provider gave none.
    pub fn status(&self) -> u16 {
        if self.status >= 400 { self.status } else { self.kind.status() }
    }
}

impl Kind {
    /// The first guess, from nothing but the status.
    pub fn of_status(status: u16) -> Self {
        match status {
            401 => Self::Unauthenticated,
            402 => Self::Billing,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            413 => Self::TooLarge,
            429 => Self::RateLimited,
            503 | 529 => Self::Overloaded,
            400..=499 => Self::BadRequest,
            _ => Self::Server,
        }
    }

    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::ContextExceeded | Self::ContentFiltered => 400,
            Self::Unauthenticated => 401,
            Self::Billing => 402,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Server => 500,
            Self::BadStream => 502,
            Self::Overloaded => 503,
            Self::Timeout => 504,
        }
    }

    /// Every provider phrases it differently, and none gives it a status of its own.
    pub(crate) fn refined(self, code: &str, message: &str) -> Self {
        const TOO_LONG: [&str; 9] = [
            "context_length_exceeded",
            "maximum context length",
            "context window",
            "prompt is too long",
            "input is too long",
            "too many input tokens",
            "input token count",
            "exceed context limit",
            "exceeds the available context size",
        ];
        let has = |words: &[&str]| words.iter().any(|word| code.contains(word) || message.contains(word));
        match self {
            Self::BadRequest | Self::TooLarge if has(&TOO_LONG) => Self::ContextExceeded,
            Self::BadRequest if has(&["content_filter", "content_policy_violation", "content management policy"]) => {
                Self::ContentFiltered
            }
            Self::RateLimited if has(&["insufficient_quota"]) => Self::Billing,
            Self::BadRequest if has(&["credit balance is too low"]) => Self::Billing,
            kind => kind,
        }
    }
}
