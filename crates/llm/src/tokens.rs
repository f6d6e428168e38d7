//! Tokens as the models of OpenAI count them: which model has which encoding, how many tokens a text is, a call
//! ([`prompt`]), an answer ([`Said`]).
//!
//! The dictionaries are in the program and are unpacked when somebody first counts: [`Encoding::count`] takes a tenth of a
//! second then, and a fifth of a millisecond for 8 KB later, so whoever has other things to do calls it on a thread that has
//! not. Without the feature `tokenizer` no model has an encoding, and everybody estimates.

#[cfg(feature = "tokenizer")]
mod dictionary;
mod prompt;
mod said;
mod tools;

pub use self::prompt::{Counted, embedded, of_call, prompt};
pub use self::said::Said;

/// How a family of models cuts text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// GPT-4o, 4.1, 4.5.
    O200k,
    /// GPT-5 and the o-series: the same words, other tokens around messages.
    Thinking,
    /// gpt-oss: the same words, and more around messages.
    Harmony,
    /// GPT-4, GPT-3.5 and the embeddings.
    Cl100k,
}

/// Longer texts are counted in pieces of about this size: what is held meanwhile stays small.
const PIECE: usize = 64 << 10;
/// Where a piece may end: before a space this near to its bound.
const NEAR: usize = 256;

const THINKING: [&str; 3] = ["gpt-5", "codex-", "computer-use"];
const O200K: [&str; 6] = ["gpt-4o", "chatgpt-", "gpt-4.1", "gpt-4.5", "gpt-audio", "gpt-realtime"];
const CL100K: [&str; 5] = ["gpt-4", "gpt-3.5", "gpt-35", "text-embedding-3-", "text-embedding-ada-002"];

impl Encoding {
    pub const ALL: [Self; 4] = [Self::O200k, Self::Thinking, Self::Harmony, Self::Cl100k];

    /// Of a model by its name at any provider: `gpt-5-mini`, `openai/gpt-4o`, `openai.gpt-oss-20b-1:0`, `ft:gpt-4o:us::x`.
    pub fn of(model: &str) -> Option<Self> {
        if !cfg!(feature = "tokenizer") {
            return None;
        }
        let name = model.rsplit('/').next().unwrap_or(model);
        let name = name.strip_prefix("ft:").unwrap_or(name);
        let name = name.strip_prefix("openai.").unwrap_or(name);
        let with = |begin: &str| name.get(..begin.len()).is_some_and(|own| own.eq_ignore_ascii_case(begin));
        let begins = |names: &[&str]| names.iter().any(|begin| with(begin));
        let o_series = name.strip_prefix('o').is_some_and(|rest| {
            let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            digits.len() < rest.len() && (digits.is_empty() || digits.starts_with('-'))
        });
        match () {
            () if with("gpt-oss") => Some(Self::Harmony),
            () if o_series || begins(&THINKING) => Some(Self::Thinking),
            () if begins(&O200K) => Some(Self::O200k),
            () if begins(&CL100K) => Some(Self::Cl100k),
            () => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::O200k | Self::Thinking => "o200k_base",
            Self::Harmony => "o200k_harmony",
            Self::Cl100k => "cl100k_base",
        }
    }

    /// Of one text, as it is; words that a model knows as special are words.
    #[cfg(feature = "tokenizer")]
    pub fn count(self, text: &str) -> u64 {
        let dictionary = dictionary::of(self);
        pieces(text).map(|piece| dictionary.count(piece) as u64).fold(0, u64::saturating_add)
    }

    /// Of one text, about.
    #[cfg(not(feature = "tokenizer"))]
    pub fn count(self, text: &str) -> u64 {
        pieces(text).map(|piece| (piece.len() as u64).div_ceil(4)).fold(0, u64::saturating_add)
    }
}

/// Cut before a space that follows a word, where nearly every token ends anyway.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(cut(rest));
        rest = after;
        Some(piece)
    })
}

fn cut(text: &str) -> usize {
    if text.len() <= PIECE {
        return text.len();
    }
    let bytes = text.as_bytes();
    let ends_word = |at: &usize| bytes[*at] == b' ' && !bytes[at - 1].is_ascii_whitespace();
    let near = (PIECE - NEAR..PIECE).rev().find(ends_word);
    near.unwrap_or_else(|| (0..=PIECE).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(PIECE))
}

#[cfg(all(test, feature = "tokenizer"))]
mod tests;
#[cfg(test)]
mod names {
    use super::*;

    #[test]
    #[cfg(feature = "tokenizer")]
    fn a_models_name_tells_how_it_counts_whoever_serves_it() {
        let o200k =
            ["gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-4.1-nano", "ft:gpt-4o:us::x", "chatgpt-4o-latest", "GPT-4O"];
        for name in o200k {
            assert_eq!(Encoding::of(name), Some(Encoding::O200k), "{name}");
        }
        for name in ["openai/gpt-5-mini", "o3", "o4-mini", "GPT-5", "openai.gpt-5.5"] {
            assert_eq!(Encoding::of(name), Some(Encoding::Thinking), "{name}");
        }
        for name in ["openai.gpt-oss-120b-1:0", "openai/gpt-oss-20b"] {
            assert_eq!(Encoding::of(name), Some(Encoding::Harmony), "{name}");
        }
        for name in ["gpt-4", "gpt-4-turbo", "gpt-3.5-turbo-0125", "gpt-35-turbo", "text-embedding-3-small"] {
            assert_eq!(Encoding::of(name), Some(Encoding::Cl100k), "{name}");
        }
        for name in ["claude-sonnet-4-5", "gemini-2.5-pro", "olmo-2", "o1x", "o", "gpt-neox", "gpt4all", "m", ""] {
            assert_eq!(Encoding::of(name), None, "{name}");
        }
    }

    #[test]
    fn long_texts_are_cut_where_words_end_and_nothing_is_lost() {
        let words = "some words, ".repeat(20_000);
        let cut: Vec<&str> = pieces(&words).collect();
        assert!(cut.len() > 3 && cut.iter().all(|piece| piece.len() <= PIECE));
        assert!(cut.iter().skip(1).all(|piece| piece.starts_with(' ')), "before a space");
        assert_eq!(cut.concat(), words);
        // No space anywhere, and characters of several bytes.
        let solid = "ü".repeat(100_000);
        assert_eq!(pieces(&solid).collect::<String>(), solid);
        assert_eq!(pieces("").count(), 0);
    }
}
