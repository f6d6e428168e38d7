//! A generateContent request → [`Call`]. The model and whether to stream stand in the path.

mod contents;
mod parts;

use serde_json::Value;

use crate::dialect::{Dialect, Site};
use crate::json::{Fields, Malformed, Read};
use crate::meaning::{Call, Depth, Effort, Format, Function, Schema, Thinking, Tool, ToolChoice};
use crate::schema;

pub(crate) fn parse_call(body: &[u8], site: Site<'_>) -> Read<Call> {
    let mut fields = Fields::parse(body)?.snake_too();
    let mut call = Call::new(Dialect::Gemini);
    call.model = match (site.model, fields.text("model")?) {
        (Some(model), _) => model.to_owned(),
        (None, Some(model)) => model,
        (None, None) => return Err(Malformed::new("model", "is missing in the path")),
    };
    call.stream = site.stream;
    call.include_usage = true;
    if let Some(system) = fields.value("systemInstruction") {
        call.system = contents::system(system).map_err(|e| e.under("systemInstruction"))?;
    }
    // Google reads a single one where a list is meant.
    let contents = match fields.value("contents") {
        Some(one @ Value::Object(_)) => vec![one],
        Some(list) => {
            fields.put_back("contents", list);
            fields.need_list("contents")?
        }
        None => fields.need_list("contents")?,
    };
    contents::read(contents, &mut call)?;
    tools(&mut fields, &mut call)?;
    if let Some(config) = fields.object("toolConfig")? {
        tool_config(config, &mut call).map_err(|e| e.under("toolConfig"))?;
    }
    if let Some(config) = fields.object("generationConfig")? {
        generation(config.snake_too(), &mut call).map_err(|e| e.under("generationConfig"))?;
    }
    call.extras.extend(fields.rest());
    Ok(call)
}

/// A list; some send a single object.
fn tools(fields: &mut Fields, call: &mut Call) -> Read<()> {
    let list = match fields.value("tools") {
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
        None => Vec::new(),
    };
    for (i, value) in list.into_iter().enumerate() {
        let mut tool = Fields::of(value).map_err(|e| e.at("tools", i))?.snake_too();
        let declared = tool.list("functionDeclarations").map_err(|e| e.at("tools", i))?.unwrap_or_default();
        for (n, value) in declared.into_iter().enumerate() {
            let function = function(value).map_err(|e| e.at("functionDeclarations", n).at("tools", i))?;
            call.tools.push(Tool::Function(function));
        }
        let rest = tool.rest();
        if !rest.is_empty() {
            call.tools.push(Tool::Foreign { dialect: Dialect::Gemini, value: Value::Object(rest) });
        }
    }
    Ok(())
}

fn function(value: Value) -> Read<Function> {
    let mut fields = Fields::of(value)?.snake_too();
    let own = fields.value("parameters").map(schema::from_gemini);
    Ok(Function {
        name: fields.need_text("name")?,
        description: fields.text("description")?,
        schema: fields.value("parametersJsonSchema").or(own),
        strict: None,
        cache: None,
        extras: fields.rest(),
    })
}

fn tool_config(fields: Fields, call: &mut Call) -> Read<()> {
    let mut fields = fields.snake_too();
    if let Some(config) = fields.object("functionCallingConfig")? {
        let mut config = config.snake_too();
        let under = |e: Malformed| e.under("functionCallingConfig");
        let names = config.texts("allowedFunctionNames").map_err(under)?;
        let mode = config.text("mode").map_err(under)?.unwrap_or_default().to_ascii_uppercase();
        call.tool_choice = match (mode.as_str(), names.as_slice()) {
            ("NONE", _) => Some(ToolChoice::None),
            ("ANY", []) => Some(ToolChoice::Required),
            ("ANY", [name]) => Some(ToolChoice::Named(name.clone())),
            ("ANY", _) => Some(ToolChoice::OneOf(names)),
            ("AUTO" | "VALIDATED", _) => Some(ToolChoice::Auto),
            ("MODE_UNSPECIFIED" | "", _) => None,
            _ => return Err(Malformed::new("functionCallingConfig.mode", "is none of AUTO, ANY, NONE, VALIDATED")),
        };
    }
    let rest = fields.rest();
    if !rest.is_empty() {
        call.extras.insert("toolConfig".into(), Value::Object(rest));
    }
    Ok(())
}

fn generation(mut fields: Fields, call: &mut Call) -> Read<()> {
    call.sampling.temperature = fields.number("temperature")?;
    call.sampling.top_p = fields.number("topP")?;
    call.sampling.top_k = fields.count("topK")?;
    call.sampling.frequency_penalty = fields.number("frequencyPenalty")?;
    call.sampling.presence_penalty = fields.number("presencePenalty")?;
    call.sampling.seed = fields.number("seed")?;
    call.sampling.n = fields.count("candidateCount")?;
    call.max_tokens = fields.count("maxOutputTokens")?;
    call.stop = fields.texts("stopSequences")?;
    call.format = format(&mut fields)?;
    if let Some(config) = fields.object("thinkingConfig")? {
        call.thinking = thinking(config.snake_too()).map_err(|e| e.under("thinkingConfig"))?;
    }
    if let Some(list) = fields.value("responseModalities").filter(|list| !only_text(list)) {
        fields.put_back("responseModalities", list);
    }
    let rest = fields.rest();
    if !rest.is_empty() {
        call.extras.insert("generationConfig".into(), Value::Object(rest));
    }
    Ok(())
}

/// Text is what everybody answers with.
fn only_text(list: &Value) -> bool {
    list.as_array().is_some_and(|list| list.iter().all(|m| m.as_str().is_some_and(|m| m.eq_ignore_ascii_case("text"))))
}

fn format(fields: &mut Fields) -> Read<Option<Format>> {
    let schema = fields.value("responseSchema").map(schema::from_gemini);
    let schema = fields.value("responseJsonSchema").or_else(|| fields.value("_responseJsonSchema")).or(schema);
    let kind = fields.text("responseMimeType")?;
    Ok(match (kind.as_deref(), schema) {
        (Some("application/json") | None, Some(schema)) => {
            let name = schema["title"].as_str().map(safe_name).filter(|name| !name.is_empty());
            Some(Format::Schema(Schema { name, description: None, schema, strict: None }))
        }
        (Some("application/json"), None) => Some(Format::Json),
        (Some("text/plain"), _) => Some(Format::Text),
        (Some(other), _) => {
            fields.put_back("responseMimeType", other.into());
            None
        }
        (None, None) => None,
    })
}

fn safe_name(title: &str) -> String {
    title.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '-').take(64).collect()
}

fn thinking(mut fields: Fields) -> Read<Option<Thinking>> {
    let show = fields.flag("includeThoughts")?;
    let depth = match (fields.text("thinkingLevel")?, fields.number("thinkingBudget")?) {
        (Some(level), _) => {
            let effort = Effort::from_word(&level.to_ascii_lowercase());
            effort.map_or(Depth::Adaptive, Depth::Effort)
        }
        (None, Some(budget)) => match budget.as_i64() {
            Some(0) => Depth::Off,
            Some(tokens) if tokens > 0 => Depth::Budget(tokens.unsigned_abs()),
            _ => Depth::Adaptive,
        },
        (None, None) if show.is_some() => Depth::Adaptive,
        (None, None) => return Ok(None),
    };
    Ok(Some(Thinking { depth, show }))
}
