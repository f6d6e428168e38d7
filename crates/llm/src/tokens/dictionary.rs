//! OpenAI's dictionaries, unpacked when they are first needed and kept: 20 to 50 MB each.

use bpe_openai::{Tokenizer, cl100k_base, o200k_base};

use super::Encoding;

pub(super) fn of(encoding: Encoding) -> &'static Tokenizer {
    match encoding {
        Encoding::O200k | Encoding::Thinking | Encoding::Harmony => o200k_base(),
        Encoding::Cl100k => cl100k_base(),
    }
}
