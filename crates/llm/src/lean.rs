//! Which pieces of a stream that only passes must be read, once its first token was seen: those that tell usage, the end, an
//! error or a call. The rest is text, and of that only its length is wanted, for an estimate where nobody says.

use memchr::memchr2;

use crate::Dialect;
use crate::frame::{Frame, FrameKind};
use crate::seek::{self, Seek};

/// Pieces that nobody read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    pub pieces: u64,
    bytes: u64,
    /// What every piece has around its text is no longer than this.
    shortest: u64,
}

impl Skipped {
    pub(crate) fn add(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.shortest = if self.pieces == 0 { bytes } else { self.shortest.min(bytes) };
        self.pieces += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Bytes of text, about.
    pub fn text(&self) -> u64 {
        self.bytes.saturating_sub(self.shortest.saturating_mul(self.pieces)).saturating_add(self.pieces)
    }
}

/// The text of a piece that is passed over, escaped as it came; where models count tokens as is known.
pub(crate) fn text_of(dialect: Dialect, data: &[u8]) -> Option<&[u8]> {
    let names: &[&Seek] = match dialect {
        Dialect::OpenAiChat => &[&seek::CONTENT, &seek::REASONING_CONTENT, &seek::REASONING],
        Dialect::OpenAiResponses => &[&seek::DELTA],
        _ => return None,
    };
    names.iter().find_map(|name| string_of(name, data))
}

fn string_of<'d>(name: &Seek, data: &'d [u8]) -> Option<&'d [u8]> {
    let after = &data[name.find(data)? + name.needle().len()..];
    let value = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        let end = at + memchr2(b'"', b'\\', value.get(at..)?)?;
        if value[end] == b'"' {
            return Some(&value[..end]);
        }
        at = end + 2;
    }
}

/// May this piece be passed over?
pub(crate) fn is_text(dialect: Dialect, frame: Frame<'_>) -> bool {
    if frame.kind == FrameKind::Exception {
        return false;
    }
    match dialect {
        Dialect::OpenAiChat => is_chat_text(frame.data),
        Dialect::OpenAiResponses => frame.name.ends_with(".delta"),
        Dialect::Anthropic => frame.name == "content_block_delta",
        // Each chunk reports the usage until then, and a call in any changes why it ended.
        Dialect::Gemini => false,
        Dialect::Bedrock => frame.name == "contentBlockDelta",
        Dialect::Cohere => matches!(frame.name, "content-delta" | "tool-call-delta" | "tool-plan-delta"),
    }
}

/// Inside a JSON string a quote is escaped, so a name with its quotes is a name.
fn is_chat_text(data: &[u8]) -> bool {
    let is_null = |name: &Seek| match name.find(data) {
        None => true,
        Some(at) => {
            let rest = data[at + name.needle().len()..].trim_ascii_start();
            rest.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"null"))
        }
    };
    data.starts_with(b"{")
        && is_null(&seek::FINISH)
        && is_null(&seek::USAGE)
        && is_null(&seek::TOOLS)
        && seek::ERROR.find(data).is_none()
        && seek::GROQ.find(data).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame<'a>(name: &'a str, data: &'a str) -> Frame<'a> {
        Frame { kind: FrameKind::Data, name, data: data.as_bytes() }
    }

    #[test]
    fn only_text_is_passed_over() {
        for (data, is_text) in [
            (
                r#"{"choices":[{"delta":{"content":"a \"usage\":{ \"error\""},"finish_reason":null}],"usage": null}"#,
                true,
            ),
            (r#"{"choices":[{"delta":{"content":"a"}}]}"#, true),
            (r#"{"choices":[{"delta":{},"finish_reason": "stop"}]}"#, false),
            (r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, false),
            (r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, false),
            (r#"{"error":{"message":"no"}}"#, false),
            ("[DONE]", false),
            ("", false),
        ] {
            assert_eq!(super::is_text(Dialect::OpenAiChat, frame("", data)), is_text, "{data}");
        }
        assert!(is_text(Dialect::Anthropic, frame("content_block_delta", "{}")));
        assert!(!is_text(Dialect::Anthropic, frame("message_delta", "{}")));
        assert!(!is_text(Dialect::Gemini, frame("", "{}")));
        let exception = Frame { kind: FrameKind::Exception, ..frame("contentBlockDelta", "{}") };
        assert!(!is_text(Dialect::Bedrock, exception));
    }

    #[test]
    fn the_text_of_a_piece_is_found_without_reading_it() {
        for (dialect, data, text) in [
            (Dialect::OpenAiChat, r#"{"choices":[{"delta":{"content": "a\"b\\"},"x":"y"}]}"#, Some(r#"a\"b\\"#)),
            (Dialect::OpenAiChat, r#"{"choices":[{"delta":{"reasoning_content":"a","content":null}}]}"#, Some("a")),
            (Dialect::OpenAiChat, r#"{"choices":[{"delta":{"role":"assistant"}}]}"#, None),
            (Dialect::OpenAiChat, r#"{"choices":[{"delta":{"content":"cut\"#, None),
            (Dialect::OpenAiResponses, r#"{"type":"response.output_text.delta","delta":" the"}"#, Some(" the")),
            (Dialect::Anthropic, r#"{"delta":{"text":"a"}}"#, None),
        ] {
            assert_eq!(text_of(dialect, data.as_bytes()), text.map(str::as_bytes), "{data}");
        }
    }

    #[test]
    fn the_length_of_text_is_what_pieces_have_beyond_the_shortest() {
        let mut skipped = Skipped::default();
        [100, 103, 110].into_iter().for_each(|bytes| skipped.add(bytes));
        assert_eq!((skipped.pieces, skipped.text()), (3, 16));
    }
}
