//! The text of an answer as it comes, kept for who has to count it when its provider does not say.

use super::Encoding;

/// Bytes that are kept; what is longer is counted by its beginning.
const KEPT: usize = 64 << 10;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    text: String,
    /// Of pieces that were not read: what stood in the JSON string, escaped as it came. Escapes do not span pieces.
    raw: Vec<u8>,
    /// All bytes, kept or not.
    bytes: u64,
}

impl Said {
    pub fn text(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len() as u64);
        if self.text.len() + self.raw.len() < KEPT {
            self.text.push_str(text);
        }
    }

    pub(crate) fn raw(&mut self, escaped: &[u8]) {
        self.bytes = self.bytes.saturating_add(escaped.len() as u64);
        if self.text.len() + self.raw.len() < KEPT {
            self.raw.extend_from_slice(escaped);
        }
    }

    /// With what another one heard after it.
    pub fn and(&mut self, after: &Self) {
        self.bytes = self.bytes.saturating_add(after.bytes);
        self.text.push_str(&after.text);
        self.raw.extend_from_slice(&after.raw);
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub fn count(&self, encoding: Encoding) -> u64 {
        let mut quoted = Vec::with_capacity(self.raw.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(&self.raw);
        quoted.push(b'"');
        let unread = serde_json::from_slice::<String>(&quoted);
        let unread = unread.unwrap_or_else(|_| String::from_utf8_lossy(&self.raw).into_owned());
        let tokens = encoding.count(&format!("{}{unread}", self.text));
        let kept = (self.text.len() + self.raw.len()) as u64;
        if kept == 0 || self.bytes <= kept {
            return tokens;
        }
        // The rest is like its beginning.
        let all = u128::from(tokens) * u128::from(self.bytes) / u128::from(kept);
        u64::try_from(all).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_and_what_was_passed_over_is_one_text() {
        let (mut read, mut passed, mut whole) = (Said::default(), Said::default(), Said::default());
        read.text("Sehr geehrte ");
        passed.raw(br#"Damen und Herren, \"gr"#);
        passed.raw(br#"\u00fc\u00dfe\"\n"#);
        read.and(&passed);
        whole.text("Sehr geehrte Damen und Herren, \"grüße\"\n");
        for encoding in Encoding::ALL {
            assert_eq!(read.count(encoding), whole.count(encoding));
        }
        assert!(Said::default().is_empty() && Said::default().count(Encoding::O200k) == 0);
    }

    #[test]
    fn a_long_answer_is_counted_by_its_beginning() {
        let mut said = Said::default();
        (0..100_000).for_each(|_| said.text("four words, again, "));
        let one = Encoding::O200k.count("four words, again, ".repeat(100).as_str());
        let all = said.count(Encoding::O200k);
        assert!((one * 950..=one * 1_050).contains(&all), "{all} of {one} thousand");
        assert!(said.text.len() <= KEPT + 32);
    }
}
