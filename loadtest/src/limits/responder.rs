//! A rival's gateway, as small as it can be: hyper answers each request 200 or 429 as Redis says, or as counters say that
//! nodes exchange from time to time. What it admits it stamps into a file that the judge of Tidegate's logs reads.

mod exchange;
mod resp;
mod stamps;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tidegate_clock as clock;
use tidegate_model::{LimitId, Nanos, Permits, Subject};
use tidegate_quota::evidence::{Record, RequestMark};
use tidegate_quota::protocol::Key;
use tokio::net::TcpListener;

use super::plan::Rule;
use exchange::Exchange;
use resp::{Pipeline, Reply};
use stamps::Stamps;

/// Where it tells what it sent.
pub(super) const TRAFFIC: &str = "traffic";

/// A log of what was admitted within the window, on Redis' own clock: exact, as far as Redis is one.
const SLIDING: &str = "local t = redis.call('TIME')\n\
    local now = t[1] * 1000000 + t[2]\n\
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])\n\
    if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end\n\
    redis.call('ZADD', KEYS[1], now, ARGV[4])\n\
    redis.call('PEXPIRE', KEYS[1], ARGV[3])\n\
    return now";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// INCR, and EXPIRE on the first of a window.
    RedisIncr,
    /// A script with a sorted set: a sliding window.
    RedisLua,
    /// Every node counts, and tells the others at intervals.
    Interval,
}

/// A rival's gateway for `limits`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    http: SocketAddr,
    #[arg(long)]
    mode: Mode,
    /// From 1 on.
    #[arg(long)]
    node: u16,
    /// The limits, as JSON.
    #[arg(long)]
    rules: PathBuf,
    /// Where stamps go.
    #[arg(long)]
    log: PathBuf,
    #[arg(long)]
    redis: Option<SocketAddr>,
    /// Between two exchanges.
    #[arg(long, default_value_t = 100)]
    every_ms: u64,
    /// Wall clock less boot clock, in nanoseconds: one for all gateways, so that their stamps agree.
    #[arg(long, default_value_t = 0)]
    wall_ahead: u64,
    /// UDP addresses of all nodes, this one included.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<SocketAddr>,
}

struct Gateway {
    rules: HashMap<String, (u64, Rule)>,
    judge: Judge,
    stamps: Stamps,
    node: u16,
    wall_ahead: Nanos,
    nth: AtomicU64,
}

enum Judge {
    Incr(Pipeline),
    Lua(Pipeline, String),
    Interval(Arc<Exchange>),
}

/// What the harness writes and the gateway reads.
pub(super) fn rules_json(rules: &[Rule]) -> Value {
    let rule = |rule: &Rule| json!([rule.name, rule.max, rule.window.as_millis() as u64, rule.keyed]);
    rules.iter().map(rule).collect()
}

fn rules_of(text: &[u8]) -> Result<Vec<Rule>> {
    let rules: Vec<(String, u64, u64, bool)> = serde_json::from_slice(text)?;
    let rule = |(name, max, millis, keyed)| Rule { name, max, window: Duration::from_millis(millis), keyed };
    Ok(rules.into_iter().map(rule).collect())
}

/// Serves until the process is ended, on one thread.
pub(crate) fn serve(args: &Args) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(accept(args))
}

