//! What is kept of calls of language models: answers, and bodies that are logged.

use std::sync::Arc;
use std::time::Duration;

use regex::RegexBuilder;
use tidegate_policy::{Answers, Bodies, Cache, Partition, Step, Ttl};

use super::{Report, cache};
use crate::decode::short;
use crate::document::{AnswerEnd, AnswerRule, AnswerSharing, BodyRule};
use crate::path::Path;
use crate::units::{Size, Span};

const ANSWER: u64 = 1 << 20;
const LARGEST_ANSWER: u64 = 64 << 20;
const LOGGED: u64 = 16 << 10;
/// What waits for the log's writer on a core has 1 MiB: two of these fit, escaped.
const MOST_LOGGED: u64 = 128 << 10;
const MOST: usize = 64;
const LONGEST: usize = 1_024;

/// `None`: nothing is kept.
pub(super) fn compile(rule: &AnswerRule, path: &Path<'_>, report: &Report<'_>) -> Option<Arc<Answers>> {
    let AnswerRule { ttl: Span(ttl), per, max_answer, finish, deterministic, tags, heed_clients } = rule;
    let ttl = cache::bounded(*ttl, &path.field("ttl"), report);
    let max_object = max_answer.map_or(ANSWER, |Size(bytes)| bytes);
    if max_object == 0 || max_object > LARGEST_ANSWER {
        report.error(&path.field("max_answer"), "1B to 64MiB");
    }
    if finish.as_ref().is_some_and(Vec::is_empty) {
        report.hinted(&path.field("finish"), "no answer would be kept", "name one of `stop`, `tool_calls`, `length`");
    }
    let standard = [AnswerEnd::Stop, AnswerEnd::ToolCalls, AnswerEnd::Length];
    let finish = finish.as_deref().unwrap_or(&standard);
    let store = Cache {
        ttl: Ttl::Fixed(ttl),
        // What is looked up is bounded by the route's `max_body`.
        post: Some(u64::MAX),
        max_object,
        tags: cache::tags(tags, &path.field("tags"), report),
        partition: match per {
            AnswerSharing::Tenant => Partition::Tenant,
            AnswerSharing::Consumer => Partition::Consumer,
        },
        heed_clients: heed_clients.unwrap_or(true),
        ..Cache::default()
    };
    let finish = finish.iter().map(|end| name(*end)).collect();
    let answers = Answers { store: Arc::new(store), finish, deterministic: *deterministic };
    (ttl > Duration::ZERO).then(|| Arc::new(answers))
}

/// As records name it.
fn name(end: AnswerEnd) -> &'static str {
    match end {
        AnswerEnd::Stop => "stop",
        AnswerEnd::ToolCalls => "tool_calls",
        AnswerEnd::Length => "length",
        AnswerEnd::ContentFilter => "content_filter",
    }
}

pub(super) fn bodies(rule: &BodyRule, path: &Path<'_>, report: &Report<'_>) -> Arc<Bodies> {
    let BodyRule { max, calls, answers, without, patterns } = rule;
    let max = max.map_or(LOGGED, |Size(bytes)| bytes);
    if max == 0 || max > MOST_LOGGED {
        report.error(&path.field("max"), "1B to 128KiB");
    }
    for (list, field) in [(without, "without"), (patterns, "patterns")] {
        if list.len() > MOST {
            report.error(&path.field(field), format!("at most {MOST}"));
        }
    }
    let at = path.field("without");
    let without = without.iter().enumerate().map(|(i, text)| steps(text, &at.item(i), report)).collect();
    let at = path.field("patterns");
    let compiled = patterns.iter().enumerate().filter_map(|(i, text)| {
        let at = at.item(i);
        match RegexBuilder::new(text).size_limit(1 << 20).build() {
            Ok(_) if text.is_empty() || text.len() > LONGEST => {
                report.error(&at, format!("1 to {LONGEST} bytes"));
                None
            }
            Ok(pattern) => Some(pattern),
            Err(why) => {
                // The last line says what; those before it draw where.
                let why = why.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                report.error(&at, format!("no regular expression: {}", short(why)));
                None
            }
        }
    });
    let patterns = compiled.collect();
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    Arc::new(Bodies { max, calls: calls.unwrap_or(true), answers: answers.unwrap_or(true), without, patterns })
}

fn steps(text: &str, path: &Path<'_>, report: &Report<'_>) -> Vec<Step> {
    if text.len() > LONGEST || text.split('.').any(str::is_empty) {
        report.hinted(path, format!("`{}` is no path", short(text)), "write `messages.*.content`");
    }
    text.split('.').map(|step| if step == "*" { Step::Any } else { Step::Named(step.into()) }).collect()
}
