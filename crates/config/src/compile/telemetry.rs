//! What is logged.

use std::path::PathBuf;

use tidegate_policy::defaults::KEEP_LOGS;
use tidegate_policy::{AccessLog, Telemetry};

use super::secret::Secrets;
use super::{Report, header, otlp};
use crate::document::{AccessLogFormat, AccessLogRule, TelemetryRules};
use crate::inputs::Inputs;
use crate::path::Path;
use crate::units::Size;

/// Smaller files would be rotated all the time.
const MIN_ROTATE: u64 = 1 << 20;

pub(super) fn compile(
    rules: &TelemetryRules,
    secrets: &Secrets<'_>,
    inputs: &Inputs,
    report: &Report<'_>,
) -> Telemetry {
    let TelemetryRules { access_log, revision_header, otlp: collector } = rules;
    let path = Path::Root.field("telemetry");
    Telemetry {
        access_log: access_log.as_ref().map(|rule| self::access_log(rule, &path.field("access_log"), report)),
        revision_header: *revision_header,
        otlp: collector.as_ref().and_then(|rule| otlp::compile(rule, secrets, inputs, &path.field("otlp"), report)),
    }
}

fn access_log(rule: &AccessLogRule, path: &Path<'_>, report: &Report<'_>) -> AccessLog {
    let AccessLogRule { format, file, rotate, keep, headers } = rule;
    match format {
        AccessLogFormat::Json => {}
    }
    if file.is_none() && (rotate.is_some() || keep.is_some()) {
        report.hinted(path, "standard output is not rotated", "name a `file`");
    }
    if file.as_deref() == Some("") {
        report.error(&path.field("file"), "the name of a file is missing");
    }
    if rotate.is_some_and(|Size(bytes)| bytes < MIN_ROTATE) {
        report.error(&path.field("rotate"), "at least 1MiB");
    }
    let keep = keep.unwrap_or(KEEP_LOGS);
    if !(1..=1000).contains(&keep) {
        report.error(&path.field("keep"), "1 to 1000");
    }
    AccessLog {
        file: file.as_ref().map(PathBuf::from),
        rotate_bytes: rotate.map(|Size(bytes)| bytes),
        keep,
        headers: header::names(headers, &path.field("headers"), report),
    }
}
