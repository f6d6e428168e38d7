//! Names to addresses. A name that resolved once keeps its last good addresses when DNS fails.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use tokio::time::Instant;

use crate::{BoxError, lock};

/// Addresses kept of one name.
const ADDRESSES: usize = 256;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Addresses and how long they are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Sorted, each once.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) good_for: Duration,
}

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    pub(crate) target: String,
}

pub(crate) struct Names {
    resolver: OnceLock<TokioResolver>,
    /// Empty: the system's.
    servers: Vec<NameServerConfig>,
    /// Bounded by the names of the document.
    last_good: Mutex<HashMap<String, Vec<IpAddr>>>,
}

impl Names {
    pub(crate) fn new(servers: Vec<NameServerConfig>) -> Self {
        Self { resolver: OnceLock::new(), servers, last_good: Mutex::new(HashMap::new()) }
    }

    /// The addresses of a host as written in a document: a name, an address, or `[v6]`.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, BoxError> {
        if let Some(ip) = literal(host) {
            return Ok(vec![ip]);
        }
        match self.lookup(host).await {
            Ok(answer) => {
                let mut last_good = lock(&self.last_good);
                if last_good.get(host) != Some(&answer.addresses) {
                    last_good.insert(host.to_owned(), answer.addresses.clone());
                }
                Ok(answer.addresses)
            }
            Err(why) => lock(&self.last_good).get(host).cloned().ok_or(why),
        }
    }

    pub(crate) async fn lookup(&self, name: &str) -> Result<Answer, BoxError> {
        if let Some(ip) = literal(name) {
            return Ok(Answer { addresses: vec![ip], good_for: LONGEST });
        }
        // RFC 6761 § 6.3: never asked of a server.
        if name.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            return Ok(Answer { addresses: vec![[127, 0, 0, 1].into()], good_for: LONGEST });
        }
        let found = self.resolver().lookup_ip(name).await?;
        let mut addresses: Vec<IpAddr> = found.iter().take(ADDRESSES).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return Err("the name has no address".into());
        }
        let good_for = found.valid_until().saturating_duration_since(Instant::now().into_std());
        Ok(Answer { addresses, good_for: good_for.clamp(SHORTEST, LONGEST) })
    }

    /// The SRV records of a name, and how long they are good.
    pub(crate) async fn services(&self, name: &str) -> Result<(Vec<Service>, Duration), BoxError> {
        let found = self.resolver().srv_lookup(name).await?;
        let records = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(Service {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_string(),
            }),
            _ => None,
        });
        // A lone `.` says that there is no such service (RFC 2782).
        let services = records.filter(|service| service.target != "." && service.port != 0).take(ADDRESSES).collect();
        let good_for = found.valid_until().saturating_duration_since(Instant::now().into_std());
        Ok((services, good_for.clamp(SHORTEST, LONGEST)))
    }

    fn resolver(&self) -> &TokioResolver {
        self.resolver.get_or_init(|| {
            let provider = TokioRuntimeProvider::default();
            let mut builder = if self.servers.is_empty() {
                TokioResolver::builder_tokio().unwrap_or_else(|why| {
                    tracing::warn!(%why, "no DNS servers: only addresses and the hosts file will resolve");
                    TokioResolver::builder_with_config(ResolverConfig::default(), provider)
                })
            } else {
                let config = ResolverConfig::from_parts(None, Vec::new(), self.servers.clone());
                TokioResolver::builder_with_config(config, provider)
            };
            bound(builder.options_mut());
            builder.build().expect("no TLS and no trust anchor is asked for, and nothing else can fail")
        })
    }
}

fn bound(options: &mut ResolverOpts) {
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    options.cache_size = 1_024;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.positive_min_ttl = Some(SHORTEST);
    options.positive_max_ttl = Some(LONGEST);
    options.negative_max_ttl = Some(Duration::from_secs(5));
}

fn literal(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).parse().ok()
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("servers", &self.servers).finish_non_exhaustive()
    }
}
