//! Upstreams.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tidegate_policy::defaults as standard;
use tidegate_policy::{
    Announce, Balance, Endpoint, Protocol, Retries, RetryOn, TlsIdentity, Upstream, UpstreamTimeouts, UpstreamTls,
};

use super::{Report, certificate, host, overload, sick};
use crate::decode::short;
use crate::document::{
    BalanceKind, EndpointAddress, ProtocolKind, ProxyProtocolKind, RetryCause, RetryRules, UpstreamRule, UpstreamTimes,
    UpstreamTlsRule,
};
use crate::inputs::Inputs;
use crate::path::Path;
use crate::units::{Share, Span};

const MAX_ENDPOINTS: usize = 1_000;
const MAX_WEIGHT: u32 = 65_535;
const MAX_RETRIES: u32 = 10;
const MAX_CONNECTIONS: u32 = 1_000_000;

pub(super) fn compile(rules: &[UpstreamRule], inputs: &Inputs, report: &Report<'_>) -> Vec<Option<Arc<Upstream>>> {
    let list = Path::Root.field("upstreams");
    rules.iter().enumerate().map(|(i, rule)| Some(Arc::new(one(rule, inputs, &list.item(i), report)))).collect()
}

pub(super) fn one(rule: &UpstreamRule, inputs: &Inputs, path: &Path<'_>, report: &Report<'_>) -> Upstream {
    let UpstreamRule {
        name,
        endpoints,
        balance,
        protocol,
        timeouts,
        retries,
        max_connections,
        max_idle,
        idle_timeout,
        tls,
        proxy_protocol,
        health,
        breaker,
        overload,
        hedge,
    } = rule;
    let endpoints = self::endpoints(endpoints, &path.field("endpoints"), report);
    let max_connections = max_connections.map_or(standard::MAX_CONNECTIONS, |max| {
        if !(1..=MAX_CONNECTIONS).contains(&max) {
            report.error(&path.field("max_connections"), format!("1 to {MAX_CONNECTIONS}"));
        }
        max as usize
    });
    let max_idle = max_idle.map_or(standard::MAX_IDLE, |max| max as usize).min(max_connections);
    Upstream {
        id: name.as_str().into(),
        balance: match balance {
            BalanceKind::RoundRobin => Balance::RoundRobin,
            BalanceKind::LeastRequest => Balance::LeastRequest,
            BalanceKind::Random => Balance::Random,
        },
        protocol: match protocol {
            ProtocolKind::Auto => Protocol::Auto,
            ProtocolKind::Http1 => Protocol::Http1,
            ProtocolKind::Http2 => Protocol::Http2,
        },
        timeouts: times(timeouts.as_ref(), &path.field("timeouts"), report),
        retries: self::retries(retries.as_ref(), &path.field("retries"), report),
        max_connections,
        max_idle,
        idle_timeout: span(*idle_timeout, &path.field("idle_timeout"), report).unwrap_or(standard::UPSTREAM_KEEP_ALIVE),
        tls: tls.as_ref().map(|tls| self::tls(tls, &endpoints, inputs, &path.field("tls"), report)).unwrap_or_default(),
        breaker: breaker.as_ref().map(|rule| sick::breaker(rule, &path.field("breaker"), report)),
        overload: overload.as_ref().map(|rule| self::overload::compile(rule, &path.field("overload"), report)),
        hedge: hedge.as_ref().map(|rule| self::overload::hedge(rule, &path.field("hedge"), report)),
        health: health.as_ref().map(|rule| sick::health(rule, &path.field("health"), report)),
        announce: proxy_protocol.map(|version| match version {
            ProxyProtocolKind::V1 => Announce::V1,
            ProxyProtocolKind::V2 => Announce::V2,
        }),
        endpoints,
    }
}

fn endpoints(addresses: &[EndpointAddress], path: &Path<'_>, report: &Report<'_>) -> Vec<Endpoint> {
    if addresses.is_empty() {
        report.hinted(path, "an upstream has at least one endpoint", "write `- url: http://10.0.0.5:8000`");
    }
    if addresses.len() > MAX_ENDPOINTS {
        report.error(path, format!("at most {MAX_ENDPOINTS} endpoints"));
    }
    if !addresses.is_empty() && addresses.iter().all(|address| address.weight == 0) {
        report.hinted(path, "all weights are 0: no endpoint takes requests", "give one a weight of 1");
    }
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for (i, address) in addresses.iter().enumerate().take(MAX_ENDPOINTS) {
        let item = path.item(i);
        let Some(built) = endpoint(address, &item, report) else { continue };
        if endpoints.iter().any(|known| same_place(known, &built)) {
            report.hinted(&item, "this endpoint is in the list already", "use `weight` to give it a larger share");
        }
        endpoints.push(built);
    }
    endpoints
}

