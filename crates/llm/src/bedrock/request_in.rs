//! A Converse request → [`Call`]. The model and whether to stream stand in the path.

mod content;

use serde_json::{Map, Value};

use crate::dialect::{Dialect, Site};
use crate::json::{Fields, Malformed, Read, read_json};
use crate::meaning::{Call, Depth, Effort, Format, Function, Message, Role, Schema, Thinking, Tool, ToolChoice};
use crate::openai_chat::request_in::metadata;

pub(crate) fn parse_call(body: &[u8], site: Site<'_>) -> Read<Call> {
    let mut fields = Fields::parse(body)?;
    let mut call = Call::new(Dialect::Bedrock);
    let named = fields.text("modelId")?;
    call.model = match (site.model, named) {
        (Some(model), _) => model.to_owned(),
        (None, Some(model)) => model,
        (None, None) => return Err(Malformed::new("modelId", "is missing in the path")),
    };
    call.stream = site.stream;
    call.include_usage = true;
    call.system = content::read("system", fields.list("system")?.unwrap_or_default())?;
    for (i, value) in fields.list("messages")?.unwrap_or_default().into_iter().enumerate() {
        call.messages.push(message(value, i).map_err(|e| e.at("messages", i))?);
    }
    if let Some(config) = fields.object("inferenceConfig")? {
        inference(config, &mut call).map_err(|e| e.under("inferenceConfig"))?;
    }
    if let Some(config) = fields.object("toolConfig")? {
        tools(config, &mut call).map_err(|e| e.under("toolConfig"))?;
    }
    if let Some(config) = fields.object("outputConfig")? {
        call.format = format(config).map_err(|e| e.under("outputConfig"))?;
    }
    if let Some(more) = fields.object("additionalModelRequestFields")? {
        additional(more, &mut call).map_err(|e| e.under("additionalModelRequestFields"))?;
    }
    if fields.has("requestMetadata") {
        let labels = fields.value("requestMetadata").unwrap_or_default();
        let mut wrapped = Fields::default();
        wrapped.put_back("metadata", labels);
        call.metadata = metadata(&mut wrapped)
            .map_err(|e| Malformed { path: e.path.replacen("metadata", "requestMetadata", 1), ..e })?;
    }
    if let Some(mut tier) = fields.object("serviceTier")? {
        call.service_tier = tier.text("type").map_err(|e| e.under("serviceTier"))?;
    }
    call.extras.extend(fields.rest());
    Ok(call)
}

fn message(value: Value, origin: usize) -> Read<Message> {
    let mut fields = Fields::of(value)?;
    let role = match fields.need_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(Malformed::new("role", "is neither user nor assistant")),
    };
    let parts = content::read("content", fields.need_list("content")?)?;
    Ok(Message { role, parts, name: None, origin, extras: fields.rest() })
}

fn inference(mut fields: Fields, call: &mut Call) -> Read<()> {
    call.max_tokens = fields.count("maxTokens")?;
    call.sampling.temperature = fields.number("temperature")?;
    call.sampling.top_p = fields.number("topP")?;
    call.stop = fields.texts("stopSequences")?;
    Ok(())
}

fn tools(mut fields: Fields, call: &mut Call) -> Read<()> {
    for (i, value) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        tool(value, call).map_err(|e| e.at("tools", i))?;
    }
    if let Some(mut choice) = fields.object("toolChoice")? {
        call.tool_choice = match choice.object("tool")? {
            Some(mut named) => {
                Some(ToolChoice::Named(named.need_text("name").map_err(|e| e.under("toolChoice.tool"))?))
            }
            None if choice.has("any") => Some(ToolChoice::Required),
            None if choice.has("auto") => Some(ToolChoice::Auto),
            None => return Err(Malformed::new("toolChoice", "holds none of auto, any, tool")),
        };
    }
    Ok(())
}

fn tool(value: Value, call: &mut Call) -> Read<()> {
    let mut fields = Fields::of(value.clone())?;
    if let Some(mut spec) = fields.object("toolSpec")? {
        let under = |e: Malformed| e.under("toolSpec");
        let schema = spec.object("inputSchema").map_err(under)?.and_then(|mut schema| schema.value("json"));
        call.tools.push(Tool::Function(Function {
            name: spec.need_text("name").map_err(under)?,
            description: spec.text("description").map_err(under)?,
            schema,
            strict: spec.flag("strict").map_err(under)?,
            cache: None,
            extras: spec.rest(),
        }));
    } else if let Some(point) = fields.value("cachePoint") {
        if let Some(Tool::Function(last)) = call.tools.last_mut() {
            last.cache = Some(content::cache_hint(&point));
        }
    } else {
        call.tools.push(Tool::Foreign { dialect: Dialect::Bedrock, value });
    }
    Ok(())
}

fn format(mut fields: Fields) -> Read<Option<Format>> {
    let Some(mut format) = fields.object("textFormat")? else { return Ok(None) };
    let structure = format.value("structure").unwrap_or_default();
    let schema = &structure["jsonSchema"];
    let value = match &schema["schema"] {
        Value::String(text) => read_json(text.as_bytes())
            .map_err(|e| Malformed::new("textFormat.structure.jsonSchema.schema", format!("not valid JSON: {e}")))?,
        Value::Null => Value::Object(Map::new()),
        value => value.clone(),
    };
    let text = |name: &str| schema[name].as_str().map(str::to_owned);
    let schema = Schema { name: text("name"), description: text("description"), schema: value, strict: None };
    Ok(Some(Format::Schema(schema)))
}

/// Fields of the model's own maker; those of Anthropic's and Amazon's models have a meaning here.
fn additional(mut fields: Fields, call: &mut Call) -> Read<()> {
    call.sampling.top_k = fields.count("top_k")?;
    let mut depth = None;
    for name in ["thinking", "reasoning_config"] {
        depth = match fields.value(name) {
            // Qwen's is a word.
            Some(Value::String(word)) => Effort::from_word(&word).map(Depth::Effort),
            Some(value) => {
                let mut thinking = Fields::of(value).map_err(|e| e.under(name))?;
                let budget = thinking.count("budget_tokens").map_err(|e| e.under(name))?;
                match thinking.text("type").map_err(|e| e.under(name))?.as_deref() {
                    Some("disabled") => Some(Depth::Off),
                    _ => Some(budget.map_or(Depth::Adaptive, Depth::Budget)),
                }
            }
            None => depth,
        };
    }
    if let Some(mut output) = fields.object("output_config")? {
        let word = output.text("effort").map_err(|e| e.under("output_config"))?;
        let effort = word.and_then(|word| Effort::from_word(&word)).map(Depth::Effort);
        depth = if matches!(depth, None | Some(Depth::Adaptive)) { effort.or(depth) } else { depth };
        let rest = output.rest();
        if !rest.is_empty() {
            fields.put_back("output_config", Value::Object(rest));
        }
    }
    let word = fields.text("reasoning_effort")?;
    depth = depth.or(word.and_then(|word| Effort::from_word(&word)).map(Depth::Effort));
    call.thinking = depth.map(|depth| Thinking { depth, show: None });
    let rest = fields.rest();
    if !rest.is_empty() {
        call.extras.insert("additionalModelRequestFields".into(), Value::Object(rest));
    }
    Ok(())
}
