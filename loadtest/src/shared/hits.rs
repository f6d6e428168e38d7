//! What a cached answer costs: CPU of all processes of the cache, per request, and how many a second with one worker.
//!
//! All subjects are up at once and are measured in turn, round by round; the round with the median cost counts. The hit
//! from Redis: 4,096 URLs in turn, and a memory tier that holds none of them long enough to see it again.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::origin::{self, Origin};
use super::redis::Redis;
use super::report::Section;
use super::rivals::{self, Rival};
use super::{Site, document, median};
use crate::http;
use crate::matrix::measure::{PerRequest, subject_cpus, wrk_of};
use crate::matrix::report::{cpu_json, split};
use crate::node::{Cluster, Manner};
use crate::usage::Usage;

const SIZES: [usize; 2] = [1 << 10, 32 << 10];
/// Asked for in turn, where Redis is to answer.
const URLS: usize = 4_096;
/// Its quarter takes the largest body, all of it a small part of the URLs.
const SMALL_MEMORY: &str = "192KiB";

/// A round with a larger share of misses is measured once more.
const MISSED: f64 = 0.05;

/// What is measured, whatever runs it.
struct Subject {
    name: &'static str,
    address: SocketAddr,
    group: u32,
    path: &'static str,
    redis: Option<u32>,
}

#[derive(Clone, Copy)]
struct Round {
    cpu: PerRequest,
    redis: PerRequest,
    per_second: f64,
    /// Share of the requests that the origin got after all: Redis was too late, or had not got it yet.
    missed: f64,
}

pub(super) fn measure(site: &Site<'_>) -> Result<Section> {
    let how = "CPU µs per cached answer (user + system = total) of all processes of the cache, one worker, no access \
               log on any side, `wrk` with 64 connections: median of all rounds, best one beside it. redis-server's own \
               CPU apart.";
    let columns: &[&str] = &["cache", "bytes", "answers/s", "CPU µs", "best", "× nginx", "redis-server µs", "missed"];
    let mut section = Section::new("A cached answer", how.to_owned(), columns);
    for bytes in SIZES {
        size(site, bytes, &mut section)?;
    }
    Ok(section)
}

fn size(site: &Site<'_>, bytes: usize, section: &mut Section) -> Result<()> {
    let origin = Origin::start()?;
    let redis = Redis::start(site.folder)?;
    let (near, far) = (tidegate(site, &origin, bytes, Vec::new())?, {
        let mut more = redis.arguments();
        more.extend(["--cache-memory".to_owned(), SMALL_MEMORY.to_owned()]);
        tidegate(site, &origin, bytes, more)?
    });
    let rivals = [
        ("nginx", rivals::nginx(site.folder, origin.address, false)?),
        ("nginx, open_file_cache", rivals::nginx(site.folder, origin.address, true)?),
        ("varnish", rivals::varnish(site.folder, origin.address)?),
        ("hyper, a constant", rivals::constant(site.folder, bytes)?),
    ];
    let of_rival = |(name, rival): &(&'static str, Rival)| Subject {
        name,
        address: rival.address,
        group: rival.process.pid(),
        path: "kept",
        redis: None,
    };
    let ours = |name, cluster: &Cluster, path, redis| -> Result<Subject> {
        let group = *cluster.groups().first().context("the node runs")?;
        Ok(Subject { name, address: cluster.nodes[0].http, group, path, redis })
    };
    let mut subjects: Vec<Subject> = rivals.iter().map(of_rival).collect();
    subjects.push(ours("tidegate, a fixed response", &near, "fixed", None)?);
    subjects.push(ours("tidegate, hit in memory", &near, "kept", None)?);
    subjects.push(ours("tidegate, hit in Redis", &far, "kept", Some(redis.pid()))?);

    for subject in &subjects {
        subject.prime(bytes)?;
    }
    let script = in_turn(site, bytes)?;
    let mut rounds: Vec<Vec<Round>> = subjects.iter().map(|_| Vec::new()).collect();
    let (count, seconds) = if site.quick { (3, 2) } else { (7, 4) };
    for round in 1..=count {
        eprintln!("  {bytes} bytes, round {round} of {count}");
        for (subject, rounds) in subjects.iter().zip(&mut rounds) {
            let mut measured = subject.round(bytes, &script, &origin, Duration::from_secs(seconds))?;
            // Redis has 10 ms to answer: where others take the CPU from it, the origin is what is measured.
            for _again in 0..4 {
                if measured.missed > MISSED {
                    eprintln!("  {}: {:.0} % missed, once more", subject.name, measured.missed * 100.0);
                    measured = subject.round(bytes, &script, &origin, Duration::from_secs(seconds))?;
                }
            }
            rounds.push(measured);
        }
    }
    tell(&subjects, &rounds, bytes, section);
    Ok(())
}

