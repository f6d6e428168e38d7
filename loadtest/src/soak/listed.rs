//! Which outcomes may be: by kind of traffic, each for a reason. Whatever is not listed here fails the run.

use super::backend::Fault;

/// What is asked for, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Bodies of a few KiB either way.
    Small,
    /// Bodies of up to a MiB either way.
    Large,
    Cached,
    Limited,
    /// Fixed answers and redirects of the gateway itself.
    Fixed,
    GoodKey,
    BadKey,
    NoKey,
    /// Routes that documents bring and take away.
    Coming,
    /// One of two endpoints dies and returns.
    Twins,
    /// The only endpoint dies and returns.
    Alone,
    Faulty(Fault),
    /// Language models, whole answers.
    Chat,
    /// Language models, streams; passed on or translated.
    ChatStream,
    /// A provider that refuses each third call, and one that stands in.
    ChatShaky,
    /// A provider that breaks off each second stream.
    ChatBroken,
    Events,
    Rooms,
    SlowReader,
    SlowSender,
    /// Clients that leave in the middle.
    HangUp,
    Documents,
    Purges,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
            Self::Cached => "cached",
            Self::Limited => "limited",
            Self::Fixed => "fixed",
            Self::GoodKey => "good key",
            Self::BadKey => "bad key",
            Self::NoKey => "no key",
            Self::Coming => "coming",
            Self::Twins => "twins",
            Self::Alone => "alone",
            Self::Faulty(fault) => fault.name(),
            Self::Chat => "chat",
            Self::ChatStream => "chat stream",
            Self::ChatShaky => "chat shaky",
            Self::ChatBroken => "chat broken",
            Self::Events => "events",
            Self::Rooms => "rooms",
            Self::SlowReader => "slow reader",
            Self::SlowSender => "slow sender",
            Self::HangUp => "hang up",
            Self::Documents => "documents",
            Self::Purges => "purges",
        }
    }
}

/// A line of the list: these may end so, because.
pub(super) struct Listed {
    pub(super) kinds: &'static [Kind],
    pub(super) outcome: &'static str,
    pub(super) why: &'static str,
    pub(super) how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// A run in which it never happens has tested less than it says.
    Must,
    May,
    /// At most one in a hundred of its kind.
    Seldom,
}

/// A body that was cut on its way is `STATUS cut`; a stream that says in its last event what went wrong is `STATUS told CODE`.
pub(super) const LIST: &[Listed] = &[
    must(
        &[
            Kind::Small,
            Kind::Large,
            Kind::Cached,
            Kind::Limited,
            Kind::Fixed,
            Kind::GoodKey,
            Kind::Coming,
            Kind::Twins,
            Kind::Alone,
            Kind::Chat,
            Kind::ChatStream,
            Kind::ChatShaky,
            Kind::ChatBroken,
            Kind::Events,
            Kind::SlowReader,
            Kind::SlowSender,
            Kind::Documents,
            Kind::Purges,
        ],
        "200",
        "what was asked for, whole and right",
    ),
    must(&[Kind::Cached], "304", "the client has it already"),
    must(&[Kind::Fixed], "308", "a redirect"),
    must(&[Kind::Rooms], "101", "every frame came back, and the last one closed it"),
    must(&[Kind::HangUp], "left", "nobody waits for the answer"),
    must(&[Kind::Limited], "429 rate_limited", "more is asked for than the limits allow"),
    seldom(
        &[Kind::Limited, Kind::GoodKey],
        "503 limit_unavailable",
        "a starved machine: no leader of the limits answered in time, and they say deny",
    ),
    seldom(
        &[Kind::Chat, Kind::ChatStream, Kind::ChatShaky, Kind::ChatBroken],
        "503 overloaded",
        "the same in OpenAI's words",
    ),
    must(&[Kind::BadKey], "401 key_unknown", "nobody issued that key"),
    must(&[Kind::NoKey], "401 key_missing", "the route needs one"),
    must(&[Kind::Coming], "404 no_route", "this document has no such route"),
    may(&[Kind::Twins], "502 upstream_connect", "it died, and the share of retries was used up"),
    may(&[Kind::Twins], "502 upstream_reset", "it died after it had the request, and the share of retries was used up"),
    must(&[Kind::Alone], "502 upstream_connect", "it is dead, and the breaker does not know yet"),
    may(&[Kind::Alone], "502 upstream_reset", "it died with the request in its hands"),
    must(&[Kind::Alone], "503 breaker_open", "it is dead, and the breaker knows"),
    may(&[Kind::Alone], "503 no_endpoint", "it is dead, and health checks found it so"),
    must(
        &[Kind::ChatBroken],
        "200 told bad_upstream_stream",
        "the provider broke off, and the stream's last event says so",
    ),
    must(&[Kind::Faulty(Fault::Close), Kind::Faulty(Fault::Reset)], "502 upstream_reset", "no answer came"),
    must(
        &[Kind::Faulty(Fault::Garbage), Kind::Faulty(Fault::Contradiction)],
        "502 upstream_invalid",
        "what came is no answer",
    ),
    must(&[Kind::Faulty(Fault::Late)], "504 upstream_timeout", "the answer did not begin in time"),
    must(&[Kind::Faulty(Fault::Error)], "500", "the backend's own words"),
    must(&[Kind::Faulty(Fault::Busy)], "503", "the backend's own words"),
    must(
        &[
            Kind::Faulty(Fault::Truncated),
            Kind::Faulty(Fault::BadChunk),
            Kind::Faulty(Fault::Short),
            Kind::Faulty(Fault::Stalled),
        ],
        "200 cut",
        "it broke after its head was on its way",
    ),
    may(&[Kind::Faulty(Fault::Early)], "200", "answered and closed without reading the request's body"),
    may(&[Kind::Faulty(Fault::Early)], "502 upstream_reset", "the reset for the unread body overtook the answer"),
];

