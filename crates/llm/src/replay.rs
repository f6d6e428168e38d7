//! An answer that is there, told as a stream would have told it: event by event, text in pieces.

use crate::meaning::{Answer, Body, Delta, Event};
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
    use crate::bounds::Bounds;
    use crate::meaning::{Collector, Part, Stop, ToolCall, Usage};

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
            let mut decoder = dialect.decoder(Bounds::default());
            let (mut events, mut collector) = (Vec::new(), Collector::new(dialect));
            pieces.iter().for_each(|piece| decoder.push(piece, &mut events));
            decoder.finish(&mut events);
            events.iter().for_each(|event| collector.push(event));
            let told = collector.finish().expect("it ends").expect("no error");
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
    fn pieces_are_small_and_whole() {
        let text = "word ".repeat(20) + &"ö".repeat(40);
        let pieces: Vec<_> = cut(&text).collect();
        assert_eq!(pieces.concat(), text);
        assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE + 3), "{pieces:?}");
    }
}
