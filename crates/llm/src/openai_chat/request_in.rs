//! A chat completion request → [`Call`].

pub(crate) mod content;
mod messages;
mod plain;

use serde_json::Value;

use crate::Dialect;
use crate::json::{Doc, Fields, Malformed, Read, wrong};
use crate::meaning::{Call, Depth, Effort, Format, Function, Sampling, Schema, Thinking, Tool, ToolChoice};

pub(crate) fn parse_call(body: &[u8]) -> Read<Call> {
    let doc = Doc::read(body);
    match doc.as_ref().map(Doc::root).and_then(plain::read) {
        Some(call) => Ok(call),
        None => parse_by_fields(body),
    }
}

fn parse_by_fields(body: &[u8]) -> Read<Call> {
    let mut fields = Fields::parse(body)?;
    let mut call = Call::new(Dialect::OpenAiChat);
    call.model = fields.need_text("model")?;
    call.stream = fields.flag("stream")?.unwrap_or(false);
    if let Some(mut options) = fields.object("stream_options")? {
        call.include_usage = options.flag("include_usage").map_err(|e| e.under("stream_options"))?.unwrap_or(false);
    }
    messages::read(fields.need_list("messages")?, &mut call)?;
    for (i, tool) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        call.tools.push(self::tool(tool).map_err(|e| e.at("tools", i))?);
    }
    choose(fields.value("tool_choice"), &mut call)?;
    call.parallel_tools = fields.flag("parallel_tool_calls")?;
    call.sampling = sampling(&mut fields)?;
    let old = fields.count("max_tokens")?;
    call.max_tokens = fields.count("max_completion_tokens")?.or(old);
    call.stop = stop(&mut fields)?;
    call.format = fields.object("response_format")?.map(format).transpose().map_err(|e| e.under("response_format"))?;
    call.thinking = thinking(&mut fields)?;
    call.end_user = fields.text("user")?;
    call.service_tier = fields.text("service_tier")?;
    call.metadata = metadata(&mut fields)?;
    call.extras = fields.rest();
    Ok(call)
}

fn sampling(fields: &mut Fields) -> Read<Sampling> {
    Ok(Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        frequency_penalty: fields.number("frequency_penalty")?,
        presence_penalty: fields.number("presence_penalty")?,
        seed: fields.number("seed")?,
        n: fields.count("n")?,
    })
}

/// One word or a list of them.
fn stop(fields: &mut Fields) -> Read<Vec<String>> {
    match fields.value("stop") {
        Some(Value::String(one)) => Ok(vec![one]),
        Some(list) => {
            fields.put_back("stop", list);
            fields.texts("stop")
        }
        None => Ok(Vec::new()),
    }
}

pub(crate) fn metadata(fields: &mut Fields) -> Read<std::collections::BTreeMap<String, String>> {
    let Some(metadata) = fields.object("metadata")? else { return Ok(Default::default()) };
    let text = |(name, value): (String, Value)| match value {
        Value::String(value) => Ok((name, value)),
        other => Err(wrong(&name, "a string", &other).under("metadata")),
    };
    metadata.rest().into_iter().map(text).collect()
}

fn tool(value: Value) -> Read<Tool> {
    let mut fields = Fields::of(value.clone())?;
    match fields.text("type")?.as_deref() {
        // Old SDKs leave the type out.
        Some("function") | None if fields.has("function") => {
            let mut function = fields.need_object("function")?;
            let cache = content::cache_hint(&mut fields);
            let read = Function {
                name: function.need_text("name").map_err(|e| e.under("function"))?,
                description: function.text("description").map_err(|e| e.under("function"))?,
                schema: function.value("parameters"),
                strict: function.flag("strict").map_err(|e| e.under("function"))?,
                cache,
                extras: function.rest(),
            };
            Ok(Tool::Function(read))
        }
        Some("function") => Err(Malformed::new("function", "is required")),
        _ => Ok(Tool::Foreign { dialect: Dialect::OpenAiChat, value }),
    }
}

/// With `allowed_tools` and mode `auto` a model may call some of the tools: nobody else can say so but by the others' absence.
pub(crate) fn choose(value: Option<Value>, call: &mut Call) -> Read<()> {
    let Some(value) = value else { return Ok(()) };
    let allowed = if value["allowed_tools"].is_object() { &value["allowed_tools"] } else { &value };
    if let (Some(listed), "auto") = (allowed["tools"].as_array(), allowed["mode"].as_str().unwrap_or("auto")) {
        call.tools.retain(|tool| match tool {
            Tool::Function(function) => listed.iter().any(|one| name_of(one) == Some(&function.name)),
            Tool::Foreign { value, .. } => {
                listed.iter().any(|one| one["type"] == value["type"] && one["server_label"] == value["server_label"])
            }
        });
    }
    call.tool_choice = Some(tool_choice(value)?);
    Ok(())
}

