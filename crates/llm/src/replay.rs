//! An answer that is there, told as a stream would have told it: event by event, text in pieces. And a stream that is there,
//! read as the answer that it tells.

use crate::bounds::Bounds;
use crate::frame::sse;
use crate::meaning::{Answer, Body, Collector, Delta, Error, Event, Kind};
use crate::{Dialect, Reply};

/// Bytes of text in a piece, about: what providers send at once.
const PIECE: usize = 24;

impl Answer {
    /// Can a stream tell all of it? Images, citations and the like it cannot.
    #[must_use]
    pub fn is_streamable(&self) -> bool {
        self.parts.iter().all(|part| {
            let empty = |value: &serde_json::Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            !matches!(part.body, Body::Media(_) | Body::ToolResult(_)) && part.extras.values().all(empty)
        })
    }

    /// The bytes of a stream in this dialect, one piece per event.
    #[must_use]
    pub fn replayed(&self, dialect: Dialect, reply: Reply) -> Vec<Vec<u8>> {
        let mut encoder = dialect.encoder(reply);
        let mut pieces = Vec::new();
        let mut say = |event: Event| {
            let mut out = Vec::new();
            encoder.push(event, &mut out);
            pieces.extend((!out.is_empty()).then_some(out));
        };
        for event in self.events() {
            match event {
                Event::Delta { block, delta: Delta::Text(text) } => {
                    cut(&text).for_each(|piece| say(Event::Delta { block, delta: Delta::Text(piece.to_owned()) }));
                }
                Event::Delta { block, delta: Delta::Arguments(text) } => {
                    cut(&text).for_each(|piece| say(Event::Delta { block, delta: Delta::Arguments(piece.to_owned()) }));
                }
                event => say(event),
            }
        }
        pieces
    }
}

/// White space, or a byte-order mark: nothing is known of what comes.
#[must_use]
pub fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| byte.is_ascii_whitespace() || sse::BOM.contains(byte))
}

/// Does a body begin as a whole answer does? Nothing that any dialect but Gemini's streams begins so.
#[must_use]
pub fn is_object(body: &[u8]) -> bool {
    body.strip_prefix(sse::BOM).unwrap_or(body).trim_ascii_start().first() == Some(&b'{')
}

impl Dialect {
    /// All the bytes of a stream, as one answer, or the error that it ended with. `None`: they are no stream.
    #[must_use]
    pub fn gathered(self, body: &[u8], bounds: Bounds) -> Option<Result<Answer, Error>> {
        let (mut decoder, mut events) = (self.decoder(bounds), Vec::new());
        decoder.push(body, &mut events);
        decoder.finish(&mut events);
        let has_begun = matches!(events.first(), Some(Event::Start(_)));
        let mut collector = Collector::new(self);
        events.iter().for_each(|event| collector.push(event));
        collector.finish().filter(|told| has_begun || told.as_ref().is_err_and(|error| error.kind != Kind::BadStream))
    }
}

/// At the end of a word where there is one; never inside a character.
fn cut(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let most = text.len().min(PIECE);
        let most = (most..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        let at = match text[..most].rfind(char::is_whitespace) {
            Some(at) if at > 0 && most < text.len() => at,
            _ => most,
        };
        let (piece, rest) = text.split_at(at);
        text = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meaning::{Part, Stop, ToolCall, Usage};

    fn answer() -> Answer {
        let call = ToolCall {
            id: "call_1".into(),
            name: "weather".into(),
            arguments: r#"{"city":"Zürich","days":[1,2,3],"why":"a rather long reason that is cut into pieces"}"#
                .into(),
            signature: None,
        };
        let parts = vec![
            Part::from(Body::Text(
                "Grüße! This is a text that no provider would send in one piece. 日本語日本語日本語日本語".into(),
            )),
            Part::from(Body::ToolCall(call)),
        ];
        let usage = Usage { input: 10, output: 20, ..Usage::default() };
        Answer {
            id: "x1".into(),
            model: "m".into(),
            parts,
            stop: Stop::ToolUse,
            usage: Some(usage),
            ..Answer::new(Dialect::OpenAiChat)
        }
    }

    #[test]
    fn every_dialect_replays_an_answer_in_pieces_that_its_own_reader_puts_together() {
        for dialect in Dialect::ALL {
            let reply = Reply { include_usage: true, sse: true, id: "abc".into(), ..Reply::default() };
            let pieces = answer().replayed(dialect, reply);
            assert!(pieces.len() > 6, "{dialect:?}: {} pieces", pieces.len());
            let told = dialect.gathered(&pieces.concat(), Bounds::default()).expect("it ends").expect("no error");
            assert_eq!(told.text(), answer().text(), "{dialect:?}");
            assert_eq!(told.stop, Stop::ToolUse, "{dialect:?}");
            assert_eq!(told.usage.map(|usage| usage.total()), Some(30), "{dialect:?}");
            let arguments = told.parts.iter().find_map(|part| match &part.body {
                Body::ToolCall(call) => serde_json::from_str::<serde_json::Value>(&call.arguments).ok(),
                _ => None,
            });
            assert_eq!(arguments.expect("a call")["city"], "Zürich", "{dialect:?}");
        }
    }

    #[test]
    fn what_is_no_stream_is_no_answer_and_an_error_in_one_is_told() {
        let gathered = |body: &str| Dialect::OpenAiChat.gathered(body.as_bytes(), Bounds::default());
        for body in ["", "no json", "<html>", "[DONE]", "data: [DONE]\n\n", ": ping\n\n", "data: {half"] {
            assert!(gathered(body).is_none(), "{body}");
        }
        let told = gathered("data: {\"error\":{\"message\":\"no\",\"type\":\"overloaded_error\"}}\n\n").unwrap();
        assert_eq!(told.unwrap_err().kind, Kind::Overloaded);
        let broken = gathered("data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n").unwrap();
        assert_eq!(broken.unwrap_err().kind, Kind::BadStream);
    }

    #[test]
    fn a_whole_answer_begins_as_no_stream_does() {
        for (body, is) in [
            (" \r\n{\"id\":1}", true),
            ("\u{feff}{", true),
            ("data: {}", false),
            (": ping", false),
            ("[{}]", false),
            ("", false),
        ] {
            assert_eq!(is_object(body.as_bytes()), is, "{body}");
        }
    }

    #[test]
    fn pieces_are_small_and_whole() {
        let text = "word ".repeat(20) + &"ö".repeat(40);
        let pieces: Vec<_> = cut(&text).collect();
        assert_eq!(pieces.concat(), text);
        assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE + 3), "{pieces:?}");
    }
}
