//! `tidegate cache …`

use clap::{Args, Subcommand};
use http::Method;
use tidegate_admin::wire::{CachePurge, CachePurged, CacheStats, KeptResponse, KeptResponses, NodeCache};

use super::Output;
use super::client::{Ask, Client};
use super::exit::{Error, Exit};
use super::print::{self, either};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make kept responses void; when it returns, no live node serves them, whatever Redis still holds
    Purge(Purge),
    /// What every live node keeps, and how it fares
    Stats,
    /// What the live nodes keep of a URL in memory
    Get {
        /// https://example.com/path?query, scheme or not
        url: String,
        #[arg(long)]
        tenant: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Purge {
    /// https://example.com/path?query, scheme or not: in all its variants and for all callers
    #[arg(value_name = "URL", required_unless_present_any = ["prefix", "tag", "all"])]
    pub(crate) urls: Vec<String>,
    /// All URLs that begin so: example.com/users/
    #[arg(long, value_name = "URL")]
    pub(crate) prefix: Vec<String>,
    /// Responses that carry this surrogate key
    #[arg(long)]
    pub(crate) tag: Vec<String>,
    /// Everything; with --tenant, of that tenant
    #[arg(long)]
    pub(crate) all: bool,
    /// Whose: `default` unless said
    #[arg(long)]
    pub(crate) tenant: Option<String>,
}

pub(super) async fn run(client: &Client, verb: Verb, output: Output) -> Result<Exit, Error> {
    match verb {
        Verb::Purge(Purge { urls, prefix, tag, all, tenant }) => {
            let body = CachePurge { tenant, urls, prefixes: prefix, tags: tag, all };
            let done: CachePurged = client.send(Ask::new(Method::POST, "/v1/cache/purge").json(&body)).await?;
            either(output, &done, |done| {
                print::line(&format!("purged (epoch {})", done.epoch));
                if !done.complete {
                    print::applied(&done.nodes);
                }
            });
            Ok(if done.complete { Exit::Ok } else { Exit::Incomplete })
        }
        Verb::Stats => {
            let stats: CacheStats = client.get("/v1/cache").await?;
            either(output, &stats, table);
            Ok(Exit::Ok)
        }
        Verb::Get { url, tenant } => {
            let mut ask = Ask::new(Method::GET, "/v1/cache/kept").query("url", &url);
            if let Some(tenant) = &tenant {
                ask = ask.query("tenant", tenant);
            }
            let kept: KeptResponses = client.send(ask).await?;
            either(output, &kept, list);
            Ok(Exit::Ok)
        }
    }
}

fn table(stats: &CacheStats) {
    let row = |cache: &NodeCache| {
        let count = |name: &str| cache.counters.get(name).copied().unwrap_or_default().to_string();
        let redis = match &cache.redis {
            None => "-".to_owned(),
            Some(redis) if redis.up => "up".to_owned(),
            Some(_) => "given up".to_owned(),
        };
        let of_redis = |name: &str| {
            print::or_dash(cache.redis.as_ref().map(|redis| redis.counters.get(name).copied().unwrap_or_default()))
        };
        vec![
            cache.node.to_string(),
            if cache.serves { "yes" } else { "no" }.to_owned(),
            cache.responses.to_string(),
            cache.bytes.to_string(),
            cache.bound.to_string(),
            count("hits"),
            count("misses"),
            count("collapsed"),
            count("stale"),
            cache.purge_epoch.to_string(),
            redis,
            of_redis("hits"),
        ]
    };
    let header = [
        "node",
        "serves",
        "responses",
        "bytes",
        "bound",
        "hits",
        "misses",
        "collapsed",
        "stale",
        "purges",
        "redis",
        "redis hits",
    ];
    print::table(&header, stats.nodes.iter().map(row).collect());
}

fn list(kept: &KeptResponses) {
    if kept.responses.is_empty() {
        print::line(&format!("no live node keeps {} in memory", print::clean(&kept.url)));
        return;
    }
    let row = |it: &KeptResponse| {
        vec![
            it.node.to_string(),
            it.status.to_string(),
            it.bytes.to_string(),
            it.age_seconds.to_string(),
            it.ttl_seconds.to_string(),
            if it.for_all { "all" } else { "one caller" }.to_owned(),
            it.tags.join(" "),
            it.varies_by.join(" "),
            print::or_dash(it.etag.as_ref()),
            it.fetched_at.clone(),
        ]
    };
    let header = ["node", "status", "bytes", "age", "ttl", "for", "tags", "varies by", "etag", "fetched"];
    print::table(&header, kept.responses.iter().map(row).collect());
}
