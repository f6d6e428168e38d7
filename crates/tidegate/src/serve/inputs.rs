//! What documents refer to outside themselves: environment variables and files of this machine, and what this program
//! was built with.

use tidegate_config::{Document, Inputs, Need};
use tidegate_model::Feature;

/// A secret or certificate larger than this is a mistake.
const MOST_BYTES: u64 = 1 << 20;

/// Reads everything `document` needs.
pub(super) fn gather(document: &Document) -> Inputs {
    let inputs = Inputs::gather(document, fetch);
    if cfg!(feature = "otlp") { inputs } else { inputs.without(Feature::Otlp) }
}

fn fetch(need: &Need) -> Result<Vec<u8>, String> {
    match need {
        Need::Env(name) => match std::env::var_os(name) {
            Some(value) => Ok(value.into_encoded_bytes()),
            None => Err("it is not set for this node".into()),
        },
        Need::File(path) => {
            let size = std::fs::metadata(path).map_err(|why| why.to_string())?.len();
            if size > MOST_BYTES {
                return Err(format!("it has {size} bytes, more than {MOST_BYTES}"));
            }
            std::fs::read(path).map_err(|why| why.to_string())
        }
    }
}
