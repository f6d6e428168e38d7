//! What is wrong with a document, said so that its author can repair it.

use std::fmt;

use serde::Serialize;

/// One thing to repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub severity: Severity,
    /// Where in the document: `routes[2].to[0].upstream`; empty: the document as a whole.
    pub path: String,
    /// The file, when the document came as files with names.
    pub file: Option<String>,
    /// From 1, when the text is known.
    pub line: Option<u32>,
    pub column: Option<u32>,
    pub reason: String,
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document is served; somebody should have a look.
    Warning,
}

/// `a.yaml:12:5: routes[2].to[0].upstream: no upstream has this name (did you mean `users`?)`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.reason)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// "did you mean `users`?": the nearest of `known`, when it is near enough to be a slip of the fingers.
pub(crate) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const LONGEST: usize = 64; // Distances cost length × length.
    if wrong.len() > LONGEST {
        return None;
    }
    let reach = (wrong.chars().count() / 3).max(1);
    let candidates = known.into_iter().filter(|name| name.len() <= LONGEST && *name != wrong).take(20_000);
    let (away, name) = candidates.map(|name| (distance(wrong, name), name)).min()?;
    (away <= reach).then(|| format!("did you mean `{name}`?"))
}

/// Damerau-Levenshtein (optimal string alignment), case folded.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1];
        for j in 0..b.len() {
            let replaced = row[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_names_are_not() {
        let near = |wrong| did_you_mean(wrong, ["users", "orders", "upstream"]);
        assert_eq!(near("user").as_deref(), Some("did you mean `users`?"));
        assert_eq!(near("usres").as_deref(), Some("did you mean `users`?"));
        assert_eq!(near("Users").as_deref(), Some("did you mean `users`?"));
        assert_eq!(near("upstrem").as_deref(), Some("did you mean `upstream`?"));
        assert_eq!(near("payments"), None);
    }
}
