//! What `config` says about documents, in the words of the wire. Pure; the callers bring texts and inputs.

use tidegate_config::{Document, Inputs, Locations, SourceFile, Verb};
use tidegate_model::Revision;
use tidegate_state::Format;

use crate::backend::Compiled;
use crate::wire::{Change, Problem, Severity};

/// Compiles a text. `inputs` brings what the document refers to: [`Inputs::gather`] on a node, [`Inputs::assumed`] where
/// nothing will be served.
///
/// # Errors
/// Everything that is wrong with it.
pub fn compile(
    text: &str,
    revision: Revision,
    inputs: impl FnOnce(&Document) -> Inputs,
) -> Result<Compiled, Vec<Problem>> {
    compile_files(&[SourceFile { name: "", bytes: text.as_bytes() }], revision, inputs)
}

/// Everything that is wrong with some files as one document, warnings as well. What they refer to is taken as present.
#[must_use]
pub fn check_files(files: &[SourceFile<'_>]) -> Vec<Problem> {
    match compile_files(files, Revision(0), |_| Inputs::assumed()) {
        Ok(compiled) => compiled.warnings,
        Err(problems) => problems,
    }
}

/// Some files as one document, to be sent as one text. Comments are gone.
///
/// # Errors
/// What does not fit the format; names and meaning are not looked at.
pub fn merge_files(files: &[SourceFile<'_>]) -> Result<Document, Vec<Problem>> {
    tidegate_config::parse_files(files).map(|(document, _)| document).map_err(worded)
}

fn compile_files(
    files: &[SourceFile<'_>],
    revision: Revision,
    inputs: impl FnOnce(&Document) -> Inputs,
) -> Result<Compiled, Vec<Problem>> {
    match tidegate_config::parse_files(files) {
        Ok((document, locations)) => finish(&document, &locations, revision, inputs),
        // Read again, leniently: a misfit in one route shall hide no wrong name in another.
        Err(problems) => match tidegate_config::check(files, inputs, revision) {
            Ok(_) => Err(worded(problems)),
            Err(all) => Err(worded(all)),
        },
    }
}

fn finish(
    document: &Document,
    locations: &Locations,
    revision: Revision,
    inputs: impl FnOnce(&Document) -> Inputs,
) -> Result<Compiled, Vec<Problem>> {
    let snapshot = tidegate_config::compile(document, locations, &inputs(document), revision).map_err(worded)?;
    let warnings = worded(tidegate_config::warnings(document, locations));
    Ok(Compiled { snapshot, warnings, features: tidegate_config::features(document) })
}

/// How a text is written. Every JSON document is YAML as well; the difference matters to people only.
pub(crate) fn format(text: &str) -> Format {
    if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') { Format::Json } else { Format::Yaml }
}

/// The JSON Schema of documents, as text.
#[must_use]
pub fn schema() -> String {
    format!("{:#}\n", tidegate_config::schema())
}

/// Does the document declare this consumer? A text of another release that cannot be read: nobody knows, so yes.
pub(crate) fn names(text: &str, tenant: &str, consumer: &str) -> bool {
    match parse(text) {
        Ok(document) => document.consumers.iter().any(|c| c.tenant == tenant && c.name == consumer),
        Err(_) => true,
    }
}

/// Does anything in it belong to this tenant? As above.
pub(crate) fn names_tenant(text: &str, tenant: &str) -> bool {
    let Ok(document) = parse(text) else { return true };
    let listed = document.tenants.iter().map(|known| &known.name);
    let consumers = document.consumers.iter().map(|consumer| &consumer.tenant);
    let teams = document.teams.iter().map(|team| &team.tenant);
    let products = document.products.iter().map(|product| &product.tenant);
    let routes = document.routes.iter().map(|route| &route.tenant);
    listed.chain(consumers).chain(teams).chain(products).chain(routes).any(|known| known == tenant)
}

/// Does it declare this plan? As above.
pub(crate) fn names_plan(text: &str, plan: &str) -> bool {
    match parse(text) {
        Ok(document) => document.plans.iter().any(|known| known.name == plan),
        Err(_) => true,
    }
}

/// The certificates that a document names and does not bring.
#[derive(Debug, Default)]
pub(crate) struct CertificateNames {
    /// Name in the document, and of what the cluster keeps.
    stored: Vec<(String, String)>,
    /// What an authority is asked for: name and hosts.
    pub(crate) ordered: Vec<(String, Vec<String>)>,
}

impl CertificateNames {
    /// Where the document names it.
    pub(crate) fn users(&self, name: &str) -> impl Iterator<Item = String> {
        let stored = self.stored.iter().filter(move |(_, kept)| kept == name);
        let ordered = self.ordered.iter().filter(move |(known, _)| known == name);
        stored
            .map(|(by, _)| format!("certificates.{by}"))
            .chain(ordered.map(|(name, _)| format!("acme.certificates.{name}")))
    }

    /// Whom it is served for: the document's entries, or whoever asks for its hosts.
    pub(crate) fn named_by(&self, name: &str) -> Vec<String> {
        let by: Vec<String> =
            self.stored.iter().filter(|(_, kept)| kept == name).map(|(by, _)| format!("certificates.{by}")).collect();
        if by.is_empty() { vec!["sni".to_owned()] } else { by }
    }

    /// Of what the document names as kept, what is neither kept nor asked for: its name in the document, and its own.
    pub(crate) fn missing(&self, is_kept: impl Fn(&str) -> bool) -> Option<(&str, &str)> {
        let ordered = |name: &str| self.ordered.iter().any(|(known, _)| known == name);
        let missing = self.stored.iter().find(|(_, kept)| !is_kept(kept) && !ordered(kept));
        missing.map(|(by, kept)| (by.as_str(), kept.as_str()))
    }
}

/// Of a text of another release that cannot be read: none.
pub(crate) fn certificate_names(text: &str) -> CertificateNames {
    let Ok(document) = parse(text) else { return CertificateNames::default() };
    let stored = document.certificates.iter().filter_map(|it| Some((it.name.clone(), it.stored.clone()?)));
    let ordered = document.acme.iter().flat_map(|acme| &acme.certificates);
    CertificateNames {
        stored: stored.collect(),
        ordered: ordered.map(|it| (it.name.clone(), it.hosts.clone())).collect(),
    }
}

/// The cluster's sealed secrets that it names, and what for. Of a text of another release that cannot be read: none.
pub(crate) fn sealed_secrets(text: &str) -> Vec<(String, Vec<String>)> {
    parse(text).map(|document| tidegate_config::sealed(&document)).unwrap_or_default()
}

/// What replacing `old` with `new` changes. Problems are those of `new`.
pub(crate) fn changes(old: Option<&str>, new: &str) -> Result<Vec<Change>, Vec<Problem>> {
    compile(new, Revision(0), |_| Inputs::assumed())?;
    let new = parse(new).map_err(worded)?;
    // An old text that cannot be read any more counts as nothing: everything is new then.
    let old = old.and_then(|old| parse(old).ok()).unwrap_or_default();
    Ok(tidegate_config::diff(&old, &new).into_iter().map(change).collect())
}

fn parse(text: &str) -> Result<Document, Vec<tidegate_config::Problem>> {
    tidegate_config::parse(text.as_bytes(), tidegate_config::Format::Auto).map(|(document, _)| document)
}

fn change(change: tidegate_config::Change) -> Change {
    let kind = match change.verb {
        Verb::Added => "added",
        Verb::Removed => "removed",
        Verb::Changed => "changed",
    };
    let effect = change.counters.map(|counters| counters.to_string());
    let parts = [change.family, change.name.as_str(), change.field.as_str()];
    let path = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(".");
    Change { kind: kind.to_owned(), path, before: change.from, after: change.to, effect }
}

fn worded(problems: Vec<tidegate_config::Problem>) -> Vec<Problem> {
    problems.into_iter().map(problem).collect()
}

fn problem(problem: tidegate_config::Problem) -> Problem {
    let tidegate_config::Problem { severity, path, file, line, column, reason, hint } = problem;
    let severity = match severity {
        tidegate_config::Severity::Error => Severity::Error,
        tidegate_config::Severity::Warning => Severity::Warning,
    };
    Problem { severity, file, line: line.map(u64::from), column: column.map(u64::from), path, reason, hint }
}
