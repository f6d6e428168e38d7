//! A call of `v2/chat` → [`Call`].

use serde_json::Value;

use crate::Dialect;
use crate::ids;
use crate::json::{self, Fields, Malformed, Read, wrong};
use crate::meaning::{
    Body, Call, Depth, Format, Function, Media, MediaKind, Message, Part, Role, Schema, Thinking, Tool, ToolCall,
    ToolChoice, ToolResult,
};
use crate::openai_chat::request_in::content::source_of_url;
use crate::signature::Signature;

pub(crate) fn parse_call(body: &[u8]) -> Read<Call> {
    let mut fields = Fields::parse(body)?;
    let mut call = Call::new(Dialect::Cohere);
    call.model = fields.need_text("model")?;
    call.stream = fields.flag("stream")?.unwrap_or(false);
    call.include_usage = true;
    let mut after_tool = false;
    for (i, value) in fields.need_list("messages")?.into_iter().enumerate() {
        after_tool = message(value, i, after_tool, &mut call).map_err(|e| e.at("messages", i))?;
    }
    for (i, value) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        call.tools.push(tool(value).map_err(|e| e.at("tools", i))?);
    }
    call.tool_choice = match fields.text("tool_choice")?.as_deref() {
        None => None,
        Some("REQUIRED") => Some(ToolChoice::Required),
        Some("NONE") => Some(ToolChoice::None),
        Some(_) => return Err(Malformed::new("tool_choice", "is neither REQUIRED nor NONE")),
    };
    call.sampling.temperature = fields.number("temperature")?;
    call.sampling.top_p = fields.number("p")?;
    call.sampling.top_k = fields.count("k")?;
    call.sampling.frequency_penalty = fields.number("frequency_penalty")?;
    call.sampling.presence_penalty = fields.number("presence_penalty")?;
    call.sampling.seed = fields.number("seed")?;
    call.max_tokens = fields.count("max_tokens")?;
    call.stop = fields.texts("stop_sequences")?;
    call.format = fields.object("response_format")?.map(format).transpose().map_err(|e| e.under("response_format"))?;
    if let Some(mut thinking) = fields.object("thinking")? {
        let budget = thinking.count("token_budget").map_err(|e| e.under("thinking"))?;
        let depth = match thinking.text("type").map_err(|e| e.under("thinking"))?.as_deref() {
            Some("disabled") => Depth::Off,
            _ => budget.map_or(Depth::Adaptive, Depth::Budget),
        };
        call.thinking = Some(Thinking { depth, show: None });
    }
    call.extras = fields.rest();
    Ok(call)
}

/// Whether it was a tool's.
fn message(value: Value, origin: usize, after_tool: bool, call: &mut Call) -> Read<bool> {
    let mut fields = Fields::of(value)?;
    let role = fields.need_text("role")?;
    let parts = content(fields.value("content"))?;
    let mut message = Message::new(Role::User, origin);
    match role.as_str() {
        "system" | "developer" if call.messages.is_empty() => {
            call.system.extend(parts);
            return Ok(false);
        }
        "system" | "developer" => (message.role, message.parts) = (Role::System, parts),
        "user" => message.parts = parts,
        "assistant" => {
            message.role = Role::Assistant;
            if let Some(plan) = fields.text("tool_plan")?.filter(|plan| !plan.is_empty()) {
                message.parts.push(Body::Reasoning { text: plan, signature: None }.into());
            }
            message.parts.extend(parts);
            for (i, value) in fields.list("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
                message.parts.push(tool_call(value).map_err(|e| e.at("tool_calls", i))?);
            }
        }
        "tool" => {
            let id = ids::plain(fields.need_text("tool_call_id")?);
            let result = Body::ToolResult(ToolResult { id, name: None, content: parts, is_error: false }).into();
            match call.messages.last_mut() {
                Some(last) if after_tool => last.parts.push(result),
                _ => {
                    message.parts.push(result);
                    message.extras = fields.rest();
                    call.messages.push(message);
                }
            }
            return Ok(true);
        }
        _ => return Err(Malformed::new("role", "is none of system, user, assistant, tool")),
    }
    message.extras = fields.rest();
    call.messages.push(message);
    Ok(false)
}

fn content(value: Option<Value>) -> Read<Vec<Part>> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(Value::Array(list)) => {
            let parts = list.into_iter().enumerate();
            parts.map(|(i, value)| part(value).map_err(|e| e.at("content", i))).collect()
        }
        Some(other) => Err(wrong("content", "text or a list of parts", &other)),
    }
}

fn part(value: Value) -> Read<Part> {
    let mut fields = Fields::of(value.clone())?;
    let body = match fields.need_text("type")?.as_str() {
        "text" => Body::Text(fields.need_text("text")?),
        "thinking" => match fields.text("redacted")? {
            Some(data) => Body::Redacted(Signature::open(&data, Dialect::Cohere)),
            None => {
                let signature = fields.text("signature")?.map(|value| Signature::open(&value, Dialect::Cohere));
                Body::Reasoning { text: fields.need_text("thinking")?, signature }
            }
        },
        "image_url" => {
            let mut image = fields.need_object("image_url")?;
            let source = source_of_url(image.need_text("url").map_err(|e| e.under("image_url"))?);
            let detail = image.text("detail").map_err(|e| e.under("image_url"))?;
            Body::Media(Media { kind: MediaKind::Image, source, name: None, detail })
        }
        // A tool's result, most often as text.
        "document" => match &value["document"]["data"] {
            Value::String(text) => Body::Text(text.clone()),
            Value::Object(data) if data.len() == 1 && data.values().all(Value::is_string) => {
                Body::Text(data.values().filter_map(Value::as_str).collect())
            }
            data => Body::Text(json::text(data)),
        },
        _ => return Ok(Body::Foreign { dialect: Dialect::Cohere, value }.into()),
    };
    let mut extras = fields.rest();
    extras.remove("document");
    Ok(Part { body, cache: None, extras })
}

fn tool_call(value: Value) -> Read<Part> {
    let mut fields = Fields::of(value)?;
    let id = fields.need_text("id")?;
    let mut function = fields.need_object("function")?;
    let name = function.need_text("name").map_err(|e| e.under("function"))?;
    let arguments = match function.value("arguments") {
        Some(Value::String(text)) if text != "null" => text,
        Some(object @ Value::Object(_)) => json::text(&object),
        _ => String::new(),
    };
    let mut call = ToolCall { id, name, arguments, signature: None };
    ids::open_call(&mut call);
    Ok(Body::ToolCall(call).into())
}

fn tool(value: Value) -> Read<Tool> {
    let mut fields = Fields::of(value.clone())?;
    if !fields.has("function") {
        return Ok(Tool::Foreign { dialect: Dialect::Cohere, value });
    }
    let mut function = fields.need_object("function")?;
    Ok(Tool::Function(Function {
        name: function.need_text("name").map_err(|e| e.under("function"))?,
        description: function.text("description").map_err(|e| e.under("function"))?,
        schema: function.value("parameters"),
        strict: None,
        cache: None,
        extras: function.rest(),
    }))
}

fn format(mut fields: Fields) -> Read<Format> {
    let schema = fields.value("json_schema").or_else(|| fields.value("schema"));
    Ok(match (fields.need_text("type")?.as_str(), schema) {
        ("json_object", Some(schema)) => Format::Schema(Schema { name: None, description: None, schema, strict: None }),
        ("json_object", None) => Format::Json,
        ("text", _) => Format::Text,
        _ => return Err(Malformed::new("type", "is neither text nor json_object")),
    })
}
