//! One subject, measured twice: as fast as it goes (wrk), and at a fixed pace (our open-loop generator), each time with
//! the CPU time of all its processes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::subject::{Running, Subject};
use super::{Effort, PACE};
use crate::balancer::find_program;
use crate::generator::{Load, Plan};
use crate::http;
use crate::linux::{self, WhenOrphaned};
use crate::process::{Process, Start, free_address, output_of};
use crate::usage::Usage;

const CONNECTIONS: usize = 64;
/// What everybody is asked for.
pub(crate) const PATH: &str = "/load";

/// What the requests end at, and how fast it is without anything in between.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    _process: Process,
}

/// One measurement of one subject.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) requests_per_second: f64,
    pub(crate) saturated: PerRequest,
    pub(crate) paced: PerRequest,
    pub added_p50: Duration,
    pub added_p99: Duration,
    pub(crate) resident_bytes: u64,
}

/// CPU time of all processes of the subject, per request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PerRequest {
    pub(crate) user_micros: f64,
    pub(crate) system_micros: f64,
}

impl PerRequest {
    pub(crate) fn of(used: Usage, requests: u64) -> Self {
        #[expect(clippy::cast_precision_loss)]
        let requests = requests.max(1) as f64;
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / requests;
        Self { user_micros: micros(used.user), system_micros: micros(used.system) }
    }

    pub(crate) fn total(self) -> f64 {
        self.user_micros + self.system_micros
    }
}

impl Backend {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let text = include_str!("../../conf/nginx-backend.conf")
            .replace("@LISTEN@", &address.to_string())
            .replace("@FOLDER@", &folder.display().to_string());
        let file = folder.join("nginx-backend.conf");
        fs::write(&file, text)?;
        let mut command = Command::new(find_program("nginx").context("nginx is not installed")?);
        command.arg("-p").arg(folder).arg("-c").arg(file);
        let cpus = [last_cpu()];
        let start = Start { name: "backend", logs: folder, when_orphaned: WhenOrphaned::Terminate, cpus: Some(&cpus) };
        let mut process = Process::start(command, start)?;
        process.wait_until(Duration::from_secs(5), || std::net::TcpStream::connect(address).is_ok())?;
        Ok(Self { address, _process: process })
    }
}

/// The CPUs a subject with this many workers runs on: the first ones. Everything else is on the last one.
pub(crate) fn subject_cpus(workers: usize) -> Vec<usize> {
    (0..workers.min(last_cpu() + 1)).collect()
}

pub(crate) fn last_cpu() -> usize {
    thread::available_parallelism().map_or(1, usize::from) - 1
}

pub(crate) fn measure(subject: &Subject, running: &Running, backend: &Backend, effort: Effort) -> Result<Row> {
    let warm = wrk(running.address, &running.headers, effort.warm_up)?;
    ensure!(warm.failed == 0, "{}: {} of {} answers are not 200", subject.name(), warm.failed, warm.requests);

    let before = Usage::of(&running.groups);
    let run = wrk(running.address, &running.headers, effort.saturated)?;
    let saturated = Usage::of(&running.groups) - before;
    ensure!(run.failed == 0, "{}: {} of {} answers are not 200", subject.name(), run.failed, run.requests);

    let direct = paced(backend.address, &[], &running.groups, effort)?;
    let through = paced(running.address, &running.headers, &running.groups, effort)?;
    #[expect(clippy::cast_precision_loss)]
    let requests_per_second = run.requests as f64 / run.seconds;
    Ok(Row {
        requests_per_second,
        saturated: PerRequest::of(saturated, run.requests),
        paced: through.used,
        added_p50: through.p50.saturating_sub(direct.p50),
        added_p99: through.p99.saturating_sub(direct.p99),
        resident_bytes: Usage::of(&running.groups).resident_bytes,
    })
}

pub(crate) struct Saturated {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) failed: u64,
}

/// As many requests as 64 connections can ask for.
pub(crate) fn wrk(to: SocketAddr, headers: &[(String, String)], time: Duration) -> Result<Saturated> {
    wrk_of(&format!("http://{to}{PATH}"), headers, None, time)
}