const fn must(kinds: &'static [Kind], outcome: &'static str, why: &'static str) -> Listed {
    Listed { kinds, outcome, why, how: How::Must }
}

const fn may(kinds: &'static [Kind], outcome: &'static str, why: &'static str) -> Listed {
    Listed { kinds, outcome, why, how: How::May }
}

const fn seldom(kinds: &'static [Kind], outcome: &'static str, why: &'static str) -> Listed {
    Listed { kinds, outcome, why, how: How::Seldom }
}

/// The line that says that it may be, and why.
pub(super) fn listed(kind: Kind, outcome: &str) -> Option<&'static Listed> {
    LIST.iter().find(|line| line.outcome == outcome && line.kinds.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the faults.
    const PLAIN: [Kind; 22] = [
        Kind::Small,
        Kind::Large,
        Kind::Cached,
        Kind::Limited,
        Kind::Fixed,
        Kind::GoodKey,
        Kind::BadKey,
        Kind::NoKey,
        Kind::Coming,
        Kind::Twins,
        Kind::Alone,
        Kind::Chat,
        Kind::ChatStream,
        Kind::ChatShaky,
        Kind::ChatBroken,
        Kind::Events,
        Kind::Rooms,
        Kind::SlowReader,
        Kind::SlowSender,
        Kind::HangUp,
        Kind::Documents,
        Kind::Purges,
    ];

    #[test]
    fn every_kind_of_traffic_has_an_outcome_that_may_be_and_none_of_ours_alone_is_one_everywhere() {
        for kind in PLAIN.into_iter().chain(Fault::ALL.map(Kind::Faulty)) {
            assert!(LIST.iter().any(|line| line.kinds.contains(&kind)), "{}", kind.name());
            for never in ["500 fault", "503 upstream_busy", "200 wrong", "cut", "no connection"] {
                assert!(listed(kind, never).is_none(), "{} {never}", kind.name());
            }
        }
    }

    #[test]
    fn an_outcome_of_one_kind_is_none_of_another() {
        let is_listed = |kind, outcome| listed(kind, outcome).is_some();
        assert!(is_listed(Kind::Limited, "429 rate_limited") && !is_listed(Kind::Small, "429 rate_limited"));
        assert!(!is_listed(Kind::Faulty(Fault::Error), "500 fault"), "the backend's own, not ours");
    }
}
