//! How many tokens some bytes are, about: where a provider did not say. Calibrated on recordings of real providers (a test
//! over them says how well); nothing that is billed rests on it while a provider tells.

use crate::Dialect;

/// Tokens of the words with which a provider tells its model of tools.
const TOOLS: u64 = 350;

/// Of an answer's text. Tenths of a byte for a token: models of Anthropic cut finer.
pub fn answer(dialect: Dialect, bytes: u64) -> u64 {
    let tenths = match dialect {
        Dialect::Anthropic => 36,
        _ => 45,
    };
    (bytes.saturating_mul(10)).div_ceil(tenths)
}

/// Of a prompt as it stands in a body, with its JSON.
pub fn prompt(dialect: Dialect, bytes: u64, has_tools: bool) -> u64 {
    let tenths = match dialect {
        Dialect::Anthropic | Dialect::Bedrock => 35,
        Dialect::OpenAiChat | Dialect::Cohere => 45,
        Dialect::OpenAiResponses => 50,
        Dialect::Gemini => 70,
    };
    let told = matches!(dialect, Dialect::Anthropic | Dialect::Bedrock) && has_tools;
    (bytes.saturating_mul(10)).div_ceil(tenths).saturating_add(if told { TOOLS } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_nothing_and_no_length_overflows() {
        for dialect in Dialect::ALL {
            assert_eq!((answer(dialect, 0), prompt(dialect, 0, false)), (0, 0));
            assert!(answer(dialect, 1) == 1 && prompt(dialect, u64::MAX, true) > 0);
        }
    }
}
