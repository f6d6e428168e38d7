//! How many tokens a prompt has: asked of a provider in another dialect than the caller's, or estimated where it cannot be
//! asked.

use serde_json::{Map, Value, json};

use crate::json::{self, Object, whole};
use crate::meaning::{Body, Call, Error, Part, Tool};
use crate::{Dialect, Losses, Target};

/// Bytes of text that are a token, about; what each message adds; a picture of usual size.
const BYTES: u64 = 4;
const MESSAGE: u64 = 4;
const PICTURE: u64 = 1_000;

/// The provider's call. `None`: this dialect has none. `whole_request`: Gemini's own API wants the request as it would be
/// made, Vertex AI its fields.
pub fn render(call: &Call, to: Dialect, target: &Target, whole_request: bool) -> Option<Vec<u8>> {
    let mut losses = Losses::new(call.dialect);
    let body = json::read_json(&to.render_call(call, target, &mut losses)).ok()?;
    let only = |names: &[&str]| -> Map<String, Value> {
        let fields = body.as_object().into_iter().flatten();
        fields
            .filter(|(name, _)| names.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let asked = match to {
        Dialect::Anthropic => Value::Object(only(&["model", "messages", "system", "tools", "tool_choice", "thinking"])),
        Dialect::OpenAiResponses => {
            Value::Object(only(&["model", "input", "instructions", "tools", "tool_choice", "reasoning", "text"]))
        }
        Dialect::Bedrock => {
            let converse = only(&["messages", "system", "toolConfig", "additionalModelRequestFields"]);
            json!({"input": {"converse": converse}})
        }
        Dialect::Gemini if whole_request => {
            let mut request = body.clone();
            request["model"] = format!("models/{}", target.model).into();
            json!({"generateContentRequest": request})
        }
        Dialect::Gemini => Value::Object(only(&["contents", "systemInstruction", "tools", "generationConfig"])),
        Dialect::OpenAiChat | Dialect::Cohere => return None,
    };
    Some(json::text(&asked).into_bytes())
}

/// What the provider counted.
pub fn parse(from: Dialect, body: &[u8]) -> Result<u64, Error> {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let told = match from {
        Dialect::Gemini => &value["totalTokens"],
        Dialect::Bedrock => &value["inputTokens"],
        _ => &value["input_tokens"],
    };
    whole(told).ok_or_else(|| Error::bad_stream("the provider did not say how many tokens there are"))
}

/// As the caller reads it.
pub fn answer(tokens: u64, to: Dialect) -> Vec<u8> {
    let name = match to {
        Dialect::Gemini => "totalTokens",
        Dialect::Bedrock => "inputTokens",
        _ => "input_tokens",
    };
    Object::new().with(name, tokens).bytes()
}

/// From its bytes: an estimate, to be told as one.
pub fn estimate(call: &Call) -> u64 {
    let of = |part: &Part| -> u64 {
        match &part.body {
            Body::Text(text) | Body::Refusal(text) | Body::Reasoning { text, .. } => tokens(text.len()),
            Body::Media(_) => part.as_plain().map_or(PICTURE, |text| tokens(text.len())),
            Body::ToolCall(call) => tokens(call.name.len() + call.arguments.len()),
            Body::ToolResult(result) => {
                let pictures = result.content.iter().filter(|part| part.as_plain().is_none()).count() as u64;
                let texts: u64 = result.texts().iter().map(|text| tokens(text.len())).sum();
                texts.saturating_add(pictures.saturating_mul(PICTURE))
            }
            Body::Foreign { value, .. } => tokens(value.to_string().len()),
            Body::Redacted(signature) => tokens(signature.value.len()),
        }
    };
    let said = call.messages.iter().flat_map(|message| &message.parts).chain(&call.system).map(of);
    let tools = call.tools.iter().map(|tool| match tool {
        Tool::Function(tool) => {
            let schema = tool.schema.as_ref().map_or(0, |schema| schema.to_string().len());
            tokens(tool.name.len() + tool.description.as_ref().map_or(0, String::len) + schema)
        }
        Tool::Foreign { value, .. } => tokens(value.to_string().len()),
    });
    let messages = (call.messages.len() as u64).saturating_mul(MESSAGE);
    said.chain(tools).fold(messages, u64::saturating_add)
}

fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Site;

    fn call() -> Call {
        let body = json!({"model": "m", "max_tokens": 9, "system": "Be brief.", "temperature": 0.5,
            "messages": [{"role": "user", "content": "How many?"}],
            "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]});
        Dialect::Anthropic.parse_call(body.to_string().as_bytes(), Site::default()).unwrap()
    }

    fn asked(to: Dialect, whole: bool) -> Option<Value> {
        let body = render(&call(), to, &Target::guess(to, "x"), whole)?;
        serde_json::from_slice(&body).ok()
    }

    #[test]
    fn a_provider_is_asked_in_its_own_words_and_for_nothing_but_the_prompt() {
        let anthropic = asked(Dialect::Anthropic, false).unwrap();
        assert_eq!(
            (&anthropic["model"], &anthropic["max_tokens"], &anthropic["temperature"]),
            (&"x".into(), &Value::Null, &Value::Null)
        );
        let gemini = asked(Dialect::Gemini, true).unwrap();
        assert_eq!(gemini["generateContentRequest"]["model"], "models/x");
        assert!(asked(Dialect::Gemini, false).unwrap()["contents"].is_array());
        let bedrock = asked(Dialect::Bedrock, false).unwrap();
        assert_eq!(bedrock["input"]["converse"]["messages"][0]["content"][0]["text"], "How many?");
        assert!(bedrock["input"]["converse"]["inferenceConfig"].is_null());
        assert!(asked(Dialect::OpenAiResponses, false).unwrap()["input"].is_array());
        assert_eq!(asked(Dialect::OpenAiChat, false), None);
    }

    #[test]
    fn counts_are_read_and_told_in_every_dialect() {
        for dialect in [Dialect::Anthropic, Dialect::Gemini, Dialect::Bedrock, Dialect::OpenAiResponses] {
            assert_eq!(parse(dialect, &answer(14, dialect)).unwrap(), 14, "{dialect:?}");
            assert!(parse(dialect, b"{}").is_err() && parse(dialect, b"?").is_err());
        }
    }

    #[test]
    fn an_estimate_knows_texts_tools_and_pictures() {
        let without = estimate(&call());
        assert!((10..40).contains(&without), "{without}");
        let mut with = call();
        let body = json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "image", "source":
            {"type": "base64", "media_type": "image/png", "data": "A".repeat(100_000)}}]}]});
        with.messages = Dialect::Anthropic.parse_call(body.to_string().as_bytes(), Site::default()).unwrap().messages;
        assert!((1_000..1_100).contains(&estimate(&with)), "a picture is no text");
    }
}