/// The same for any URL; a script may tell `wrk` to vary it.
pub(crate) fn wrk_of(
    url: &str,
    headers: &[(String, String)],
    script: Option<&Path>,
    time: Duration,
) -> Result<Saturated> {
    if linux::asked_to_stop() {
        bail!("stopped");
    }
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &last_cpu().to_string(), "wrk", "-t1", "--timeout", "30s"]);
    command.args([format!("-c{CONNECTIONS}"), format!("-d{}s", time.as_secs().max(1))]);
    for (name, value) in headers {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    command.arg(url);
    linux::tie_to_us(&mut command, WhenOrphaned::Kill, None);
    let printed = output_of(&mut command)?;
    parse_wrk(&printed).with_context(|| format!("wrk printed something unexpected:\n{printed}"))
}

fn parse_wrk(printed: &str) -> Option<Saturated> {
    // "  83942 requests in 3.00s, 19.13MB read"
    let line = printed.lines().find(|line| line.contains(" requests in "))?;
    let (requests, rest) = line.trim().split_once(" requests in ")?;
    let requests = requests.parse().ok()?;
    let seconds = seconds_of(rest.split(',').next()?)?;
    let number_after =
        |text: &str| printed.lines().find_map(|line| line.trim().strip_prefix(text)?.trim().parse().ok());
    let refused: u64 = number_after("Non-2xx or 3xx responses:").unwrap_or(0);
    // "Socket errors: connect 0, read 0, write 0, timeout 0"
    let cut: u64 = printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("Socket errors:"))
        .map_or(0, |errors| errors.split(',').filter_map(|one| one.rsplit(' ').next()?.parse::<u64>().ok()).sum());
    Some(Saturated { requests, seconds, failed: refused + cut })
}

/// wrk prints "3.00s" and "1.10m".
fn seconds_of(text: &str) -> Option<f64> {
    if let Some(minutes) = text.strip_suffix('m') {
        return Some(minutes.parse::<f64>().ok()? * 60.0);
    }
    text.strip_suffix('s')?.parse().ok()
}

pub(crate) struct Paced {
    pub(crate) used: PerRequest,
    pub p50: Duration,
    pub p99: Duration,
}

/// 2,000 requests per second, and what `groups` used meanwhile.
pub(crate) fn paced(to: SocketAddr, headers: &[(String, String)], groups: &[u32], effort: Effort) -> Result<Paced> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let request = http::get_request("load.test", PATH, &headers);
    let plan = Plan { target: to, request, connections: CONNECTIONS, rate: PACE, nodes: Vec::new() };
    // In a thread of its own, so that only the generator is pinned (new threads inherit it).
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            linux::pin_this_thread(&[last_cpu()])?;
            let mut warm = Load::start(plan.clone());
            thread::sleep(effort.warm_up);
            warm.stop();
            let before = Usage::of(groups);
            let mut load = Load::start(plan);
            thread::sleep(effort.paced);
            load.stop();
            let used = Usage::of(groups) - before;
            let counts = load.counts();
            let missed = counts.total() - counts.admitted;
            ensure!(missed == 0, "{missed} of {} requests were not admitted", counts.total());
            Ok(Paced { used: PerRequest::of(used, counts.total()), p50: load.latency(0.5), p99: load.latency(0.99) })
        });
        run.join().map_err(|_| anyhow::anyhow!("the generator panicked"))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_read_with_its_failures() {
        let printed = "Running 3s test\n  83942 requests in 3.10s, 19.13MB read\n  Socket errors: connect 1, read 2, write 0, timeout 4\n  Non-2xx or 3xx responses: 10\nRequests/sec:  27980.66\n";
        let run = parse_wrk(printed).expect("readable");
        assert_eq!((run.requests, run.failed), (83942, 17));
        assert!((run.seconds - 3.1).abs() < 1e-9);
        assert!(parse_wrk("unable to connect").is_none());
    }
}
