//! How hard a model shall think: words and budgets, and how one becomes the other.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thinking {
    pub depth: Depth,
    /// Whether the caller wants to see thoughts, where it said so.
    pub show: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Off,
    /// The model decides.
    Adaptive,
    Effort(Effort),
    /// Tokens.
    Budget(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

/// What a word is worth in tokens. No provider publishes its own numbers; these keep the order and the usual distance.
const WORTH: [(Effort, &str, u64); 6] = [
    (Effort::Minimal, "minimal", 1_024),
    (Effort::Low, "low", 2_048),
    (Effort::Medium, "medium", 8_192),
    (Effort::High, "high", 16_384),
    (Effort::XHigh, "xhigh", 32_768),
    (Effort::Max, "max", 65_536),
];

impl Effort {
    pub fn from_word(word: &str) -> Option<Self> {
        WORTH.iter().find(|(_, name, _)| *name == word).map(|(effort, ..)| *effort)
    }

    pub fn word(self) -> &'static str {
        self.row().1
    }

    pub fn budget(self) -> u64 {
        self.row().2
    }

    /// The smallest effort that is worth at least this many tokens.
    pub fn from_budget(tokens: u64) -> Self {
        WORTH.iter().find(|(.., worth)| tokens <= *worth).map_or(Self::Max, |(effort, ..)| *effort)
    }

    fn row(self) -> &'static (Effort, &'static str, u64) {
        WORTH.iter().find(|(effort, ..)| *effort == self).expect("every effort has its row")
    }
}

impl Depth {
    /// In words; a model that decides for itself needs none.
    pub fn effort(self) -> Option<Effort> {
        match self {
            Self::Off | Self::Adaptive => None,
            Self::Effort(effort) => Some(effort),
            Self::Budget(tokens) => Some(Effort::from_budget(tokens)),
        }
    }

    /// In tokens.
    pub fn budget(self) -> Option<u64> {
        match self {
            Self::Off => Some(0),
            Self::Adaptive => None,
            Self::Effort(effort) => Some(effort.budget()),
            Self::Budget(tokens) => Some(tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_14_an_effort_survives_the_way_through_its_budget() {
        for (effort, word, budget) in WORTH {
            assert_eq!(Effort::from_budget(budget), effort);
            assert_eq!(Effort::from_word(word), Some(effort));
        }
        assert_eq!(Effort::from_budget(u64::MAX), Effort::Max);
        assert_eq!(Effort::from_budget(5_000), Effort::Medium);
    }
}
