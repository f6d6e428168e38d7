//! Connections to Redis in its three shapes: one server, a master behind Sentinels, a Cluster.
//!
//! URLs: `redis://[user[:password]@]host[:port][/db]`, `rediss://` for TLS, `redis+sentinel://…@host:port,host:port/master[/db]`,
//! `redis+cluster://…@host:port,host:port`, and `rediss+…` for those two over TLS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, PushInfo, RedisError,
    RedisResult, TlsCertificates, TlsMode, Value,
};
use tokio::sync::Mutex;

use super::near::Near;

/// Where to connect to. Its `Debug` shows no password.
pub(crate) enum Target {
    Single(Client),
    /// The client keeps what it learnt of the Sentinels, for which it wants to be borrowed mutably.
    Sentinel(Mutex<SentinelClient>),
    Cluster(ClusterClient),
}

/// One connection. Clones share it.
#[derive(Clone)]
pub(crate) enum Wire {
    Direct(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Reads and writes apart: a large value on its way out must not hold up a lookup.
pub(crate) struct Link {
    pub(crate) reads: Wire,
    pub(crate) writes: Wire,
    /// More that read.
    pub(crate) near: Arc<Near>,
}

/// Called with every push of the server; must not block.
pub(crate) type Pushed = std::sync::Arc<dyn Fn(PushInfo) + Send + Sync>;

fn wrong(what: &'static str) -> RedisError {
    RedisError::from((redis::ErrorKind::InvalidClientConfig, what))
}

impl Target {
    /// `authority`: certificates (PEM) that sign the server's, instead of the system's.
    pub(crate) fn parse(url: &str, authority: Option<&[u8]>) -> RedisResult<Self> {
        let certificates = authority.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem.to_vec()) });
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("a Redis URL begins with redis://"))?;
        match scheme {
            "redis" | "rediss" | "unix" | "redis+unix" => {
                let info = url.into_connection_info()?;
                let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
                let info = info.set_redis_settings(settings);
                Ok(Self::Single(match certificates {
                    Some(certificates) if scheme == "rediss" => Client::build_with_tls(info, certificates)?,
                    _ => Client::open(info)?,
                }))
            }
            "redis+sentinel" | "rediss+sentinel" => {
                sentinel(&Several::parse(rest, 26379)?, scheme.starts_with("rediss"), certificates)
            }
            "redis+cluster" | "rediss+cluster" => {
                cluster(&Several::parse(rest, 6379)?, scheme.starts_with("rediss"), certificates)
            }
            _ => Err(wrong(
                "the scheme is redis, rediss, redis+sentinel or redis+cluster, or the latter two with rediss",
            )),
        }
    }

    /// `prefix`: keys whose changes by others are to be told.
    pub(crate) async fn connect(&self, within: Duration, prefix: &str, pushed: Pushed) -> RedisResult<Link> {
        // Each call has its own, shorter deadline; this one is only for a connection that is dead for good.
        let plain =
            AsyncConnectionConfig::new().set_connection_timeout(Some(within)).set_response_timeout(Some(within * 4));
        let told = plain.clone().set_push_sender(move |info: PushInfo| {
            pushed(info);
            Ok::<(), redis::aio::SendError>(())
        });
        let (reads, mut writes) = match self {
            Self::Single(client) => (
                Wire::Direct(client.get_multiplexed_async_connection_with_config(&plain).await?),
                Wire::Direct(client.get_multiplexed_async_connection_with_config(&told).await?),
            ),
            Self::Sentinel(client) => {
                let mut client = client.lock().await;
                (
                    Wire::Direct(client.get_async_connection_with_config(&plain).await?),
                    Wire::Direct(client.get_async_connection_with_config(&told).await?),
                )
            }
            Self::Cluster(client) => {
                let wire = Wire::Cluster(client.get_async_connection().await?);
                (wire.clone(), wire)
            }
        };
        if matches!(writes, Wire::Direct(_)) {
            // On the connection that writes, so that NOLOOP spares us our own. Refused (an old server, an ACL): we do
            // without, it is a hint.
            let mut track = redis::cmd("CLIENT");
            track.arg(&["TRACKING", "ON", "BCAST", "NOLOOP", "PREFIX", prefix]);
            if let Err(why) = writes.query(&track).await {
                tracing::info!(%why, "redis: no client tracking; other nodes' changes are seen when responses expire");
            }
        }
        Ok(Link { reads, writes, near: Near::new() })
    }
}

impl Target {
    /// Another connection that reads. `None`: there is none, or only those to several servers that move.
    pub(crate) async fn one_more(&self, within: Duration) -> Option<MultiplexedConnection> {
        let Self::Single(client) = self else { return None };
        let settings =
            AsyncConnectionConfig::new().set_connection_timeout(Some(within)).set_response_timeout(Some(within * 4));
        client.get_multiplexed_async_connection_with_config(&settings).await.ok()
    }
}

impl Wire {
    pub(crate) async fn query(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Direct(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        };
        // What the server refuses comes as a value.
        answer.and_then(Value::extract_error)
    }
}

