//! The document people write, and all its problems at once.
//!
//! [`parse`] makes a [`Document`] of bytes, [`compile`] a [`tidegate_policy::Snapshot`] of a document. Owns the format
//! and its documentation; reads no file, no environment and no clock ([`Inputs`]). Called by `tidegate` (the CLI and
//! each node) and `admin`; never by `proxy`.

mod compile;
mod decode;
mod diff;
mod docs;
pub mod document;
mod features;
mod inputs;
mod path;
mod problem;
mod sealed;
mod source;
mod tree;
mod units;
mod warn;

pub use compile::{check, compile};
pub use diff::{Change, Counters, Verb, diff};
pub use docs::docs;
pub use document::Document;
pub use features::features;
pub use inputs::{Inputs, Need, needs};
pub use problem::{Problem, Severity};
pub use sealed::sealed;
pub use source::{Locations, SourceFile, parse, parse_files};
pub use tree::Format;
pub use units::{RateText, Share, Size, Span};
pub use warn::warnings;

/// The format as JSON Schema (2020-12), for editors and forms.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Document).to_value()
}

/// `document` as YAML, to send a folder as one text. Comments are gone.
///
/// # Errors
/// Never in practice; the writer's own.
pub fn write(document: &Document) -> Result<String, String> {
    serde_saphyr::to_string(document).map_err(|error| error.to_string())
}

/// For fuzzing (docs/fuzzing.md): any bytes are read, compiled, compared and written again without a panic. Files of a
/// folder are divided by zero bytes.
///
/// # Panics
/// When a document that was read is written as another one.
#[doc(hidden)]
pub fn fuzz_document(bytes: &[u8]) {
    let files = bytes.splitn(8, |byte| *byte == 0).map(|bytes| SourceFile { name: "fuzz", bytes });
    let files: Vec<SourceFile<'_>> = files.collect();
    let (document, _) = match check(&files, |_| Inputs::assumed(), tidegate_model::Revision(1)) {
        Ok(checked) => checked,
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal says why");
            return problems.iter().for_each(|problem| drop(problem.to_string()));
        }
    };
    let other = Document::default();
    drop((needs(&document), diff(&other, &document), diff(&document, &other)));
    let unchanged = diff(&document, &document);
    assert!(unchanged.is_empty(), "nothing changed: {unchanged:?}");
    let yaml = write(&document).expect("a document that was read can be written");
    let json = serde_json::to_string(&document).expect("a document that was read can be written");
    for (text, format) in [(yaml, Format::Yaml), (json, Format::Json)] {
        let again = parse(text.as_bytes(), format).map(|(document, _)| document);
        assert_eq!(again.as_ref(), Ok(&document), "what is written reads the same:\n{text}");
    }
}