fn same_place(a: &Endpoint, b: &Endpoint) -> bool {
    match (a, b) {
        (Endpoint::Url { host: a, port: p, https: s, .. }, Endpoint::Url { host: b, port: q, https: t, .. })
        | (Endpoint::Dns { name: a, port: p, https: s, .. }, Endpoint::Dns { name: b, port: q, https: t, .. }) => {
            (a, p, s) == (b, q, t)
        }
        (Endpoint::Srv { name: a, https: s }, Endpoint::Srv { name: b, https: t }) => (a, s) == (b, t),
        (Endpoint::File { path: a }, Endpoint::File { path: b }) => a == b,
        _ => false,
    }
}

fn endpoint(address: &EndpointAddress, path: &Path<'_>, report: &Report<'_>) -> Option<Endpoint> {
    let EndpointAddress { url, dns, srv, file, port, https, weight } = address;
    let weight = *weight;
    if weight > MAX_WEIGHT {
        report.error(&path.field("weight"), format!("at most {MAX_WEIGHT}"));
    }
    if (srv.is_some() || file.is_some()) && weight != 1 {
        report.error(&path.field("weight"), "with `srv` and `file` the records and the file have the weights");
    }
    match (url, dns, srv, file) {
        (Some(text), None, None, None) => {
            if port.is_some() || *https {
                report.hinted(path, "`port` and `https` go with `dns`", "write both into the `url`");
            }
            let place = parse_url(text);
            if let Err(hint) = place {
                let reason = format!("`{}` is not the address of an endpoint", short(text));
                report.hinted(&path.field("url"), reason, hint);
            }
            let (https, host, port) = place.ok()?;
            Some(Endpoint::Url { https, host, port, weight })
        }
        (None, Some(name), None, None) => {
            let lower = name.to_ascii_lowercase();
            if !host::is_name(&lower) {
                report.error(&path.field("dns"), format!("`{}` is not a host name", short(name)));
            }
            let port = port.unwrap_or(if *https { 443 } else { 80 });
            if port == 0 {
                report.error(&path.field("port"), "1 to 65535");
            }
            Some(Endpoint::Dns { https: *https, name: lower, port, weight })
        }
        (None, None, Some(name), None) => {
            let lower = name.to_ascii_lowercase();
            if !host::is_name(&lower.replace('_', "x")) {
                report.hinted(
                    &path.field("srv"),
                    format!("`{}` is not a name", short(name)),
                    "write `_http._tcp.users.internal`",
                );
            }
            if port.is_some() {
                report.error(&path.field("port"), "the records have the ports");
            }
            Some(Endpoint::Srv { https: *https, name: lower })
        }
        (None, None, None, Some(file)) => {
            if port.is_some() || *https {
                report.error(path, "`port` and `https` go with `dns`; the file has urls");
            }
            if !file.starts_with('/') || file.len() > 4_096 || file.contains('\0') {
                report.hinted(
                    &path.field("file"),
                    format!("`{}` is not an absolute path", short(file)),
                    "write `/etc/tidegate/users.json`",
                );
            }
            Some(Endpoint::File { path: file.clone() })
        }
        _ => {
            report.hinted(
                path,
                "an endpoint has exactly one of `url`, `dns`, `srv`, `file`",
                "write `url: http://10.0.0.5:8000`",
            );
            None
        }
    }
}

/// Scheme, host (an IPv6 address without brackets) and port; or a hint.
pub(super) fn parse_url(text: &str) -> Result<(bool, String, u16), &'static str> {
    const SHAPE: &str = "write `http://10.0.0.5:8000` or `https://api.internal`";
    let uri: Uri = text.parse().map_err(|_| SHAPE)?;
    let https = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(SHAPE),
    };
    let authority = uri.authority().ok_or(SHAPE)?;
    if authority.as_str().contains('@') {
        return Err("credentials do not belong here; set `authorization` in `request_headers` from a secret");
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err("an endpoint has no path; use `rewrite: {add_prefix: …}` on the route");
    }
    let host = authority.host().to_ascii_lowercase();
    let explicit = authority.as_str().len() > authority.host().len();
    let port = match (authority.port_u16(), https) {
        (Some(0), _) => return Err(SHAPE),
        (Some(port), _) => port,
        (None, _) if explicit => return Err(SHAPE),
        (None, true) => 443,
        (None, false) => 80,
    };
    if !host::is_host(&host) {
        return Err(SHAPE);
    }
    Ok((https, host.trim_matches(['[', ']']).to_owned(), port))
}