/// `[user[:password]@]host[:port],…[/first[/second]]`
#[derive(PartialEq, Eq)]
struct Several {
    user: Option<String>,
    password: Option<String>,
    hosts: Vec<(String, u16)>,
    path: Vec<String>,
}

impl Several {
    fn parse(rest: &str, port: u16) -> RedisResult<Self> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = authority.rsplit_once('@').map_or((None, authority), |(c, h)| (Some(c), h));
        let (user, password) = match credentials.map(|c| c.split_once(':').unwrap_or((c, ""))) {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None => (None, None),
        };
        let hosts = hosts.split(',').filter(|host| !host.is_empty()).map(|host| host_port(host, port));
        let hosts = hosts.collect::<RedisResult<Vec<_>>>()?;
        if hosts.is_empty() {
            return Err(wrong("the URL names no host"));
        }
        let path = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Ok(Self { user, password, hosts, path })
    }
}

fn host_port(text: &str, default: u16) -> RedisResult<(String, u16)> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, rest)) => (v6, rest.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(default), str::parse).map_err(|_| wrong("a port in the URL is no number"))?;
    Ok((host.to_owned(), port))
}

/// Percent-decoding; empty is nothing.
fn decoded(text: &str) -> RedisResult<Option<String>> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let code = tail
                .get(..2)
                .and_then(|hex| std::str::from_utf8(hex).ok())
                .and_then(|hex| u8::from_str_radix(hex, 16).ok());
            out.push(code.ok_or_else(|| wrong("a % in the URL's credentials begins no hex code"))?);
            rest = &tail[2..];
        } else {
            out.push(byte);
        }
    }
    let text = String::from_utf8(out).map_err(|_| wrong("the URL's credentials are not UTF-8"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn sentinel(of: &Several, tls: bool, certificates: Option<TlsCertificates>) -> RedisResult<Target> {
    let master = of.path.first().ok_or_else(|| wrong("a Sentinel URL ends with the master's name"))?;
    let address = |(host, port): &(String, u16)| match tls {
        true => ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host.clone(), *port),
    };
    let mut builder = SentinelClientBuilder::new(of.hosts.iter().map(address), master, SentinelServerType::Master)?
        .set_client_to_redis_protocol(ProtocolVersion::RESP3);
    if tls {
        builder =
            builder.set_client_to_redis_tls_mode(TlsMode::Secure).set_client_to_sentinel_tls_mode(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    if let Some(user) = &of.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &of.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(db) = of.path.get(1) {
        builder =
            builder.set_client_to_redis_db(db.parse().map_err(|_| wrong("the database in the URL is no number"))?);
    }
    Ok(Target::Sentinel(Mutex::new(builder.build()?)))
}

fn cluster(of: &Several, tls: bool, certificates: Option<TlsCertificates>) -> RedisResult<Target> {
    let scheme = if tls { "rediss" } else { "redis" };
    let nodes = of.hosts.iter().map(|(host, port)| match host.contains(':') {
        true => format!("{scheme}://[{host}]:{port}"),
        false => format!("{scheme}://{host}:{port}"),
    });
    let mut builder = ClusterClientBuilder::new(nodes)
        .use_protocol(ProtocolVersion::RESP3)
        .connection_timeout(Duration::from_millis(500))
        .response_timeout(Duration::from_secs(1))
        .retries(1);
    if tls {
        builder = builder.tls(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    if let Some(user) = &of.user {
        builder = builder.username(user);
    }
    if let Some(password) = &of.password {
        builder = builder.password(password);
    }
    Ok(Target::Cluster(builder.build()?))
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single(_) => "Single",
            Self::Sentinel(_) => "Sentinel",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_several_hosts_are_read() {
        let read = |text| Several::parse(text, 1).ok();
        let host = |name: &str, port| (name.to_owned(), port);
        let full = read("us%40er:pa%3Ass@a:7,b,[::1]:9/mymaster/3").expect("a URL");
        assert_eq!(full.user.as_deref(), Some("us@er"));
        assert_eq!(full.password.as_deref(), Some("pa:ss"));
        assert_eq!(full.hosts, [host("a", 7), host("b", 1), host("::1", 9)]);
        assert_eq!(full.path, ["mymaster", "3"]);
        assert!(read(":pw@a").is_some_and(|of| of.user.is_none() && of.password.as_deref() == Some("pw")));
        assert!(read("").is_none() && read("a:x").is_none() && read("%zz:b@a").is_none());
    }

    #[test]
    fn each_shape_has_its_scheme() {
        let shape = |url| Target::parse(url, None).map(|target| format!("{target:?}"));
        assert_eq!(shape("redis://:secret@localhost:1/2").expect("a URL"), "Single");
        assert_eq!(shape("redis+sentinel://a,b/main").expect("a URL"), "Sentinel");
        assert_eq!(shape("redis+cluster://u:p@a,b").expect("a URL"), "Cluster");
        assert!(shape("redis+sentinel://a").is_err() && shape("http://a").is_err() && shape("localhost").is_err());
    }
}
