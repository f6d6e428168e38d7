//! What is wanted of a whole answer that only passes: who gave it, what it used, why it ended. No text is copied.

use std::borrow::Cow;

use crate::dialect::Dialect;
use crate::json::Doc;
use crate::meaning::{Answer, Body, Error, Gist, Part, Stop, Usage};
use crate::{anthropic, bedrock, cohere, gemini, openai_chat, openai_responses};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    pub model: Box<str>,
    pub usage: Option<Usage>,
    pub gist: Gist,
    /// It has text.
    pub speaks: bool,
    /// Bytes of all that it says, thoughts and calls too, where the provider does not say what was used.
    pub text: u64,
}

impl Dialect {
    /// As [`Dialect::parse_answer`] would read the body of a 200. What is unusual is read that way.
    pub fn glance(self, body: &[u8]) -> Result<Glance, Error> {
        let doc = Doc::read(body);
        let seen = doc.as_ref().map(Doc::root).and_then(|root| match self {
            Self::OpenAiChat => openai_chat::glance(root),
            Self::OpenAiResponses => openai_responses::glance(root),
            Self::Anthropic => anthropic::glance(root),
            Self::Gemini => gemini::glance(root),
            Self::Bedrock => bedrock::glance(root),
            Self::Cohere => cohere::glance(root),
        });
        // Where the provider does not say what was used, all that it said is wanted.
        match seen.filter(|glance| glance.usage.is_some()) {
            Some(glance) => Ok(glance),
            None => self.parse_answer(body).map(|answer| Glance::of(&answer)),
        }
    }
}

impl Glance {
    /// `stop`: as the provider says; calls in the answer are worth more.
    pub(crate) fn new<'t>(
        model: Option<Cow<'_, str>>,
        usage: Option<Usage>,
        (stop, has_calls): (&Stop, bool),
        mut texts: impl Iterator<Item = Cow<'t, str>>,
    ) -> Self {
        let gist = if *stop == Stop::EndTurn && has_calls { Gist::Tools } else { stop.gist() };
        let speaks = texts.any(|text| !text.is_empty());
        Self { model: model.as_deref().unwrap_or_default().into(), usage, gist, speaks, text: 0 }
    }

    #[must_use]
    pub fn of(answer: &Answer) -> Self {
        let texts = answer.parts.iter().filter_map(|part| part.as_text()).map(Cow::Borrowed);
        let model = Some(Cow::Borrowed(&*answer.model));
        let glance = Self::new(model, answer.usage, (&answer.stop, answer.has_tool_calls()), texts);
        let bytes = |part: &Part| match &part.body {
            Body::Text(text) | Body::Refusal(text) | Body::Reasoning { text, .. } => text.len() as u64,
            Body::ToolCall(call) => (call.name.len() as u64).saturating_add(call.arguments.len() as u64),
            _ => 0,
        };
        let text = answer.parts.iter().map(bytes).fold(0, u64::saturating_add);
        Self { text: if answer.usage.is_some() { 0 } else { text }, ..glance }
    }
}
