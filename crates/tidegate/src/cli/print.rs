//! What a command prints: tables for people, JSON for programs.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use tidegate_admin::wire::{NodeApplied, Problem, Severity};

use super::Output;

/// A reader that left (`| head`) is no reason to fail: what is left unsaid nobody wanted to hear.
pub(super) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// As it is, without another line end.
pub(super) fn raw(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    if !text.ends_with('\n') {
        let _ = out.write_all(b"\n");
    }
}

pub(super) fn json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(&text),
        Err(error) => eprintln!("error: cannot print this as JSON: {error}"),
    }
}

/// One value, in whichever form was asked for.
pub(super) fn either<T: Serialize>(output: Output, value: &T, people: impl FnOnce(&T)) {
    if output == Output::Json { json(value) } else { people(value) }
}

pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>) {
    line(&rendered(header, rows));
}

pub(super) fn rendered(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|title| title.to_uppercase()));
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| clean(&cell)).collect::<Vec<_>>()));
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Names come from other people: no control characters reach a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What is shown again and again: a line of JSON each time; on a screen in the place of what was there. `false`: whoever read us left.
pub(super) fn again<T: Serialize>(output: Output, value: &T, people: impl FnOnce(&T) -> String) -> bool {
    let mut out = std::io::stdout().lock();
    let text = match output {
        Output::Json => serde_json::to_string(value).unwrap_or_default(),
        _ if out.is_terminal() => format!("\x1b[H\x1b[2J{}", people(value)),
        _ => format!("{}\n", people(value)),
    };
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// Columns and lines of the screen that standard output is; `None`: it is none, or does not say.
pub(super) fn screen() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// An empty screen, if it is one.
pub(super) fn clear() {
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        let _ = write!(out, "\x1b[2J\x1b[H");
    }
}

/// One line (RFC 4180). Spreadsheets take what begins like a formula for one: those get a quote before them.
pub(super) fn csv(cells: &[String]) {
    let cell = |text: &String| {
        let text = clean(text);
        let formula = if text.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
        let quoted = text.contains([',', '"']);
        let text = format!("{formula}{text}");
        if quoted { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    };
    line(&cells.iter().map(cell).collect::<Vec<_>>().join(","));
}

pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// See <https://no-color.org>.
pub(super) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// To standard error, one a line, as compilers do: `file:line: path: reason`, then the hint.
pub(super) fn problems(problems: &[Problem]) {
    let mut err = std::io::stderr().lock();
    let colour = err.is_terminal() && colours();
    for problem in problems {
        let _ = writeln!(err, "{}", worded(problem, colour));
        if let Some(hint) = &problem.hint {
            let _ = writeln!(err, "    hint: {}", clean(hint));
        }
    }
    if !problems.is_empty() {
        let _ = writeln!(err, "{}", count(problems));
    }
}

pub(super) fn worded(problem: &Problem, colour: bool) -> String {
    let mut text = match (&problem.file, problem.line) {
        (Some(file), Some(line)) => format!("{}:{line}: ", clean(file)),
        (Some(file), None) => format!("{}: ", clean(file)),
        (None, Some(line)) => format!("line {line}: "),
        (None, None) => String::new(),
    };
    let (word, code) = match problem.severity {
        Severity::Error => ("", "\x1b[31m"),
        Severity::Warning => ("warning: ", "\x1b[33m"),
    };
    text.push_str(word);
    if !problem.path.is_empty() {
        text.push_str(&clean(&problem.path));
        text.push_str(": ");
    }
    text.push_str(&clean(&problem.reason));
    if colour { format!("{code}{text}\x1b[0m") } else { text }
}

pub(super) fn count(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    match (errors, problems.len() - errors) {
        (errors, 0) => plural(errors, "problem"),
        (0, warnings) => plural(warnings, "warning"),
        (errors, warnings) => format!("{}, {}", plural(errors, "problem"), plural(warnings, "warning")),
    }
}

/// Which nodes have it.
pub(super) fn applied(nodes: &[NodeApplied]) {
    let row = |node: &NodeApplied| vec![node.node.to_string(), node.state.clone()];
    table(&["node", "state"], nodes.iter().map(row).collect());
}
