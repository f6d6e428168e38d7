//! `tidegate cluster doctor`: what is wrong, and how to mend it. Judges what all nodes tell; changes nothing.

mod groups;
mod nodes;

use std::time::SystemTime;

use serde::Serialize;
use tidegate_admin::wire::ClusterStatus;

use super::Output;
use super::client::Client;
use super::exit::{Error, Exit};
use super::print;
use super::scrape::{self, Told};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// Something does not work now.
    Critical,
    /// It works, and one more failure or a little more time may end that.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    severity: Severity,
    /// `None`: it is the cluster's.
    node: Option<u64>,
    what: String,
    /// How to mend it.
    mend: String,
}

/// What is judged.
struct Seen<'a> {
    /// As the node that was asked sees it, or one that knows better.
    status: &'a ClusterStatus,
    told: &'a [Told],
    now: SystemTime,
}

#[derive(Serialize)]
struct Report<'a> {
    cluster_id: &'a str,
    nodes: usize,
    answered: usize,
    findings: &'a [Finding],
}

pub(super) async fn run(client: &Client, output: Output) -> Result<Exit, Error> {
    let asked: ClusterStatus = client.get("/v1/cluster").await?;
    let told = scrape::all(client, &asked).await;
    let status = best_view(&asked, &told);
    let findings = examine(&Seen { status, told: &told, now: SystemTime::now() });
    let (nodes, answered) = (told.len(), told.iter().filter(|told| told.status.is_some()).count());
    let report = Report { cluster_id: &status.cluster_id, nodes, answered, findings: &findings };
    print::either(output, &report, |report| print::line(&worded(report)));
    let is_well = findings.iter().all(|finding| finding.severity == Severity::Info);
    Ok(if is_well { Exit::Ok } else { Exit::Refused })
}

/// A node that is cut off knows of nobody's lease: one that holds its own knows better.
fn best_view<'a>(asked: &'a ClusterStatus, told: &'a [Told]) -> &'a ClusterStatus {
    let others = told.iter().filter_map(|told| told.status.as_ref());
    std::iter::once(asked).chain(others).find(|status| is_in(status)).unwrap_or(asked)
}

/// Does the node that says this hold a lease?
fn is_in(status: &ClusterStatus) -> bool {
    status.nodes.iter().any(|node| node.id == status.node_id && node.live)
}

/// The worst first.
fn examine(seen: &Seen<'_>) -> Vec<Finding> {
    let mut findings = groups::examine(seen);
    findings.extend(nodes::examine(seen));
    findings.sort_by_key(|finding| (finding.severity, finding.node));
    findings
}

fn worded(report: &Report<'_>) -> String {
    let mut text = format!(
        "cluster {}   {} of {} nodes answered\n",
        print::clean(report.cluster_id),
        report.answered,
        report.nodes
    );
    if report.findings.is_empty() {
        text.push_str("nothing is wrong");
        return text;
    }
    for finding in report.findings {
        let node = finding.node.map_or_else(|| "cluster".to_owned(), |node| format!("node {node}"));
        let (what, mend) = (print::clean(&finding.what), print::clean(&finding.mend));
        text.push_str(&format!("\n{:<8}  {node}: {what}\n          {mend}\n", finding.severity.as_str()));
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests;
