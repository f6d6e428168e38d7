//! How a command ends: the exit codes, and how an error is told.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use tidegate_admin::wire::{ErrorBody, Problem};

use super::{Output, print};

pub(super) const HELP: &str = "\
Exit codes:
  0  done
  1  refused, or problems found
  2  wrong usage
  3  cannot reach the cluster, or it has no leader
  4  conflict: the document's revision is another one
  5  published, but not every node confirmed it in time";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Ok = 0,
    Refused = 1,
    Usage = 2,
    Unreachable = 3,
    Conflict = 4,
    Incomplete = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Debug)]
pub(super) enum Error {
    /// The document is not right.
    Problems(Vec<Problem>),
    /// The cluster said no.
    Refused(Box<ErrorBody>),
    Usage(String),
    Unreachable(String),
    /// Something on this machine: a file, a port.
    Local(anyhow::Error),
}

impl Error {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Refused(body) => match body.code.as_str() {
                "revision_conflict" => Exit::Conflict,
                "no_leader" | "starting" | "timed_out" | "busy" => Exit::Unreachable,
                _ => Exit::Refused,
            },
            Self::Problems(_) | Self::Local(_) => Exit::Refused,
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable(_) => Exit::Unreachable,
        }
    }

    /// For programs: JSON on standard output. For people: sentences on standard error.
    /// What went wrong, in one line.
    pub(super) fn message(&self) -> String {
        self.body()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn print(&self, output: Output) {
        if output == Output::Json {
            print::json(&self.body());
            return;
        }
        match self {
            Self::Problems(problems) => print::problems(problems),
            Self::Refused(body) if !body.problems.is_empty() => print::problems(&body.problems),
            _ => {
                let body = self.body();
                let mut err = std::io::stderr().lock();
                let red = if err.is_terminal() && print::colours() { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
                let _ = writeln!(err, "{}error:{} {}", red.0, red.1, body["error"]["message"].as_str().unwrap_or("?"));
                if let Some(hint) = body["error"]["hint"].as_str() {
                    let _ = writeln!(err, "hint: {hint}");
                }
                if let Some(id) = body["error"]["request_id"].as_str().filter(|id| !id.is_empty()) {
                    let _ = writeln!(err, "request: {id}");
                }
            }
        }
    }

    /// The same shape as the admin API's.
    fn body(&self) -> serde_json::Value {
        let of = |code: &str, message: String| serde_json::json!({"error": {"code": code, "message": message}});
        match self {
            Self::Problems(problems) => {
                let mut body = of("invalid_document", print::count(problems));
                body["error"]["problems"] = serde_json::to_value(problems).unwrap_or_default();
                body
            }
            Self::Refused(body) => serde_json::json!({"error": body}),
            Self::Usage(why) => of("usage", why.clone()),
            Self::Unreachable(why) => of("unreachable", why.clone()),
            Self::Local(error) => of("failed", format!("{error:#}")),
        }
    }
}
