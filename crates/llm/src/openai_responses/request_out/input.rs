//! [`Message`]s → input items: messages, calls, outputs, reasoning.

use serde_json::{Value, json};

use crate::Dialect;
use crate::ids;
use crate::json::Object;
use crate::lost::Losses;
use crate::meaning::{Body, Call, Media, MediaKind, Message, Part, Role, Source, ToolCall, ToolResult};
use crate::openai_chat::request_out::content::data_url;
use crate::openai_responses::thoughts;

pub(super) fn write(call: &Call, body: &mut Object, losses: &mut Losses) {
    let texts: Vec<&str> = call.system.iter().filter_map(Part::as_text).collect();
    if !texts.is_empty() {
        body.put("instructions", texts.join("\n\n"));
    }
    for (i, _) in call.system.iter().enumerate().filter(|(_, part)| part.as_text().is_none()) {
        losses.meaning(format!("system[{i}]"), "instructions are text only");
    }
    for (i, _) in call.system.iter().enumerate().filter(|(_, part)| part.cache.is_some()) {
        losses.hint(format!("system[{i}].cache_control"), "the provider caches by itself");
    }
    let mut items = Vec::new();
    for message in &call.messages {
        if call.dialect != Dialect::OpenAiResponses {
            losses.message(message, true);
        }
        let mut writer = Writer { call, message, losses, items: &mut items, content: Vec::new() };
        writer.message();
    }
    body.put("input", items);
}

struct Writer<'a> {
    call: &'a Call,
    message: &'a Message,
    losses: &'a mut Losses,
    items: &'a mut Vec<Value>,
    /// Parts of the message item that is being written.
    content: Vec<Value>,
}

impl Writer<'_> {
    fn message(&mut self) {
        for (i, part) in self.message.parts.iter().enumerate() {
            let path = self.losses.place(self.message.origin, Some(i));
            self.part(part, &path);
            if self.call.dialect != Dialect::OpenAiResponses {
                if part.cache.is_some() {
                    self.losses.hint(format!("{path}.cache_control"), "the provider caches by itself");
                }
                self.losses.extras(&path, &part.extras);
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        if self.content.is_empty() {
            return;
        }
        let role = match self.message.role {
            Role::System => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let content = std::mem::take(&mut self.content);
        self.items.push(json!({"type": "message", "role": role, "content": content}));
    }

    fn item(&mut self, item: Value) {
        self.flush();
        self.items.push(item);
    }

    fn part(&mut self, part: &Part, path: &str) {
        let assistant = self.message.role == Role::Assistant;
        match &part.body {
            Body::Text(text) if assistant => {
                self.content.push(json!({"type": "output_text", "text": text, "annotations": []}));
            }
            Body::Text(text) => self.content.push(json!({"type": "input_text", "text": text})),
            Body::Refusal(text) => self.content.push(json!({"type": "refusal", "refusal": text})),
            Body::Media(media) => match self::media(media) {
                Ok(value) if !assistant => self.content.push(value),
                Ok(_) => self.losses.meaning(path, "an assistant's message cannot hold it here"),
                Err(reason) => self.losses.meaning(path, reason),
            },
            Body::ToolCall(call) => self.item(function_call(call)),
            Body::ToolResult(result) => {
                let item = self.output(result, path);
                self.item(item);
            }
            Body::Reasoning { text, signature } => {
                match signature.as_ref().and_then(|signature| thoughts::replay(text, signature)) {
                    Some(item) => self.item(item),
                    None => self.losses.hint(path, "thoughts go back only with the provider's own signature"),
                }
            }
            Body::Redacted(signature) => match thoughts::replay("", signature) {
                Some(item) => self.item(item),
                None => self.losses.hint(path, "only the model that thought it can read it"),
            },
            Body::Foreign { dialect: Dialect::OpenAiResponses, value } => {
                let inner = value["type"].as_str().is_some_and(|kind| kind.starts_with("input_"));
                if inner { self.content.push(value.clone()) } else { self.item(value.clone()) }
            }
            Body::Foreign { .. } => self.losses.meaning(path, "only the caller's dialect knows this kind of block"),
        }
    }

    fn output(&mut self, result: &ToolResult, path: &str) -> Value {
        if result.is_error {
            self.losses.hint(format!("{path}.is_error"), "an output has no such mark");
        }
        let plain = result.content.iter().all(|part| part.as_plain().is_some());
        let output = if plain {
            Value::String(result.texts().join("\n"))
        } else {
            let mut list = Vec::new();
            for part in &result.content {
                match &part.body {
                    Body::Text(text) => list.push(json!({"type": "input_text", "text": text})),
                    Body::Media(media) => match self::media(media) {
                        Ok(value) => list.push(value),
                        Err(reason) => self.losses.meaning(path, reason),
                    },
                    _ => self.losses.meaning(path, "only the caller's dialect knows this kind of result"),
                }
            }
            Value::Array(list)
        };
        json!({"type": "function_call_output", "call_id": result.id, "output": output})
    }
}

fn function_call(call: &ToolCall) -> Value {
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    json!({
        "type": "function_call",
        "call_id": ids::plain(call.id.clone()),
        "name": call.name,
        "arguments": arguments,
    })
}

fn media(media: &Media) -> Result<Value, &'static str> {
    let image = |name: &'static str, value: &str| {
        let detail = media.detail.as_deref().unwrap_or("auto");
        Object::new().with("type", "input_image").with("detail", detail).with(name, value).done()
    };
    let file = |name: &'static str, value: &str, file_name: Option<&str>| {
        Object::new().with("type", "input_file").maybe("filename", file_name).with(name, value).done()
    };
    match (&media.source, media.kind) {
        (_, MediaKind::Video) => Err("the provider takes no video"),
        (Source::Base64 { media_type, data }, MediaKind::Image) => Ok(image("image_url", &data_url(media_type, data))),
        (Source::Base64 { media_type, data }, MediaKind::Audio) => {
            let format = media_type.rsplit('/').next().unwrap_or("wav");
            let format = if format == "mpeg" { "mp3" } else { format };
            Ok(json!({"type": "input_audio", "input_audio": {"data": data, "format": format}}))
        }
        (Source::Base64 { media_type, data }, _) => {
            let name = media.name.as_deref().unwrap_or("document.pdf");
            Ok(file("file_data", &data_url(media_type, data), Some(name)))
        }
        (Source::Url { url, .. }, MediaKind::Image) => Ok(image("image_url", url)),
        (Source::Url { url, .. }, _) => Ok(file("file_url", url, None)),
        (Source::Plain { text, .. }, _) => Ok(json!({"type": "input_text", "text": text})),
        (Source::File { dialect: Dialect::OpenAiChat | Dialect::OpenAiResponses, id }, MediaKind::Image) => {
            Ok(image("file_id", id))
        }
        (Source::File { dialect: Dialect::OpenAiChat | Dialect::OpenAiResponses, id }, _) => {
            Ok(file("file_id", id, None))
        }
        (Source::File { .. }, _) => Err("the file is stored at another provider"),
    }
}
