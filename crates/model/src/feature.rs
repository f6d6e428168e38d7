//! What came when: the one table of feature levels. A node tells its level with each renewal of its node lease; what needs
//! a level is used only when every live node has it, so that a cluster of two releases never holds what one of them cannot
//! read. Whoever adds a command or a field of the document that the release before does not know adds a row.

/// Something that not every release understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Rulings about endpoints in the control log, the judge's and those by hand.
    Endpoints,
    /// Purges in the control log.
    Purges,
    /// Plans of keys' own, in the control log.
    PlansOfKeys,
    /// `cache.redis` in the document.
    PublishedRedis,
    /// `upstreams[].breaker.stored` in the document.
    StoredStandsIn,
    /// Limits that are no sliding windows, and costs other than a call.
    KindsOfLimits,
    /// Operators' orders about limits, in both logs.
    Orders,
    /// `issuers` in the document, and limits by claim.
    Tokens,
    /// Journals of budgets, and alerts that are kept until they were told, in the quota log.
    Journals,
    /// `alerts` in the document.
    Webhooks,
    /// Who brings limits to a call beside routes, consumers and plans: `tenants`, `teams`, `products`, maxima of one's own.
    Holders,
    /// Parts of a limit's `per` that the first release does not know, `on_missing`, names for end users.
    Scopes,
    /// `providers`, `models`, and limits by what they serve.
    Models,
    /// Operators' orders about the rate of a bucket, in both logs.
    Rates,
    /// Usage of language models, in the control log.
    Usage,
    /// `telemetry.otlp` in the document.
    Otlp,
    /// `listeners.proxy_protocol`, certificates of clients and towards upstreams in the document.
    Doors,
    /// `routes[].grpc_web` in the document.
    GrpcWeb,
    /// Certificates in the control log, `certificates[].stored` and `acme` in the document.
    Certificates,
    /// `compression` and `routes[].decompress` in the document.
    Compression,
    /// `overload`, `hedge` and `class` in the document.
    Overload,
    /// Keys of TLS session tickets, in the control log.
    Tickets,
    /// `certificates[].ocsp`, `listeners.ticket_rotation`, `upstreams[].proxy_protocol` in the document.
    Transport,
    /// `listeners.http3` in the document.
    Http3,
    /// `backups` in the document.
    Backups,
    /// Operators' secrets in the control log, `secrets[].from: sealed` in the document.
    Secrets,
    /// Zones of nodes, in the control log.
    Zones,
    /// Whose doing a proposal is, and the records of that, in the control log.
    Audit,
    /// Compressed entries and snapshots of the control log: version 2 of the codec.
    Packed,
    /// Another key of the cluster, in the control log.
    ClusterKeys,
    /// `routes[].min_body_rate` in the document.
    BodyRates,
    /// `routes[].early_hints` in the document.
    EarlyHints,
}

/// The level of this build.
pub const LEVEL: u32 = 4;

impl Feature {
    pub const ALL: [Self; 32] = [
        Self::Endpoints,
        Self::Purges,
        Self::PlansOfKeys,
        Self::PublishedRedis,
        Self::StoredStandsIn,
        Self::KindsOfLimits,
        Self::Orders,
        Self::Tokens,
        Self::Journals,
        Self::Webhooks,
        Self::Holders,
        Self::Scopes,
        Self::Models,
        Self::Rates,
        Self::Usage,
        Self::Otlp,
        Self::Doors,
        Self::GrpcWeb,
        Self::Certificates,
        Self::Compression,
        Self::Overload,
        Self::Tickets,
        Self::Transport,
        Self::Http3,
        Self::Backups,
        Self::Secrets,
        Self::Zones,
        Self::Audit,
        Self::Packed,
        Self::ClusterKeys,
        Self::BodyRates,
        Self::EarlyHints,
    ];

    /// The least level of a release that understands it. Never above [`LEVEL`].
    #[must_use]
    pub fn level(self) -> u32 {
        match self {
            Self::Endpoints
            | Self::Purges
            | Self::PlansOfKeys
            | Self::PublishedRedis
            | Self::StoredStandsIn
            | Self::KindsOfLimits
            | Self::Orders
            | Self::Tokens
            | Self::Journals
            | Self::Webhooks
            | Self::Holders
            | Self::Scopes
            | Self::Models
            | Self::Rates
            | Self::Usage
            | Self::Otlp
            | Self::Doors
            | Self::GrpcWeb
            | Self::Certificates
            | Self::Compression
            | Self::Overload
            | Self::Tickets
            | Self::Transport
            | Self::Http3
            | Self::Backups => 2,
            Self::Secrets | Self::Zones | Self::Audit => 3,
            Self::Packed | Self::ClusterKeys | Self::BodyRates | Self::EarlyHints => 4,
        }
    }

    /// For people: what they asked for.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Endpoints => "a ruling about an endpoint",
            Self::Purges => "a purge",
            Self::PlansOfKeys => "a plan of a key's own",
            Self::PublishedRedis => "`cache.redis`",
            Self::StoredStandsIn => "`breaker.stored`",
            Self::KindsOfLimits => "a limit that is no sliding window, or its cost",
            Self::Orders => "an order about a limit",
            Self::Tokens => "`issuers` of tokens, or a limit by their claims",
            Self::Journals => "a budget's journal",
            Self::Webhooks => "`alerts`",
            Self::Holders => "`tenants`, `teams`, `products`, a maximum of one's own or a weight",
            Self::Otlp => "`telemetry.otlp`",
            Self::Doors => "`listeners.proxy_protocol`, or a certificate of a client or for an upstream",
            Self::GrpcWeb => "`grpc_web` of a route",
            Self::EarlyHints => "`early_hints` of a route",
            Self::Certificates => "a stored certificate, or `acme`",
            Self::Compression => "`compression`, or `decompress` of a route",
            Self::Overload => "`overload` or `hedge` of an upstream, or a `class`",
            Self::Tickets => "a key of TLS session tickets",
            Self::Transport => {
                "`ocsp` of a certificate, `listeners.ticket_rotation`, or `proxy_protocol` of an upstream"
            }
            Self::Http3 => "`listeners.http3`",
            Self::Backups => "`backups`",
            Self::Secrets => "a sealed secret",
            Self::Zones => "a node's zone",
            Self::Audit => "a record of who changed what",
            Self::Packed => "a compressed entry",
            Self::ClusterKeys => "another key of the cluster",
            Self::BodyRates => "`min_body_rate` of a route",
            Self::Rates => "an order about a bucket's rate",
            Self::Usage => "a report of usage",
            Self::Scopes => {
                "a part of `per` beyond tenant, consumer, key, route, ip and header, `on_missing` or `end_user`"
            }
            Self::Models => "`providers`, `models`, or a limit by them",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_needs_more_than_this_build_has() {
        assert!(Feature::ALL.iter().all(|feature| feature.level() <= LEVEL));
        assert_eq!(Feature::ALL.iter().map(|feature| feature.level()).max(), Some(LEVEL), "a level that nothing needs");
    }
}