fn name_of(tool: &Value) -> Option<&str> {
    tool["name"].as_str().or_else(|| tool["function"]["name"].as_str())
}

/// Chat nests the name (`function.name`), Responses does not.
fn tool_choice(value: Value) -> Read<ToolChoice> {
    let refused = || Malformed::new("tool_choice", "is none of auto, none, required or a named tool");
    match &value {
        Value::String(word) => match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            // Mistral says `any`.
            "required" | "any" => Ok(ToolChoice::Required),
            _ => Err(refused()),
        },
        Value::Object(choice) => {
            let allowed = if value["allowed_tools"].is_object() { &value["allowed_tools"] } else { &value };
            if let Some(tools) = allowed["tools"].as_array() {
                return Ok(one_of(tools, allowed["mode"].as_str() == Some("required")));
            }
            let name = value["function"]["name"].as_str().or_else(|| choice.get("name")?.as_str());
            name.map(|name| ToolChoice::Named(name.to_owned())).ok_or_else(refused)
        }
        _ => Err(refused()),
    }
}

fn one_of(tools: &[Value], required: bool) -> ToolChoice {
    let names = tools.iter().filter_map(name_of).map(str::to_owned);
    if required { ToolChoice::OneOf(names.collect()) } else { ToolChoice::Auto }
}

fn format(mut fields: Fields) -> Read<Format> {
    match fields.need_text("type")?.as_str() {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::Json),
        "json_schema" => {
            let mut schema = fields.need_object("json_schema")?;
            Ok(Format::Schema(Schema {
                name: schema.text("name").map_err(|e| e.under("json_schema"))?,
                description: schema.text("description").map_err(|e| e.under("json_schema"))?,
                strict: schema.flag("strict").map_err(|e| e.under("json_schema"))?,
                schema: schema.value("schema").unwrap_or_else(|| Value::Object(Default::default())),
            }))
        }
        _ => Err(Malformed::new("type", "is none of text, json_object, json_schema")),
    }
}

/// OpenAI's `reasoning_effort`, OpenRouter's `reasoning`, DeepSeek's and GLM's `thinking`, Qwen's `enable_thinking`.
fn thinking(fields: &mut Fields) -> Read<Option<Thinking>> {
    let word = fields.text("reasoning_effort")?;
    let mut depth = word.as_deref().and_then(depth_of);
    if let (Some(word), None) = (word, depth) {
        fields.put_back("reasoning_effort", word.into());
    }
    let mut show = None;
    if let Some(mut reasoning) = fields.object("reasoning")? {
        let under = |e: Malformed| e.under("reasoning");
        show = reasoning.flag("exclude").map_err(under)?.map(|exclude| !exclude);
        let enabled = reasoning.flag("enabled").map_err(under)?;
        let budget = reasoning.count("max_tokens").map_err(under)?.map(Depth::Budget);
        let effort = reasoning.text("effort").map_err(under)?.as_deref().and_then(depth_of);
        depth = depth.or(effort).or(budget).or(enabled.map(|on| if on { Depth::Adaptive } else { Depth::Off }));
    }
    if let Some(mut thinking) = fields.object("thinking")? {
        let kind = thinking.text("type").map_err(|e| e.under("thinking"))?;
        let budget = thinking.count("budget_tokens").map_err(|e| e.under("thinking"))?;
        depth = depth.or(match kind.as_deref() {
            Some("disabled") => Some(Depth::Off),
            Some(_) => Some(budget.map_or(Depth::Adaptive, Depth::Budget)),
            None => None,
        });
    }
    let budget = fields.count("thinking_budget")?.map(Depth::Budget);
    let enabled = fields.flag("enable_thinking")?.map(|on| if on { Depth::Adaptive } else { Depth::Off });
    let depth = depth.or(if enabled == Some(Depth::Off) { enabled } else { budget.or(enabled) });
    Ok(depth.map(|depth| Thinking { depth, show }))
}

/// `None`: a word that only its provider knows; it stays what it is.
fn depth_of(word: &str) -> Option<Depth> {
    match word {
        "none" => Some(Depth::Off),
        // Groq's.
        "default" => Some(Depth::Adaptive),
        word => Effort::from_word(word).map(Depth::Effort),
    }
}
