//! Which pieces of a stream that only passes must be read, once its first token was seen: those that tell usage, the end, an
//! error or a call. The rest is text, and of that only its length is wanted, for an estimate where nobody says. It is read
//! where it stands, in one pass over the piece's `delta`: what pieces have around it, padding too, is nobody's words.

use memchr::memchr2;

use crate::Dialect;
use crate::frame::{Frame, FrameKind};
use crate::seek::{self, Seek};

/// Text that nobody read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Of it; one without text is none.
    pub pieces: u64,
    /// Its bytes, as it is said.
    pub text: u64,
}

impl Skipped {
    pub(crate) fn add(&mut self, text: Text<'_>) {
        if text.bytes > 0 {
            self.pieces = self.pieces.saturating_add(1);
            self.text = self.text.saturating_add(text.bytes as u64);
        }
    }
}

/// What stands between the quotes of a JSON string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text<'d> {
    /// Escaped as it came.
    pub(crate) raw: &'d [u8],
    /// Of what it says.
    pub(crate) bytes: usize,
}

/// Each text of a piece that is passed over: words, thoughts, arguments of calls.
pub(crate) fn texts<'d>(dialect: Dialect, frame: Frame<'d>, take: &mut impl FnMut(Text<'d>)) {
    let data = frame.data;
    for at in seek::DELTA.find_iter(data) {
        let after = at + seek::DELTA.needle().len();
        let Some(value) = value_at(data, after) else { continue };
        match (data[value], dialect) {
            (b'{', _) => drop(in_delta(data, value, take)),
            // Sounds are no text.
            (b'"', Dialect::OpenAiResponses) if !frame.name.ends_with("audio.delta") => {
                string(data, value + 1).into_iter().for_each(|(text, _)| take(text));
            }
            _ => {}
        }
    }
}

/// Where the value of a name begins that ends here. `None`: it was no name.
fn value_at(data: &[u8], name_end: usize) -> Option<usize> {
    let colon = unblank(data, name_end);
    (data.get(colon) == Some(&b':')).then(|| unblank(data, colon + 1)).filter(|value| *value < data.len())
}

fn unblank(data: &[u8], mut at: usize) -> usize {
    while data.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// What a member of a delta holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Words,
    /// The same thought may be told by several names.
    Thought(u8),
    /// Proofs, sources, pictures, padding.
    Else,
}

impl Holds {
    fn of(name: &[u8]) -> Self {
        match name {
            b"content" | b"text" | b"refusal" | b"partial_json" | b"thinking" | b"message" | b"toolUse"
            | b"reasoningContent" | b"audio" | b"function_call" => Self::Words,
            b"reasoning_content" => Self::Thought(1),
            b"reasoning" => Self::Thought(2),
            b"reasoning_details" => Self::Thought(3),
            _ => Self::Else,
        }
    }
}

/// Of what stands deeper than the delta's own members.
fn is_said(name: &[u8]) -> bool {
    matches!(
        name,
        b"text" | b"thinking" | b"content" | b"input" | b"arguments" | b"transcript" | b"tool_plan" | b"summary"
    )
}

