//! A stream that passes as it came, while its usage is read along. In the chat dialect the usage that we asked for is
//! held back if the caller did not ask (llm-wire line 1): a chunk of its own, or a member of another; nothing else is touched.

use memchr::memchr2;
use serde_json::Value;

use crate::bounds::Bounds;
use crate::dialect::Dialect;
use crate::frame::{Frame, Framing, sse};
use crate::kept::{Tag, tagged_event, tells_answer};
use crate::meaning::Usage;
use crate::seek;
use crate::splice;
use crate::{anthropic, bedrock, cohere, gemini, openai_chat, openai_responses};

#[derive(Debug)]
pub struct Tap {
    dialect: Dialect,
    /// Holds the usage chunk back.
    strip: bool,
    /// Tags ids of what the provider keeps.
    tag: Option<Tag>,
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
            tag: None,
            events: Events { max: bounds.frame, ..Events::default() },
            framing: dialect.framing(bounds),
            meter: Meter::default(),
            broken: false,
        }
    }

    /// Of the Responses dialect: ids lead back to who keeps what they name.
    pub fn tagging(tag: Tag, bounds: Bounds) -> Self {
        Self { tag: Some(tag), ..Self::new(Dialect::OpenAiResponses, true, bounds) }
    }

    /// What the caller gets of these bytes. Without a chunk to hold back they are handed on at once, whole events or not.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if let Some(tag) = self.tag {
            return self.events.push(bytes, &mut |event| out.extend_from_slice(&tagged_event(event, tag)));
        }
        if self.strip {
            let Self { events, meter, .. } = self;
            events.push(bytes, &mut |event| {
                meter.shows(event, out);
            });
            return;
        }
        out.extend_from_slice(bytes);
        self.read_along(bytes);
    }

    /// True: these bytes go on as they are, and were read along; what is `push`ed is copied.
    pub fn passes(&mut self, bytes: &[u8]) -> bool {
        if self.tag.is_some() {
            return self.events.is_between() && ends_an_event(bytes) && !tells_answer(bytes);
        }
        if self.strip {
            return self.events.is_between() && ends_an_event(bytes) && !tells_usage(bytes);
        }
        self.read_along(bytes);
        true
    }

    fn read_along(&mut self, bytes: &[u8]) {
        let Self { dialect, framing, meter, broken, .. } = self;
        // Whether we can read it is our trouble, not the caller's.
        *broken = *broken || framing.push(bytes, &mut |frame| meter.read(*dialect, frame)).is_err();
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(tag) = self.tag {
            let rest = std::mem::take(&mut self.events.held);
            return out.extend_from_slice(&tagged_event(&rest, tag));
        }
        if self.strip {
            let rest = std::mem::take(&mut self.events.held);
            return self.meter.shows(&rest, out);
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
    /// One SSE event of the chat dialect, without what it tells of usage.
    fn shows(&mut self, event: &[u8], out: &mut Vec<u8>) {
        match self.told(event) {
            Told::Nothing => out.extend_from_slice(event),
            Told::Beside => match without_usage(event) {
                Some(rest) => out.extend_from_slice(&rest),
                None => out.extend_from_slice(event),
            },
            Told::Alone => {}
        }
    }

    fn told(&mut self, event: &[u8]) -> Told {
        // Most chunks say `"usage":null`, which says nothing.
        if !tells_usage(event) {
            return Told::Nothing;
        }
        let mut told = Told::Nothing;
        let mut decoder = sse::Decoder::new(usize::MAX);
        let mut take = |frame: Frame<'_>| {
            let Ok(value) = serde_json::from_slice::<Value>(frame.data) else { return };
            self.chat(&value);
            let no_choices = value["choices"].as_array().is_some_and(Vec::is_empty);
            if value["usage"].is_object() {
                told = if no_choices { Told::Alone } else { Told::Beside };
            }
        };
        // Without a bound it cannot fail; the event is in memory already.
        let _ = decoder.push(event, &mut take);
        decoder.finish(&mut take);
        told
    }

    fn read(&mut self, dialect: Dialect, frame: Frame<'_>) {
        // Most events tell nothing of usage; those are not parsed.
        let tells = match dialect {
            Dialect::Gemini => seek::ANY_USAGE.find(frame.data).is_some(),
            _ => tells_usage(frame.data),
        };
        if !tells {
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

/// What an event tells of usage.
#[derive(Clone, Copy)]
enum Told {
    Nothing,
    /// Its answer goes on, or ends, in the same chunk.
    Beside,
    /// And nothing else.
    Alone,
}

/// An event's chunk without its `usage`; `None` if its JSON is not in one piece.
fn without_usage(event: &[u8]) -> Option<Vec<u8>> {
    let begin = event.iter().position(|byte| *byte == b'{')?;
    let end = event.iter().rposition(|byte| *byte == b'}')? + 1;
    let rest = splice::without(event.get(begin..end)?, "usage").ok()??;
    Some([&event[..begin], &rest, &event[end..]].concat())
}

/// Is there a member `usage` with anything in it? Most chunks of OpenAI's say that it is null.
fn tells_usage(bytes: &[u8]) -> bool {
    seek::USAGE_END.find_iter(bytes).any(|at| {
        // Bytes that end too early tell it with their next piece.
        match bytes[at + seek::USAGE_END.needle().len()..].trim_ascii_start() {
            [b':', value @ ..] => !value.trim_ascii_start().starts_with(b"null"),
            rest => rest.is_empty(),
        }
    })
}

/// The last byte ends a blank line, whatever stands before.
fn ends_an_event(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\n\n") || bytes.ends_with(b"\r\n\r\n")
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
        let (mut from, mut at) = (0, 0);
        while at < bytes.len() {
            let Some(length) = memchr2(b'\n', b'\r', &bytes[at..]) else {
                (self.in_line, self.after_cr) = (true, false);
                break;
            };
            if length > 0 {
                (self.in_line, self.after_cr) = (true, false);
            }
            let end = bytes[at + length];
            at += length + 1;
            // The LF of a CRLF ends nothing; it may lead the next piece, where readers pass over it.
            let ends = end == b'\r' || !self.after_cr;
            self.after_cr = end == b'\r';
            if ends && !std::mem::take(&mut self.in_line) {
                self.tell(&bytes[from..at], take);
                from = at;
            }
        }
        let rest = &bytes[from..];
        // What has no end is no usage chunk.
        if self.held.len() + rest.len() >= self.max {
            self.tell(rest, take);
        } else {
            self.held.extend_from_slice(rest);
        }
    }

    fn tell(&mut self, bytes: &[u8], take: &mut dyn FnMut(&[u8])) {
        if self.held.is_empty() {
            return take(bytes);
        }
        self.held.extend_from_slice(bytes);
        take(&self.held);
        self.held.clear();
    }

    fn is_between(&self) -> bool {
        self.held.is_empty() && !self.in_line && !self.after_cr
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

    /// As the gateway does: what passes is not copied.
    fn passed(include_usage: bool, step: usize) -> (String, Option<Usage>, usize) {
        let mut tap = Tap::new(Dialect::OpenAiChat, include_usage, Bounds::default());
        let (mut out, mut whole) = (Vec::new(), 0);
        for piece in STREAM.as_bytes().chunks(step) {
            if tap.passes(piece) {
                out.extend_from_slice(piece);
                whole += 1;
            } else {
                tap.push(piece, &mut out);
            }
        }
        tap.finish(&mut out);
        (String::from_utf8(out).unwrap(), tap.usage(), whole)
    }

    #[test]
    fn whole_events_without_usage_pass_uncopied() {
        let end = STREAM.find("data: {\"choices\":[{\"fin").unwrap();
        let mut tap = Tap::new(Dialect::OpenAiChat, false, Bounds::default());
        assert!(tap.passes(&STREAM.as_bytes()[..end]), "its usage is null");
        assert!(!tap.passes(&STREAM.as_bytes()[end..]), "the usage chunk is in it");
    }

    #[test]
    fn an_answers_id_is_tagged_however_its_stream_is_cut() {
        let stream = "data: {\"response\":{\"id\":\"resp_1\"}}\n\ndata: {\"delta\":\"resp_1\"}\n\ndata: {\"response\":{\"id\":\"resp_1\"}}";
        let tag = Tag::of("eu", "");
        let want = stream.replace("\"id\":\"resp_1\"", &format!("\"id\":\"{tag}_resp_1\""));
        for step in 1..=stream.len() {
            let (mut tap, mut out) = (Tap::tagging(tag, Bounds::default()), Vec::new());
            for piece in stream.as_bytes().chunks(step) {
                match tap.passes(piece) {
                    true => out.extend_from_slice(piece),
                    false => tap.push(piece, &mut out),
                }
            }
            tap.finish(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want, "step {step}");
        }
    }

    #[test]
    fn usage_beside_an_answer_is_taken_out_of_its_chunk() {
        const USAGE: &str = r#"{"prompt_tokens":7,"completion_tokens":2,"x":{"usage":{}}}"#;
        for (chunk, shown) in [
            (
                r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":U}"#,
                r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            ),
            (r#"{"usage":U, "choices":[{"delta":{}}]}"#, r#"{ "choices":[{"delta":{}}]}"#),
            (
                r#"{"id":"c","usage" : U,"choices":[{"delta":{"content":"}"}}]}"#,
                r#"{"id":"c","choices":[{"delta":{"content":"}"}}]}"#,
            ),
            (r#"{"choices":[{"delta":{"usage":U}}]}"#, r#"{"choices":[{"delta":{"usage":U}}]}"#),
        ] {
            let stream = format!("data: {}\r\n\r\ndata: [DONE]\n\n", chunk.replace('U', USAGE));
            let want = format!("data: {}\r\n\r\ndata: [DONE]\n\n", shown.replace('U', USAGE));
            for step in 1..=stream.len() {
                let mut tap = Tap::new(Dialect::OpenAiChat, false, Bounds::default());
                let mut out = Vec::new();
                stream.as_bytes().chunks(step).for_each(|piece| tap.push(piece, &mut out));
                tap.finish(&mut out);
                assert_eq!(String::from_utf8_lossy(&out), want, "step {step}");
            }
        }
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
            for (include_usage, want) in [(true, STREAM), (false, &*without)] {
                let (told, used, whole) = passed(include_usage, step);
                assert_eq!((&*told, used), (want, usage), "step {step}, {whole} passed");
            }
        }
    }
}