fn times(rules: Option<&UpstreamTimes>, path: &Path<'_>, report: &Report<'_>) -> UpstreamTimeouts {
    let UpstreamTimes { connect, first_byte, total, idle } = rules.cloned().unwrap_or_default();
    let of = |value, name| span(value, &path.field(name), report);
    let total = of(total, "total");
    let connect = of(connect, "connect").unwrap_or(standard::CONNECT_TIMEOUT);
    if total.is_some_and(|total| total < connect) {
        report.error(&path.field("total"), "shorter than `connect`");
    }
    UpstreamTimeouts {
        connect,
        first_byte: of(first_byte, "first_byte").unwrap_or(standard::FIRST_BYTE_TIMEOUT),
        total,
        idle: of(idle, "idle").unwrap_or(standard::IDLE_TIMEOUT),
    }
}

/// A timeout: never zero, never years.
pub(super) fn span(value: Option<Span>, path: &Path<'_>, report: &Report<'_>) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
    let Span(span) = value?;
    if span < Duration::from_millis(1) || span > LONGEST {
        report.hinted(path, "a timeout is 1ms to 7d long", "leave it out for the default");
    }
    Some(span)
}

fn retries(rules: Option<&RetryRules>, path: &Path<'_>, report: &Report<'_>) -> Retries {
    let RetryRules { max, budget, on, unsafe_methods } = rules.cloned().unwrap_or_default();
    let max = max.unwrap_or(standard::RETRIES);
    if max > MAX_RETRIES {
        report.hinted(&path.field("max"), format!("at most {MAX_RETRIES}"), "more only multiplies an outage");
    }
    let on = on.unwrap_or_else(|| vec![RetryCause::Connect]);
    let mut causes: Vec<RetryOn> = Vec::new();
    for (i, cause) in on.iter().enumerate() {
        let cause = match cause {
            RetryCause::Connect => RetryOn::Connect,
            RetryCause::Reset => RetryOn::Reset,
            RetryCause::Timeout => RetryOn::Timeout,
            RetryCause::Status(status) => RetryOn::Status(*status),
        };
        if causes.contains(&cause) {
            report.error(&path.field("on").item(i), "named twice here");
        } else {
            causes.push(cause);
        }
    }
    Retries { max, budget: budget.map_or(standard::RETRY_BUDGET, |Share(share)| share), on: causes, unsafe_methods }
}

fn tls(
    rule: &UpstreamTlsRule,
    endpoints: &[Endpoint],
    inputs: &Inputs,
    path: &Path<'_>,
    report: &Report<'_>,
) -> UpstreamTls {
    let UpstreamTlsRule { ca, server_name, cert, key } = rule;
    let secure = |e: &Endpoint| match e {
        Endpoint::Url { https, .. } | Endpoint::Dns { https, .. } | Endpoint::Srv { https, .. } => *https,
        Endpoint::File { .. } => true, // It may list some.
    };
    if !endpoints.is_empty() && !endpoints.iter().any(secure) {
        report.hinted(path, "no endpoint is spoken to over TLS", "write `https://` in the endpoints' urls");
    }
    if let Some(name) = server_name.as_ref().filter(|name| !host::is_host(&name.to_ascii_lowercase())) {
        report.error(&path.field("server_name"), format!("`{}` is not a host name", short(name)));
    }
    let ca_pem = ca.as_ref().and_then(|file| certificate::pem(file, "CERTIFICATE", inputs, &path.field("ca"), report));
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => {
            let chain_pem = certificate::pem(cert, "CERTIFICATE", inputs, &path.field("cert"), report);
            let key_pem = certificate::pem(key, "PRIVATE KEY", inputs, &path.field("key"), report);
            chain_pem.zip(key_pem).map(|(chain_pem, key_pem)| TlsIdentity { chain_pem, key_pem })
        }
        (None, None) => None,
        (Some(_), None) => {
            report.hinted(&path.field("cert"), "a certificate without its private key", "name the key's file in `key`");
            None
        }
        (None, Some(_)) => {
            report.hinted(&path.field("key"), "a private key without its certificate", "name its file in `cert`");
            None
        }
    };
    UpstreamTls { ca_pem, server_name: server_name.clone(), identity }
}
