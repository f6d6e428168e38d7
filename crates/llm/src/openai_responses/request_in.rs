//! A responses request → [`Call`].

mod input;

use serde_json::{Map, Value};

use crate::Dialect;
use crate::json::{Fields, Malformed, Read};
use crate::meaning::{Call, Depth, Effort, Format, Function, Sampling, Schema, Thinking, Tool};
use crate::openai_chat;

pub(crate) fn parse_call(body: &[u8]) -> Read<Call> {
    let mut fields = Fields::parse(body)?;
    let mut call = Call::new(Dialect::OpenAiResponses);
    call.model = fields.need_text("model")?;
    call.stream = fields.flag("stream")?.unwrap_or(false);
    call.include_usage = true;
    if let Some(instructions) = fields.value("instructions") {
        input::instructions(instructions, &mut call)?;
    }
    input::read(fields.value("input"), &mut call)?;
    for (i, value) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        call.tools.push(tool(value).map_err(|e| e.at("tools", i))?);
    }
    openai_chat::choose(fields.value("tool_choice"), &mut call)?;
    call.parallel_tools = fields.flag("parallel_tool_calls")?;
    call.sampling =
        Sampling { temperature: fields.number("temperature")?, top_p: fields.number("top_p")?, ..Sampling::default() };
    call.max_tokens = fields.count("max_output_tokens")?;
    if let Some(text) = fields.object("text")? {
        self::text(text, &mut call).map_err(|e| e.under("text"))?;
    }
    if let Some(reasoning) = fields.object("reasoning")? {
        thinking(reasoning, &mut call).map_err(|e| e.under("reasoning"))?;
    }
    call.end_user = fields.text("user")?;
    call.service_tier = fields.text("service_tier")?;
    call.metadata = openai_chat::request_in::metadata(&mut fields)?;
    // Whoever signs thoughts sends the signature along in any case.
    if let Some(include) = fields.list("include")? {
        let others: Vec<Value> = include.into_iter().filter(|name| name != "reasoning.encrypted_content").collect();
        fields.put_back("include", Value::Array(others));
    }
    call.extras.extend(fields.rest());
    Ok(call)
}

fn tool(value: Value) -> Read<Tool> {
    if value["type"] != "function" {
        return Ok(Tool::Foreign { dialect: Dialect::OpenAiResponses, value });
    }
    let mut fields = Fields::of(value)?;
    fields.value("type");
    Ok(Tool::Function(Function {
        name: fields.need_text("name")?,
        description: fields.text("description")?,
        schema: fields.value("parameters"),
        strict: fields.flag("strict")?,
        cache: None,
        extras: fields.rest(),
    }))
}

fn text(mut text: Fields, call: &mut Call) -> Read<()> {
    if let Some(mut format) = text.object("format")? {
        call.format = Some(match format.need_text("type").map_err(|e| e.under("format"))?.as_str() {
            "text" => Format::Text,
            "json_object" => Format::Json,
            "json_schema" => Format::Schema(Schema {
                name: format.text("name").map_err(|e| e.under("format"))?,
                description: format.text("description").map_err(|e| e.under("format"))?,
                strict: format.flag("strict").map_err(|e| e.under("format"))?,
                schema: format.value("schema").unwrap_or_else(|| Value::Object(Map::new())),
            }),
            _ => return Err(Malformed::new("format.type", "is none of text, json_object, json_schema")),
        });
    }
    let rest = text.rest();
    if !rest.is_empty() {
        call.extras.insert("text".into(), Value::Object(rest));
    }
    Ok(())
}

fn thinking(mut reasoning: Fields, call: &mut Call) -> Read<()> {
    let depth = match reasoning.text("effort")?.as_deref() {
        Some("none") => Some(Depth::Off),
        Some(word) => {
            let known = Effort::from_word(word).map(Depth::Effort);
            Some(known.ok_or_else(|| Malformed::new("effort", "is none of none, minimal, low, medium, high, xhigh"))?)
        }
        None => None,
    };
    let old = reasoning.value("generate_summary");
    let show = reasoning.value("summary").or(old).map(|_| true);
    if depth.is_some() || show.is_some() {
        call.thinking = Some(Thinking { depth: depth.unwrap_or(Depth::Adaptive), show });
    }
    let rest = reasoning.rest();
    if !rest.is_empty() {
        call.extras.insert("reasoning".into(), Value::Object(rest));
    }
    Ok(())
}
