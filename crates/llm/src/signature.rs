//! Proofs that thoughts are a model's own. Only the dialect that made one may get it back; in between it travels through
//! the caller's dialect, marked with its maker.
//!
//! The mark is eight characters of base64's alphabet: SDKs that decode the field as base64 (google-genai) keep working,
//! and a signature is told from a foreign one without any table.

use crate::Dialect;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub maker: Dialect,
    pub value: String,
}

impl Signature {
    pub fn new(maker: Dialect, value: impl Into<String>) -> Self {
        Self { maker, value: value.into() }
    }

    /// As it stands in a body of `dialect`.
    pub fn seal(&self, dialect: Dialect) -> String {
        if self.maker == dialect { self.value.clone() } else { format!("{}{}", mark(self.maker), self.value) }
    }

    /// From a body of `dialect`.
    pub fn open(value: &str, dialect: Dialect) -> Self {
        Self::marked(value).unwrap_or_else(|| Self::new(dialect, value))
    }

    /// Only what bears a mark.
    pub(crate) fn marked(value: &str) -> Option<Self> {
        Dialect::ALL.into_iter().find_map(|maker| Some(Self::new(maker, value.strip_prefix(mark(maker))?)))
    }

    /// To send it back: only to its maker.
    pub fn replayable(&self, dialect: Dialect) -> Option<&str> {
        (self.maker == dialect).then_some(self.value.as_str())
    }

    /// Of a thought in the open: signatures of Claude are good wherever Anthropic's models are served, so they bear no mark
    /// between those dialects.
    pub(crate) fn seal_thought(&self, dialect: Dialect) -> String {
        self.replayable_thought(dialect).map_or_else(|| self.seal(dialect), str::to_owned)
    }

    pub(crate) fn replayable_thought(&self, dialect: Dialect) -> Option<&str> {
        let claude = |dialect| matches!(dialect, Dialect::Anthropic | Dialect::Bedrock);
        let good = self.maker == dialect || claude(self.maker) && claude(dialect);
        good.then_some(self.value.as_str())
    }
}

fn mark(maker: Dialect) -> &'static str {
    match maker {
        Dialect::OpenAiChat => "TGsigOC0",
        Dialect::OpenAiResponses => "TGsigOR0",
        Dialect::Anthropic => "TGsigAN0",
        Dialect::Gemini => "TGsigGE0",
        Dialect::Bedrock => "TGsigBR0",
        Dialect::Cohere => "TGsigCO0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_13_a_signature_comes_home_through_every_dialect_and_goes_nowhere_else() {
        for maker in Dialect::ALL {
            for carrier in Dialect::ALL {
                let signature = Signature::new(maker, "EqQBCg+/==");
                let home = Signature::open(&signature.seal(carrier), carrier);
                assert_eq!(home, signature);
                assert_eq!(home.replayable(carrier).is_some(), maker == carrier);
            }
            for carrier in Dialect::ALL {
                let signature = Signature::new(maker, "EqQBCg+/==");
                let home = Signature::open(&signature.seal_thought(carrier), carrier);
                assert_eq!(home.replayable_thought(maker), Some("EqQBCg+/=="), "{maker:?} by {carrier:?}");
            }
            assert_eq!(mark(maker).len() % 4, 0, "a mark must keep base64 aligned");
        }
    }
}
