//! What is wanted of a whole answer that only passes: who gave it, what it used, why it ended. No text is copied.

use std::borrow::Cow;

use crate::dialect::Dialect;
use crate::json::Doc;
use crate::meaning::{Answer, Error, Gist, Stop, Usage};
use crate::{anthropic, bedrock, cohere, gemini, openai_chat, openai_responses};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    pub model: Box<str>,
    pub usage: Option<Usage>,
    pub gist: Gist,
    /// It has text.
    pub speaks: bool,
    /// Bytes of it, where the provider does not say what was used.
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
        match seen {
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
        texts: impl Iterator<Item = Cow<'t, str>>,
    ) -> Self {
        let gist = if *stop == Stop::EndTurn && has_calls { Gist::Tools } else { stop.gist() };
        let text = texts.map(|text| text.len() as u64).fold(0, u64::saturating_add);
        Self {
            model: model.as_deref().unwrap_or_default().into(),
            usage,
            gist,
            speaks: text > 0,
            text: if usage.is_some() { 0 } else { text },
        }
    }

    #[must_use]
    pub fn of(answer: &Answer) -> Self {
        let texts = answer.parts.iter().filter_map(|part| part.as_text()).map(Cow::Borrowed);
        let model = Some(Cow::Borrowed(&*answer.model));
        Self::new(model, answer.usage, (&answer.stop, answer.has_tool_calls()), texts)
    }
}
