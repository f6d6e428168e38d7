//! `tidegate quota verify`: reads the decision logs of all nodes of one machine and tests every window of every limit.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::json;
use tidegate_quota::evidence::{Evidence, Finding, RequestMark};

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

/// `Ok(true)`: no limit was exceeded in any window, and every request is accounted for.
///
/// # Errors
/// When a file cannot be read or is no decision log.
pub(crate) fn run(args: &Args, json: bool) -> anyhow::Result<bool> {
    let mut evidence = Evidence::default();
    let mut files = 0;
    for dir in &args.dirs {
        for file in logs(dir)? {
            let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            evidence
                .read(&bytes)
                .map_err(|why| anyhow::anyhow!("{} is no decision log: it is {}", file.display(), why.0))?;
            files += 1;
        }
    }
    if files == 0 {
        bail!("no decision logs in {:?}; nodes write them with --decision-log", args.dirs);
    }
    let missing = match &args.requests {
        Some(path) => unknown_requests(path, &evidence)?,
        None => Vec::new(),
    };
    let (permits, torn) = (evidence.permits(), evidence.torn());
    let findings = evidence.judge();
    let worst = findings.iter().map(|finding| finding.worst_ratio).fold(0.0, f64::max);
    let text = if json {
        as_json(&findings, permits, torn, files, &missing, worst)
    } else {
        as_table(&findings, permits, torn, files, &missing, worst)
    };
    crate::say(&text);
    Ok(worst <= 1.0 && missing.is_empty())
}

/// The `*.log` of a folder, of its `decisions/`, and of the data folders right below it.
fn logs(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.join("decisions")];
    if dir.file_name().is_some_and(|name| name == "decisions") {
        folders.push(dir.to_owned());
    }
    for entry in fs::read_dir(dir).with_context(|| format!("reading the folder {}", dir.display()))? {
        folders.push(entry?.path().join("decisions"));
    }
    folders.dedup();
    for folder in folders {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "log") {
                found.push(path);
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn unknown_requests(path: &Path, evidence: &Evidence) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let ids = text.lines().map(str::trim).filter(|id| !id.is_empty());
    Ok(ids.filter(|id| !evidence.knows(RequestMark::of(id.as_bytes()))).map(str::to_owned).collect())
}

/// Permits of the busiest key over what its limit allowed in the time from its first permit to its last.
fn admitted_share(finding: &Finding) -> f64 {
    let (total, span) = finding.busiest;
    let allowed = finding.max.0 as f64 * span.0.max(finding.window.0) as f64 / finding.window.0.max(1) as f64;
    if allowed == 0.0 { 0.0 } else { total.0 as f64 / allowed }
}

fn as_json(findings: &[Finding], permits: usize, torn: u64, files: usize, missing: &[String], worst: f64) -> String {
    let limits: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "name": finding.name,
                "id": finding.limit.to_string(),
                "max": finding.max.0,
                "window_ms": finding.window.0 / 1_000_000,
                "permits": finding.permits,
                "worst": finding.worst.0,
                "worst_window_ratio": finding.worst_ratio,
                "busiest": finding.busiest.0.0,
                "busiest_span_ms": finding.busiest.1.0 / 1_000_000,
                "admitted_share": admitted_share(finding),
            })
        })
        .collect();
    json!({
        "permits": permits,
        "files": files,
        "torn_records": torn,
        "limits": limits,
        "worst_window_ratio": worst,
        "backend_requests_missing": missing.len(),
        "missing": missing.iter().take(20).collect::<Vec<_>>(),
    })
    .to_string()
}

fn as_table(findings: &[Finding], permits: usize, torn: u64, files: usize, missing: &[String], worst: f64) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["LIMIT", "MAX", "WINDOW", "PERMITS", "WORST WINDOW", "RATIO", "ADMITTED"]);
    for finding in findings {
        table.add_row([
            if finding.name.is_empty() { finding.limit.to_string() } else { finding.name.clone() },
            finding.max.to_string(),
            format!("{:?}", finding.window.to_duration()),
            finding.permits.to_string(),
            finding.worst.to_string(),
            format!("{:.3}", finding.worst_ratio),
            format!("{:.1} %", admitted_share(finding) * 100.0),
        ]);
    }
    let mut text = table.to_string();
    let verdict = if worst <= 1.0 { "exact: no window of any limit holds more than it may" } else { "BROKEN" };
    let _infallible =
        write!(text, "\n\n{permits} permits in {files} files, worst window {worst:.3} of its limit: {verdict}");
    if torn > 0 {
        let _infallible = write!(text, "\n{torn} records were cut off by a crash");
    }
    if !missing.is_empty() {
        let _infallible =
            write!(text, "\n{} requests that a backend saw are in no log, first: {}", missing.len(), missing[0]);
    }
    text
}
