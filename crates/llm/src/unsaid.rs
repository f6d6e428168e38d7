//! What of an answer the caller's dialect has no words for: blocks of a provider's own tools, pictures, sources of quotes. It
//! is left out, and named here so that nobody loses it silently (llm-wire's rule above all).

use serde_json::Value;

use crate::Dialect;
use crate::meaning::{Answer, BlockKind, Body, Event, Media, MediaKind, Source};

/// Named once each, in order.
const MOST: usize = 16;
const LONGEST: usize = 64;

/// What answers tell of their sources, beside their parts.
const SOURCES: [&str; 4] = ["citations", "groundingMetadata", "citationMetadata", "urlContextMetadata"];

/// Names of kinds, bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsaid {
    names: Vec<String>,
}

impl Unsaid {
    pub fn of_answer(answer: &Answer, to: Dialect) -> Self {
        let mut unsaid = Self::default();
        for part in &answer.parts {
            unsaid.add(of_body(&part.body, to));
            if answer.dialect != to {
                let quotes = ["citations", "annotations"].into_iter().find(|name| part.extras.contains_key(*name));
                unsaid.add(quotes.map(str::to_owned));
            }
        }
        for name in SOURCES.into_iter().filter(|name| answer.dialect != to && answer.extras.contains_key(*name)) {
            unsaid.add(Some(name.to_owned()));
        }
        unsaid
    }

    /// The name of what this event cannot say, if it was not told yet.
    pub fn event(&mut self, event: &Event, to: Dialect) -> Option<&str> {
        let Event::Open { kind, .. } = event else { return None };
        let name = match kind {
            BlockKind::Foreign { dialect, value } if *dialect != to => Some(named(value)),
            BlockKind::Media(media) => picture(media, to, true),
            _ => None,
        };
        self.add(name).then(|| self.names.last().map(String::as_str))?
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// For the header, after what of the call was dropped: `answer.web_search_tool_result, answer.image`.
    pub fn header(&self) -> String {
        self.names.iter().map(|name| format!("answer.{name}")).collect::<Vec<_>>().join(", ")
    }

    fn add(&mut self, name: Option<String>) -> bool {
        let Some(name) = name else { return false };
        let new = self.names.len() < MOST && !self.names.contains(&name);
        if new {
            self.names.push(name);
        }
        new
    }
}

fn of_body(body: &Body, to: Dialect) -> Option<String> {
    match body {
        Body::Foreign { dialect, value } if *dialect != to => Some(named(value)),
        // Of OpenAI's chat we read more kinds of pieces than anybody writes.
        Body::Foreign { dialect: Dialect::OpenAiChat, value } if value["type"] != "custom" => Some(named(value)),
        Body::Media(media) => picture(media, to, false),
        Body::ToolResult(_) => Some("tool_result".to_owned()),
        _ => None,
    }
}

/// `None`: it can be said.
fn picture(media: &Media, to: Dialect, streamed: bool) -> Option<String> {
    let inline = matches!(media.source, Source::Base64 { .. });
    let said = match to {
        Dialect::Gemini => inline,
        Dialect::OpenAiChat | Dialect::OpenAiResponses => inline && media.kind == MediaKind::Image,
        Dialect::Bedrock => inline && media.kind == MediaKind::Image && !streamed,
        Dialect::Anthropic | Dialect::Cohere => false,
    };
    let name = match media.kind {
        MediaKind::Image => "image",
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
        MediaKind::Document => "document",
    };
    (!said).then(|| name.to_owned())
}

/// Blocks have a type, or one field that is their kind.
fn named(value: &Value) -> String {
    let field = || value.as_object().and_then(|fields| fields.keys().next()).map(String::as_str);
    let name = value["type"].as_str().or_else(field).unwrap_or("block");
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::meaning::Part;

    #[test]
    fn what_another_dialect_cannot_say_is_named_once() {
        let mut answer = Answer::new(Dialect::Anthropic);
        let tool = |kind: &str| Body::Foreign { dialect: Dialect::Anthropic, value: json!({"type": kind}) }.into();
        let source = Source::Base64 { media_type: "image/png".into(), data: "aa==".into() };
        let image = Body::Media(Media { kind: MediaKind::Image, source, name: None, detail: None });
        let mut quoted = Part::text("so it says");
        quoted.extras.insert("citations".into(), json!([{}]));
        answer.parts = vec![
            tool("server_tool_use"),
            tool("web_search_tool_result"),
            tool("server_tool_use"),
            quoted,
            image.into(),
        ];
        for (to, want) in [
            (Dialect::OpenAiChat, "answer.server_tool_use, answer.web_search_tool_result, answer.citations"),
            (Dialect::Cohere, "answer.server_tool_use, answer.web_search_tool_result, answer.citations, answer.image"),
            (Dialect::Anthropic, "answer.image"),
        ] {
            assert_eq!(Unsaid::of_answer(&answer, to).header(), want, "{to:?}");
        }
        let mut unsaid = Unsaid::default();
        let told: Vec<Option<String>> = answer
            .events()
            .iter()
            .filter(|event| matches!(event, Event::Open { .. }))
            .map(|event| unsaid.event(event, Dialect::Cohere).map(str::to_owned))
            .collect();
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(told, [name("server_tool_use"), name("web_search_tool_result"), None, None, name("image")]);
    }
}
