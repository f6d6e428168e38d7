//! What `config` says about documents, in the words of the wire.

use tidegate_state::Format;

use crate::wire::{Change, Problem};

/// How a text is written. Every JSON document is YAML as well; the difference matters to people only.
pub(crate) fn format(text: &str) -> Format {
    if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') { Format::Json } else { Format::Yaml }
}

/// The JSON Schema of documents, as text.
pub(crate) fn schema() -> String {
    String::new()
}

/// Does the document declare this consumer?
pub(crate) fn names(_text: &str, _tenant: &str, _consumer: &str) -> bool {
    false
}

/// What replacing `old` with `new` changes. Problems are those of `new`.
pub(crate) fn changes(_old: Option<&str>, _new: &str) -> Result<Vec<Change>, Vec<Problem>> {
    Ok(Vec::new())
}
