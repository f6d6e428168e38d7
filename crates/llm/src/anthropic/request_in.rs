//! A messages request → [`Call`].

mod content;

use serde_json::{Map, Value};

use crate::Dialect;
use crate::json::{Fields, Malformed, Read};
use crate::meaning::{
    Call, Depth, Effort, Format, Function, Message, Role, Sampling, Schema, Thinking, Tool, ToolChoice,
};

pub(crate) fn parse_call(body: &[u8]) -> Read<Call> {
    let mut fields = Fields::parse(body)?;
    let mut call = Call::new(Dialect::Anthropic);
    call.model = fields.need_text("model")?;
    call.stream = fields.flag("stream")?.unwrap_or(false);
    call.include_usage = true;
    call.max_tokens = fields.count("max_tokens")?;
    call.system = content::read("system", fields.value("system"))?;
    for (i, value) in fields.need_list("messages")?.into_iter().enumerate() {
        call.messages.push(message(value, i).map_err(|e| e.at("messages", i))?);
    }
    for (i, value) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        call.tools.push(tool(value).map_err(|e| e.at("tools", i))?);
    }
    if let Some(choice) = fields.object("tool_choice")? {
        tool_choice(choice, &mut call).map_err(|e| e.under("tool_choice"))?;
    }
    call.sampling = Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        ..Sampling::default()
    };
    call.stop = fields.texts("stop_sequences")?;
    config(&mut fields, &mut call)?;
    metadata(&mut fields, &mut call)?;
    call.service_tier = fields.text("service_tier")?;
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
    let parts = content::read("content", fields.value("content"))?;
    Ok(Message { role, parts, name: None, origin, extras: fields.rest() })
}

fn tool(value: Value) -> Read<Tool> {
    if value["type"].as_str().is_some_and(|kind| kind != "custom") {
        return Ok(Tool::Foreign { dialect: Dialect::Anthropic, value });
    }
    let mut fields = Fields::of(value)?;
    fields.value("type");
    Ok(Tool::Function(Function {
        name: fields.need_text("name")?,
        description: fields.text("description")?,
        schema: fields.value("input_schema"),
        strict: fields.flag("strict")?,
        cache: content::cache_hint(&mut fields),
        extras: fields.rest(),
    }))
}

fn tool_choice(mut fields: Fields, call: &mut Call) -> Read<()> {
    call.parallel_tools = fields.flag("disable_parallel_tool_use")?.map(|disable| !disable);
    call.tool_choice = Some(match fields.need_text("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(fields.need_text("name")?),
        _ => return Err(Malformed::new("type", "is none of auto, any, none, tool")),
    });
    Ok(())
}

/// `thinking`, `output_config` and (older) `output_format`.
fn config(fields: &mut Fields, call: &mut Call) -> Read<()> {
    let mut depth = None;
    let mut show = None;
    if let Some(mut thinking) = fields.object("thinking")? {
        let under = |e: Malformed| e.under("thinking");
        depth = Some(match thinking.need_text("type").map_err(under)?.as_str() {
            "enabled" => {
                let budget = thinking.count("budget_tokens").map_err(under)?;
                Depth::Budget(budget.ok_or_else(|| Malformed::new("thinking.budget_tokens", "is required"))?)
            }
            "adaptive" => Depth::Adaptive,
            "disabled" => Depth::Off,
            _ => return Err(Malformed::new("thinking.type", "is none of enabled, adaptive, disabled")),
        });
        show = thinking.text("display").map_err(under)?.map(|display| display != "omitted");
    }
    let old = fields.object("output_format")?;
    if let Some(mut output) = fields.object("output_config")? {
        let under = |e: Malformed| e.under("output_config");
        if let Some(word) = output.text("effort").map_err(under)? {
            let known = Effort::from_word(&word);
            let effort = known
                .ok_or_else(|| Malformed::new("output_config.effort", "is none of low, medium, high, xhigh, max"))?;
            // Effort beside a budget or beside `disabled` steers other things than thoughts.
            depth = Some(match depth {
                Some(other @ (Depth::Budget(_) | Depth::Off)) => other,
                _ => Depth::Effort(effort),
            });
        }
        let shape = output.object("format").map_err(under)?.map(format).transpose();
        call.format = shape.map_err(|e| under(e.under("format")))?;
        if !output.is_empty() {
            call.extras.insert("output_config".into(), Value::Object(output.rest()));
        }
    }
    if let (None, Some(old)) = (&call.format, old) {
        call.format = Some(format(old).map_err(|e| e.under("output_format"))?);
    }
    call.thinking = depth.map(|depth| Thinking { depth, show });
    Ok(())
}

fn format(mut fields: Fields) -> Read<Format> {
    match fields.need_text("type")?.as_str() {
        "json_schema" => {
            let schema = fields.value("schema").unwrap_or_else(|| Value::Object(Map::new()));
            Ok(Format::Schema(Schema { name: fields.text("name")?, description: None, schema, strict: None }))
        }
        _ => Err(Malformed::new("type", "is not json_schema")),
    }
}

fn metadata(fields: &mut Fields, call: &mut Call) -> Read<()> {
    if let Some(mut metadata) = fields.object("metadata")? {
        call.end_user = metadata.text("user_id").map_err(|e| e.under("metadata"))?;
        let texts = metadata.rest().into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())));
        call.metadata = texts.collect();
    }
    Ok(())
}
