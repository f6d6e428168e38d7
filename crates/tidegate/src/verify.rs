//! `tidegate quota verify`: reads the decision logs of all nodes of one machine and tests every window of every limit.

mod logs;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;
use tidegate_model::Permits;
use tidegate_quota::evidence::{Evidence, Finding, RequestMark, Rule};

/// What to judge.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Data folders, or folders of decision logs: all nodes' together
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// A file with the request ids that backends saw, one per line: each must be in a log
    #[arg(long, value_name = "FILE")]
    pub requests: Option<PathBuf>,
}

/// `Ok(true)`: no limit was exceeded in any window, no evidence is missing, and every request is accounted for.
///
/// # Errors
/// When a file cannot be read or is no decision log.
pub(crate) fn run(args: &Args, json: bool) -> anyhow::Result<bool> {
    let logs::Collected { evidence, files, gaps } = logs::collect(&args.dirs)?;
    let missing = match &args.requests {
        Some(path) => unknown_requests(path, &evidence)?,
        None => Vec::new(),
    };
    let (permits, torn) = (evidence.permits(), evidence.torn());
    let findings = evidence.judge();
    let worst = findings.iter().map(|finding| finding.worst_ratio).fold(0.0, f64::max);
    let report = Report { findings, permits, torn, files, gaps, missing, worst };
    crate::say(&if json { as_json(&report) } else { as_table(&report) });
    Ok(report.worst <= 1.0 && report.missing.is_empty() && report.gaps.is_empty())
}

fn unknown_requests(path: &Path, evidence: &Evidence) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let ids = text.lines().map(str::trim).filter(|id| !id.is_empty());
    Ok(ids.filter(|id| !evidence.knows(RequestMark::of(id.as_bytes()))).map(str::to_owned).collect())
}

struct Report {
    findings: Vec<Finding>,
    permits: usize,
    /// Records that a crash cut off.
    torn: u64,
    files: usize,
    /// Where evidence is missing.
    gaps: Vec<String>,
    /// Requests that a backend saw and no log has.
    missing: Vec<String>,
    worst: f64,
}

/// What it was judged as.
fn kind(finding: &Finding) -> &'static str {
    match finding.rule {
        None => "window",
        Some(Rule::Bucket(_) | Rule::Smooth(_)) => "bucket",
        Some(Rule::Concurrency) => "concurrency",
        Some(Rule::Dated { .. }) => "calendar",
    }
}

/// A window or a bucket's rate as people read it.
fn span(finding: &Finding) -> String {
    match finding.rule {
        None => format!("{:?}", finding.window.to_duration()),
        Some(Rule::Bucket(rate) | Rule::Smooth(rate)) => format!("+{}/{:?}", rate.permits, rate.per.to_duration()),
        Some(Rule::Concurrency) => "at a time".to_owned(),
        Some(Rule::Dated { .. }) => "calendar".to_owned(),
    }
}

/// Permits of the busiest key over what its limit allowed in the time from its first permit to its last.
fn admitted_share(finding: &Finding) -> f64 {
    let (total, span) = finding.busiest;
    let allowed = match finding.rule {
        Some(Rule::Bucket(rate) | Rule::Smooth(rate)) => {
            finding.max.0 as f64 + span.0 as f64 * rate.permits as f64 / rate.per.0.max(1) as f64
        }
        _ => finding.max.0 as f64 * span.0.max(finding.window.0) as f64 / finding.window.0.max(1) as f64,
    };
    if allowed == 0.0 { 0.0 } else { total.0 as f64 / allowed }
}

fn admitted(finding: &Finding) -> String {
    match finding.rule {
        Some(Rule::Concurrency | Rule::Dated { .. }) => "-".to_owned(), // There is no time to hold it against.
        _ => format!("{:.1} %", admitted_share(finding) * 100.0),
    }
}

fn as_json(report: &Report) -> String {
    let Report { findings, permits, torn, files, gaps, missing, worst } = report;
    let limits: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "name": finding.name,
                "id": finding.limit.to_string(),
                "kind": kind(finding),
                "max": finding.max.0,
                "window_ms": finding.window.0 / 1_000_000,
                "permits": finding.permits,
                "worst": finding.worst.0,
                "worst_window_ratio": finding.worst_ratio,
                "busiest": finding.busiest.0.0,
                "busiest_span_ms": finding.busiest.1.0 / 1_000_000,
                "admitted_share": admitted_share(finding),
                "debt": finding.debt.0,
            })
        })
        .collect();
    json!({
        "permits": permits,
        "files": files,
        "torn_records": torn,
        "complete": gaps.is_empty(),
        "gaps": gaps.iter().take(20).collect::<Vec<_>>(),
        "limits": limits,
        "worst_window_ratio": worst,
        "backend_requests_missing": missing.len(),
        "missing": missing.iter().take(20).collect::<Vec<_>>(),
    })
    .to_string()
}

fn as_table(report: &Report) -> String {
    let Report { findings, permits, torn, files, gaps, missing, worst } = report;
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["LIMIT", "MAX", "WINDOW", "PERMITS", "WORST WINDOW", "RATIO", "ADMITTED"]);
    for finding in findings {
        table.add_row([
            if finding.name.is_empty() { finding.limit.to_string() } else { finding.name.clone() },
            finding.max.to_string(),
            span(finding),
            finding.permits.to_string(),
            finding.worst.to_string(),
            format!("{:.3}", finding.worst_ratio),
            admitted(finding),
        ]);
    }
    let mut text = table.to_string();
    let verdict = match (*worst <= 1.0, gaps.is_empty()) {
        (false, _) => "BROKEN",
        (true, false) => "INCOMPLETE: evidence is missing, so nothing is proven",
        (true, true) => "exact: no limit admitted more than it may",
    };
    let _infallible =
        write!(text, "\n\n{permits} permits in {files} files, worst window {worst:.3} of its limit: {verdict}");
    for finding in findings.iter().filter(|finding| finding.debt != Permits::ZERO) {
        let (name, debt) = (&finding.name, finding.debt);
        let _infallible = write!(text, "\n{name}: {debt} used beyond what was reserved, owed to later grants");
    }
    for gap in gaps.iter().take(20) {
        let _infallible = write!(text, "\nmissing evidence: {gap}");
    }
    if *torn > 0 {
        let _infallible = write!(text, "\n{torn} records were cut off by a crash");
    }
    if !missing.is_empty() {
        let _infallible =
            write!(text, "\n{} requests that a backend saw are in no log, first: {}", missing.len(), missing[0]);
    }
    text
}