async fn accept(args: &Args) -> Result<()> {
    let rules = rules_of(&fs::read(&args.rules).context("cannot read the rules")?)?;
    let stamps = Stamps::create(&args.log, u64::from(args.node), &rules)?;
    let judge = match args.mode {
        Mode::Interval => {
            let every = Duration::from_millis(args.every_ms);
            Judge::Interval(Exchange::start(args.node, &args.peers, every, &rules).await?)
        }
        Mode::RedisIncr | Mode::RedisLua => {
            let pipeline = Pipeline::open(args.redis.context("--redis is needed")?).await?;
            if args.mode == Mode::RedisIncr { Judge::Incr(pipeline) } else { script(pipeline).await? }
        }
    };
    let numbered = rules.into_iter().zip(1..).map(|(rule, id)| (rule.name.clone(), (id, rule)));
    let gateway = Arc::new(Gateway {
        rules: numbered.collect(),
        judge,
        stamps,
        node: args.node,
        wall_ahead: Nanos(args.wall_ahead),
        nth: AtomicU64::new(0),
    });
    let listener = TcpListener::bind(args.http).await.with_context(|| format!("cannot listen on {}", args.http))?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let gateway = Arc::clone(&gateway);
        let service = service_fn(move |request| answer(Arc::clone(&gateway), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn script(pipeline: Pipeline) -> Result<Judge> {
    match pipeline.ask(&["SCRIPT", "LOAD", SLIDING]).await? {
        Reply::Text(sha) => Ok(Judge::Lua(pipeline, sha)),
        other => anyhow::bail!("Redis does not take the script: {other:?}"),
    }
}

async fn answer(gateway: Arc<Gateway>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let name = request.uri().path().trim_start_matches('/');
    if name == TRAFFIC {
        return Ok(respond(StatusCode::OK, gateway.traffic().to_string()));
    }
    let Some((id, rule)) = gateway.rules.get(name) else {
        return Ok(respond(StatusCode::OK, "ok")); // a path without a limit
    };
    let key = request.headers().get("x-key").filter(|_| rule.keyed).map_or(&b""[..], |value| value.as_bytes());
    Ok(match gateway.decide(*id, rule, key).await {
        Ok(Some(at)) => {
            let key = Key { limit: LimitId(*id), subject: subject(key) };
            gateway.stamps.write(Record::Permit { at, key, cost: Permits(1), request: RequestMark(0) });
            respond(StatusCode::OK, "ok")
        }
        Ok(None) => respond(StatusCode::TOO_MANY_REQUESTS, "too many"),
        Err(why) => respond(StatusCode::SERVICE_UNAVAILABLE, why.to_string()),
    })
}

fn respond(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

fn subject(key: &[u8]) -> Subject {
    Subject(RequestMark::of(key).0)
}

impl Gateway {
    /// When it was admitted.
    async fn decide(&self, id: u64, rule: &Rule, key: &[u8]) -> Result<Option<Nanos>> {
        match &self.judge {
            Judge::Incr(pipeline) => {
                let name = format!("{id}:{}", String::from_utf8_lossy(key));
                let Reply::Number(count) = pipeline.ask(&["INCR", &name]).await? else {
                    anyhow::bail!("INCR was not answered with a number")
                };
                if count == 1 {
                    pipeline.tell(&["PEXPIRE", &name, &rule.window.as_millis().to_string()]).await?;
                }
                Ok((u64::try_from(count).is_ok_and(|count| count <= rule.max)).then(clock::boot))
            }
            Judge::Lua(pipeline, sha) => {
                let name = format!("{id}:{}", String::from_utf8_lossy(key));
                let member = format!("{}-{}", self.node, self.nth.fetch_add(1, Relaxed));
                let (max, window) = (rule.max.to_string(), rule.window);
                let (micros, millis) = (window.as_micros().to_string(), window.as_millis().to_string());
                match pipeline.ask(&["EVALSHA", sha, "1", &name, &max, &micros, &millis, &member]).await? {
                    Reply::Number(0) => Ok(None),
                    Reply::Number(at) => Ok(Some(on_the_boot_clock(at.unsigned_abs(), self.wall_ahead))),
                    other => anyhow::bail!("the script was answered with {other:?}"),
                }
            }
            Judge::Interval(exchange) => Ok(exchange.take(id, subject(key), rule.max)),
        }
    }

    fn traffic(&self) -> Value {
        let sent = match &self.judge {
            Judge::Incr(pipeline) | Judge::Lua(pipeline, _) => pipeline.commands() * 2,
            Judge::Interval(exchange) => exchange.datagrams(),
        };
        json!({"messages": sent, "stamped": self.stamps.written()})
    }
}

/// Redis' wall clock in microseconds. Its decision is what counts, not when its answer came.
fn on_the_boot_clock(micros: u64, wall_ahead: Nanos) -> Nanos {
    Nanos(micros.saturating_mul(1_000)).saturating_sub(wall_ahead)
}

/// Wall clock less boot clock, read as closely together as a busy machine lets us.
pub(super) fn wall_ahead() -> Nanos {
    let pair = || {
        let (before, wall, after) = (clock::boot(), clock::wall(), clock::boot());
        (after.saturating_sub(before), wall.saturating_sub(before))
    };
    (0..100).map(|_| pair()).min().map_or(Nanos::ZERO, |(_, ahead)| ahead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Folder;
    use crate::shared::redis::Redis;

    #[test]
    fn rules_come_back_as_they_were_written() {
        let rule = |name: &str, keyed| Rule { name: name.into(), max: 7, window: Duration::from_secs(10), keyed };
        let rules = vec![rule("a", true), rule("b", false)];
        assert_eq!(rules_of(rules_json(&rules).to_string().as_bytes()).unwrap(), rules);
    }

    async fn admitted(gateway: &Gateway, times: usize) -> usize {
        let (id, rule) = &gateway.rules["a"];
        let mut admitted = 0;
        for _ in 0..times {
            admitted += usize::from(gateway.decide(*id, rule, b"k").await.unwrap().is_some());
        }
        admitted
    }

    #[test]
    fn redis_admits_what_the_limit_says_and_again_when_the_window_is_over() {
        let folder = Folder::fresh("responder").unwrap();
        let redis = Redis::start_anywhere(&folder.path).unwrap();
        let window = Duration::from_secs(2);
        let rules = [Rule { name: "a".into(), max: 5, window, keyed: true }];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for mode in [Mode::RedisIncr, Mode::RedisLua] {
                let pipeline = Pipeline::open(redis.address()).await.unwrap();
                pipeline.ask(&["FLUSHALL"]).await.unwrap();
                let judge =
                    if mode == Mode::RedisIncr { Judge::Incr(pipeline) } else { script(pipeline).await.unwrap() };
                let numbered = HashMap::from([("a".to_owned(), (1, rules[0].clone()))]);
                let stamps = Stamps::create(&folder.path.join("stamps"), 1, &rules).unwrap();
                let (wall_ahead, nth) = (wall_ahead(), AtomicU64::new(0));
                let gateway = Gateway { rules: numbered, judge, stamps, node: 1, wall_ahead, nth };
                assert_eq!(admitted(&gateway, 8).await, 5, "{mode:?}");
                tokio::time::sleep(window + Duration::from_millis(100)).await;
                assert_eq!(admitted(&gateway, 1).await, 1, "{mode:?}");
            }
        });
    }

    #[test]
    fn an_instant_of_the_wall_clock_is_found_on_the_boot_clock() {
        let now = on_the_boot_clock(clock::wall().0 / 1_000, wall_ahead()).0;
        assert!(now.abs_diff(clock::boot().0) < 1_000_000_000, "{now}");
    }
}
