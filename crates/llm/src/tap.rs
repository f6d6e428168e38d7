//! A stream that passes as it came, while its usage is read along. In the chat dialect the usage chunk that we asked for
//! is held back if the caller did not ask (llm-wire line 1); nothing else is touched.

use serde_json::Value;

use crate::bounds::Bounds;
use crate::dialect::Dialect;
use crate::frame::{Frame, Framing, sse};
use crate::meaning::Usage;
use crate::{anthropic, bedrock, cohere, gemini, openai_chat, openai_responses};

#[derive(Debug)]
pub struct Tap {
    dialect: Dialect,
    /// Holds the usage chunk back.
    strip: bool,
    events: Events,
    framing: Framing,
    meter: Meter,
    broken: bool,
}

impl Tap {
    /// `include_usage`: the caller asked for the usage chunk himself.
    pub fn new(dialect: Dialect, include_usage: bool, bounds: Bounds) -> Self {
        Self {
            dialect,
            strip: dialect == Dialect::OpenAiChat && !include_usage,
            events: Events { max: bounds.frame, ..Events::default() },
            framing: dialect.framing(bounds),
            meter: Meter::default(),
            broken: false,
        }
    }

    /// What the caller gets of these bytes. Without a chunk to hold back they are handed on at once, whole events or not.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.strip {
            let Self { events, meter, .. } = self;
            events.push(bytes, &mut |event| {
                if !meter.takes_chunk(event) {
                    out.extend_from_slice(event);
                }
            });
            return;
        }
        out.extend_from_slice(bytes);
        let Self { dialect, framing, meter, broken, .. } = self;
        // Whether we can read it is our trouble, not the caller's.
        *broken = *broken || framing.push(bytes, &mut |frame| meter.read(*dialect, frame)).is_err();
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.strip {
            let rest = std::mem::take(&mut self.events.held);
            if !self.meter.takes_chunk(&rest) {
                out.extend_from_slice(&rest);
            }
            return;
        }
        let Self { dialect, framing, meter, .. } = self;
        framing.finish(&mut |frame| meter.read(*dialect, frame));
    }

    /// The last report so far: what a call that was hung up has used, if its provider told.
    pub fn usage(&self) -> Option<Usage> {
        self.meter.usage
    }
}

#[derive(Debug, Default)]
struct Meter {
    usage: Option<Usage>,
    anthropic: anthropic::Report,
}

impl Meter {
    /// One SSE event of the chat dialect: true if it is the chunk that only tells usage.
    fn takes_chunk(&mut self, event: &[u8]) -> bool {
        // Most chunks say `"usage":null`, which says nothing.
        if !tells_usage(event) {
            return false;
        }
        let mut only_usage = false;
        let mut decoder = sse::Decoder::new(usize::MAX);
        let mut take = |frame: Frame<'_>| {
            let Ok(value) = serde_json::from_slice::<Value>(frame.data) else { return };
            self.chat(&value);
            let no_choices = value["choices"].as_array().is_some_and(Vec::is_empty);
            only_usage |= no_choices && value["usage"].is_object();
        };
        // Without a bound it cannot fail; the event is in memory already.
        let _ = decoder.push(event, &mut take);
        decoder.finish(&mut take);
        only_usage
    }

    fn read(&mut self, dialect: Dialect, frame: Frame<'_>) {
        // Most events tell nothing of usage; those are not parsed.
        if !contains(frame.data, b"sage") {
            return;
        }
        let Ok(value) = serde_json::from_slice::<Value>(frame.data) else { return };
        let told = match dialect {
            Dialect::OpenAiChat => return self.chat(&value),
            Dialect::OpenAiResponses => {
                let response = &value["response"];
                openai_responses::parse_usage(&response["usage"]).map(|usage| usage.at(&response["service_tier"]))
            }
            Dialect::Anthropic => {
                let told = self.anthropic.read(&value["message"]["usage"]);
                self.anthropic.read(&value["usage"]).or(told)
            }
            Dialect::Gemini => gemini::parse_usage(&value["usageMetadata"]),
            Dialect::Bedrock => {
                bedrock::parse_usage(&value["usage"]).map(|usage| usage.at(&value["serviceTier"]["type"]))
            }
            Dialect::Cohere => cohere::parse_usage(&value["delta"]["usage"]),
        };
        self.usage = told.or(self.usage);
    }

    fn chat(&mut self, value: &Value) {
        let told = [&value["usage"], &value["x_groq"]["usage"]].into_iter().find_map(openai_chat::parse_usage);
        self.usage = told.map(|usage| usage.at(&value["service_tier"])).or(self.usage);
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    memchr::memmem::find(bytes, word).is_some()
}

/// Is there a `usage` that is an object?
fn tells_usage(event: &[u8]) -> bool {
    const NAME: &[u8] = b"\"usage\"";
    memchr::memmem::find_iter(event, NAME).any(|at| {
        let rest = event[at + NAME.len()..].trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().first() == Some(&b'{'))
    })
}

/// Cuts a stream behind each blank line, bytes untouched.
#[derive(Debug, Default)]
struct Events {
    max: usize,
    held: Vec<u8>,
    in_line: bool,
    after_cr: bool,
}

impl Events {
    fn push(&mut self, bytes: &[u8], take: &mut dyn FnMut(&[u8])) {
        for byte in bytes {
            self.held.push(*byte);
            // The LF of a CRLF ends nothing; it may lead the next piece, where readers pass over it.
            let ends = match byte {
                b'\n' => !std::mem::take(&mut self.after_cr),
                b'\r' => true,
                _ => false,
            };
            self.after_cr = *byte == b'\r';
            if !ends {
                self.in_line |= !matches!(byte, b'\n' | b'\r');
            }
            // What has no end is no usage chunk.
            if ends && !std::mem::take(&mut self.in_line) || self.held.len() >= self.max {
                take(&self.held);
                self.held.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"usage\"}}],\"usage\":null}\r\n\r\n: c\n\n\
        data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";

    fn tapped(include_usage: bool, step: usize) -> (String, Option<Usage>) {
        let mut tap = Tap::new(Dialect::OpenAiChat, include_usage, Bounds::default());
        let mut out = Vec::new();
        STREAM.as_bytes().chunks(step).for_each(|piece| tap.push(piece, &mut out));
        tap.finish(&mut out);
        (String::from_utf8(out).unwrap(), tap.usage())
    }

    #[test]
    fn line_1_the_usage_chunk_is_read_always_and_shown_only_if_asked_for() {
        let usage = Some(Usage { input: 7, output: 2, ..Usage::default() });
        let start = STREAM.find("data: {\"choices\":[],").unwrap();
        let end = STREAM.find("data: [DONE]").unwrap();
        let without = format!("{}{}", &STREAM[..start], &STREAM[end..]);
        for step in 1..STREAM.len() {
            assert_eq!(tapped(true, step), (STREAM.to_owned(), usage), "step {step}");
            assert_eq!(tapped(false, step), (without.clone(), usage), "step {step}");
        }
    }
}