/// `None`: it is broken JSON.
fn in_delta<'d>(data: &'d [u8], from: usize, take: &mut impl FnMut(Text<'d>)) -> Option<()> {
    let (mut at, mut depth) = (from, 0_usize);
    let (mut name, mut holds): (&[u8], Holds) = (b"", Holds::Else);
    let mut thought = None;
    loop {
        match *data.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Some(()),
            b'}' | b']' => depth -= 1,
            b'"' => {
                let (text, end) = string(data, at + 1)?;
                at = unblank(data, end + 1);
                if data.get(at) != Some(&b':') {
                    let told = match holds {
                        Holds::Words => depth == 1 || is_said(name),
                        Holds::Thought(by) if text.bytes > 0 && (depth == 1 || is_said(name)) => {
                            *thought.get_or_insert(by) == by
                        }
                        _ => false,
                    };
                    if told {
                        take(text);
                    }
                    continue;
                }
                name = text.raw;
                if depth == 1 {
                    holds = Holds::of(name);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// A string from behind its first quote, and where its last one stands.
fn string(data: &[u8], from: usize) -> Option<(Text<'_>, usize)> {
    let (mut at, mut bytes) = (from, 0);
    loop {
        let plain = memchr2(b'"', b'\\', data.get(at..)?)?;
        (at, bytes) = (at + plain, bytes + plain);
        if data[at] == b'"' {
            return Some((Text { raw: &data[from..at], bytes }, at));
        }
        let (written, said) = escape(data.get(at + 1..)?);
        (at, bytes) = (at + 1 + written, bytes + said);
    }
}

/// Bytes of an escape behind its backslash, and of what it says. Half of a surrogate pair is half of four.
fn escape(after: &[u8]) -> (usize, usize) {
    let code = || u32::from_str_radix(std::str::from_utf8(after.get(1..5)?).ok()?, 16).ok();
    match after.first() {
        Some(b'u') => match code() {
            Some(0..0x80) => (5, 1),
            Some(0x80..0x800 | 0xD800..0xE000) => (5, 2),
            Some(_) => (5, 3),
            None => (1, 1),
        },
        _ => (1, 1),
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

    fn told(dialect: Dialect, name: &str, data: &str) -> (Vec<String>, Skipped) {
        let (mut raw, mut skipped) = (Vec::new(), Skipped::default());
        texts(dialect, frame(name, data), &mut |text| {
            skipped.add(text);
            raw.push(String::from_utf8(text.raw.to_vec()).unwrap());
        });
        (raw, skipped)
    }

    #[test]
    fn the_text_of_a_piece_is_found_without_reading_it() {
        use Dialect::{Anthropic, Bedrock, Cohere, OpenAiChat, OpenAiResponses};
        for (dialect, data, want) in [
            (OpenAiChat, r#"{"choices":[{"delta":{"content": "a\"b\\"},"x":"y"}]}"#, &[r#"a\"b\\"#][..]),
            (OpenAiChat, r#"{"choices":[{"delta" : {"reasoning_content":"a","content":null}}]}"#, &["a"]),
            (OpenAiChat, r#"{"choices":[{"delta":{"role":"assistant"}}]}"#, &[]),
            (OpenAiChat, r#"{"choices":[{"delta":{"content":"cut\"#, &[]),
            (OpenAiChat, r#"{"choices":[{"delta":{"content":null,"refusal":"no"}}]}"#, &["no"]),
            (
                OpenAiChat,
                r#"{"choices":[{"delta":{"content":"","reasoning":"hm","reasoning_details":[{"type":"reasoning.text","text":"hm","signature":"zzz"}]}}]}"#,
                &["", "hm"],
            ),
            (
                OpenAiChat,
                r#"{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"so"}]},{"type":"text","text":"it"}]}}]}"#,
                &["so", "it"],
            ),
            (
                OpenAiChat,
                r#"{"choices":[{"delta":{"content":"x","annotations":[{"url_citation":{"content":"long"}}]}},{"delta":{"content":"y"}}]}"#,
                &["x", "y"],
            ),
            (OpenAiResponses, r#"{"type":"response.output_text.delta","delta":" the","obfuscation":"pad"}"#, &[" the"]),
            (Anthropic, r#"{"delta":{"type":"text_delta","text":"a"}}"#, &["a"]),
            (Anthropic, r#"{"delta":{"type":"input_json_delta","partial_json":"{\"a"}}"#, &[r#"{\"a"#]),
            (Anthropic, r#"{"delta":{"type":"thinking_delta","thinking":"a"}}"#, &["a"]),
            (Anthropic, r#"{"delta":{"type":"signature_delta","signature":"a"}}"#, &[]),
            (Bedrock, r#"{"contentBlockIndex":0,"delta":{"text":"a"},"p":"abcdefgh"}"#, &["a"]),
            (Bedrock, r#"{"delta":{"toolUse":{"input":"a"}},"p":"abcdefgh"}"#, &["a"]),
            (Bedrock, r#"{"delta":{"reasoningContent":{"text":"a"}},"p":"abcd"}"#, &["a"]),
            (Bedrock, r#"{"delta":{"reasoningContent":{"signature":"a"}},"p":"abcd"}"#, &[]),
            (Cohere, r#"{"type":"content-delta","delta":{"message":{"content":{"thinking":"a"}}}}"#, &["a"]),
            (Cohere, r#"{"delta":{"message":{"tool_calls":{"function":{"arguments":"a"}}}}}"#, &["a"]),
            (Cohere, r#"{"delta":{"message":{"tool_plan":"a"}}}"#, &["a"]),
        ] {
            assert_eq!(told(dialect, "", data).0, want, "{data}");
        }
        assert_eq!(told(OpenAiResponses, "response.audio.delta", r#"{"delta":"AAAA"}"#).0, [""; 0]);
    }

    #[test]
    fn the_length_of_text_is_that_of_what_it_says() {
        for text in ["", "plain", "\"quoted\"\n", "größe", "計算", "🙂 and \u{1}", "\\u0041"] {
            let plain = format!(r#"{{"delta":{{"text":{}}}}}"#, serde_json::Value::from(text));
            let escaped = plain.chars().fold(String::new(), |mut all, c| {
                let mut halves = [0; 2];
                if c.is_ascii() {
                    all.push(c);
                } else {
                    c.encode_utf16(&mut halves).iter().for_each(|half| all.push_str(&format!("\\u{half:04x}")));
                }
                all
            });
            for data in [plain, escaped] {
                let skipped = told(Dialect::Anthropic, "", &data).1;
                assert_eq!(skipped, Skipped { pieces: u64::from(!text.is_empty()), text: text.len() as u64 }, "{data}");
            }
        }
    }
}