/// One node with one worker: everything is kept, but `…/fixed` is a fixed response.
fn tidegate(site: &Site<'_>, origin: &Origin, bytes: usize, more: Vec<String>) -> Result<Cluster> {
    let manner = Manner { cpus: Some(subject_cpus(1)), more, ..Manner::default() };
    let cluster = Cluster::start(site.binary, site.folder, 1, manner)?;
    let mut document = document(&origin.address.to_string(), json!({}), json!({"cache": {}}));
    let body = String::from_utf8_lossy(&origin::text(bytes)).into_owned();
    if let Some(routes) = document["routes"].as_array_mut() {
        let path = format!("/{bytes}/fixed");
        routes.push(json!({"name": "fixed", "match": {"path": path}, "respond": {"status": 200, "body": body}}));
    }
    cluster.apply(&document)?;
    Ok(cluster)
}

impl Subject {
    fn path(&self, bytes: usize) -> String {
        format!("/{bytes}/{}", self.path)
    }

    fn prime(&self, bytes: usize) -> Result<()> {
        for _ in 0..2 {
            let path = self.path(bytes);
            let answer = http::get(self.address, &path, Duration::from_secs(5)).map_err(|broken| broken.why)?;
            ensure!((answer.status, answer.body.len()) == (200, bytes), "{}: status {}", self.name, answer.status);
        }
        Ok(())
    }

    fn round(&self, bytes: usize, script: &Path, origin: &Origin, time: Duration) -> Result<Round> {
        let url = format!("http://{}{}", self.address, self.path(bytes));
        let script = self.redis.map(|_| script);
        wrk_of(&url, &[], script, Duration::from_secs(if script.is_some() { 2 } else { 1 }))?;
        let used = || (Usage::of(&[self.group]), Usage::of(&self.redis.map_or(vec![], |pid| vec![pid])));
        let (asked, before) = (origin.asked(), used());
        let run = wrk_of(&url, &[], script, time)?;
        let after = used();
        ensure!(run.failed == 0, "{}: {} of {} answers are not 200", self.name, run.failed, run.requests);
        #[expect(clippy::cast_precision_loss)]
        let (asked, requests) = ((origin.asked() - asked) as f64, run.requests as f64);
        let missed = asked / requests;
        Ok(Round {
            cpu: PerRequest::of(after.0 - before.0, run.requests),
            redis: PerRequest::of(after.1 - before.1, run.requests),
            per_second: requests / run.seconds,
            missed,
        })
    }
}

/// Tells `wrk` to ask for many URLs in turn.
fn in_turn(site: &Site<'_>, bytes: usize) -> Result<PathBuf> {
    let file = site.folder.join(format!("in-turn-{bytes}.lua"));
    let text = format!(
        "local all, nth = {{}}, 0\n\
         function init(args)\n  for n = 1, {URLS} do all[n] = wrk.format('GET', '/{bytes}/' .. n) end\nend\n\
         function request()\n  nth = nth % {URLS} + 1\n  return all[nth]\nend\n"
    );
    fs::write(&file, text)?;
    Ok(file)
}

fn tell(subjects: &[Subject], rounds: &[Vec<Round>], bytes: usize, section: &mut Section) {
    let medians: Vec<Option<Round>> = rounds.iter().map(|rounds| median(rounds, |round| round.cpu.total())).collect();
    let nginx = medians.first().copied().flatten().map_or(f64::NAN, |round| round.cpu.total());
    for ((subject, rounds), middle) in subjects.iter().zip(rounds).zip(medians) {
        let Some(middle) = middle else { continue };
        let best = rounds.iter().map(|round| round.cpu.total()).fold(f64::INFINITY, f64::min);
        let ratio = middle.cpu.total() / nginx;
        let redis = if subject.redis.is_some() { format!("{:.1}", middle.redis.total()) } else { String::new() };
        let cells = vec![
            subject.name.to_owned(),
            bytes.to_string(),
            format!("{:.0}", middle.per_second),
            split(middle.cpu),
            format!("{best:.1}"),
            format!("{ratio:.2}"),
            redis,
            if subject.redis.is_some() { format!("{:.1} %", middle.missed * 100.0) } else { String::new() },
        ];
        section.row(
            cells,
            json!({
                "name": subject.name, "bytes": bytes, "answers_per_second": middle.per_second,
                "cpu": cpu_json(middle.cpu), "best_micros": best, "against_nginx": ratio,
                "redis_server": subject.redis.map(|_| cpu_json(middle.redis)),
                "missed": middle.missed,
                "rounds_micros": rounds.iter().map(|round| round.cpu.total()).collect::<Vec<_>>(),
            }),
        );
    }
}
