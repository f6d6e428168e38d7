//! [`Call`] → a generateContent request. The model and whether to stream go into the path, which the caller builds.

mod contents;

use serde_json::{Map, Value, json};

use crate::json::Object;
use crate::lost::Losses;
use crate::meaning::{Call, Depth, Effort, Format, Function, Thinking, Tool, ToolChoice};
use crate::{Dialect, Target, schema};

/// The smallest budget of Gemini 2.5 Pro, which always thinks.
const LEAST_PRO: u64 = 128;

pub(crate) fn render_call(call: &Call, target: &Target, losses: &mut Losses) -> Vec<u8> {
    let mut body = Object::new();
    body.put_some("systemInstruction", contents::system(call, losses));
    body.put("contents", contents::write(call, target, losses));
    body.put_some("tools", tools(call, target, losses));
    // Google refuses a choice among functions where there are none.
    body.put_some("toolConfig", tool_config(call).filter(|_| call.tools.iter().any(|tool| tool.function().is_some())));
    let mut extras = own_extras(call, losses);
    let mut config = generation(call, target, losses);
    if let Some(Value::Object(more)) = extras.remove("generationConfig") {
        config.extend(&more);
    }
    body.put_some("generationConfig", config.unless_empty());
    labels(call, losses);
    body.extend(&extras);
    body.bytes()
}

fn own_extras(call: &Call, losses: &mut Losses) -> Map<String, Value> {
    if call.dialect == Dialect::Gemini {
        return call.extras.clone();
    }
    losses.extras("", &call.extras);
    Map::new()
}

fn tools(call: &Call, target: &Target, losses: &mut Losses) -> Option<Value> {
    let mut declared = Vec::new();
    let mut list = Vec::new();
    for (i, tool) in call.tools.iter().enumerate() {
        match tool {
            Tool::Function(function) => declared.push(self::function(function, call, target, i, losses)),
            Tool::Foreign { dialect: Dialect::Gemini, value } => list.push(value.clone()),
            Tool::Foreign { .. } => losses.meaning(format!("tools[{i}]"), "the tool runs at the other provider"),
        }
    }
    if !declared.is_empty() {
        list.insert(0, json!({"functionDeclarations": declared}));
    }
    (!list.is_empty()).then_some(Value::Array(list))
}

fn function(function: &Function, call: &Call, target: &Target, i: usize, losses: &mut Losses) -> Value {
    let mut object =
        Object::new().with("name", function.name.as_str()).maybe("description", function.description.as_deref());
    // An object without properties is refused; no parameters at all mean the same.
    let takes = |schema: &&Value| schema["properties"].as_object().is_none_or(|p| !p.is_empty());
    if let Some(schema) =
        function.schema.as_ref().filter(takes).filter(|s| s.as_object().is_some_and(|s| !s.is_empty()))
    {
        if target.old_schema {
            object.put("parameters", subset(schema, &format!("tools[{i}].parameters"), losses));
        } else {
            object.put("parametersJsonSchema", schema.clone());
        }
    }
    if call.dialect == Dialect::Gemini {
        object.extend(&function.extras);
    } else {
        losses.extras(&format!("tools[{i}]"), &function.extras);
        if function.cache.is_some() {
            losses.hint(format!("tools[{i}].cache_control"), "the provider caches by itself");
        }
    }
    object.done()
}

fn subset(schema: &Value, path: &str, losses: &mut Losses) -> Value {
    let (schema, dropped) = schema::to_gemini(schema);
    for word in dropped {
        losses.hint(format!("{path}.{word}"), "older models know only a part of JSON Schema");
    }
    schema
}

fn tool_config(call: &Call) -> Option<Value> {
    let (mode, names) = match call.tool_choice.as_ref()? {
        ToolChoice::Auto => ("AUTO", Vec::new()),
        ToolChoice::None => ("NONE", Vec::new()),
        ToolChoice::Required => ("ANY", Vec::new()),
        ToolChoice::Named(name) => ("ANY", vec![name.clone()]),
        ToolChoice::OneOf(names) => ("ANY", names.clone()),
    };
    let names = (!names.is_empty()).then_some(names);
    let config = Object::new().with("mode", mode).maybe("allowedFunctionNames", names);
    Some(json!({"functionCallingConfig": config.done()}))
}

fn generation(call: &Call, target: &Target, losses: &mut Losses) -> Object {
    let sampling = &call.sampling;
    let mut config = Object::new()
        .maybe("temperature", sampling.temperature.clone())
        .maybe("topP", sampling.top_p.clone())
        .maybe("topK", sampling.top_k)
        .maybe("frequencyPenalty", sampling.frequency_penalty.clone())
        .maybe("presencePenalty", sampling.presence_penalty.clone())
        .maybe("seed", sampling.seed.clone())
        .maybe("maxOutputTokens", call.max_tokens);
    if let Some(n) = sampling.n.filter(|n| *n != 1) {
        if call.dialect == Dialect::Gemini {
            config.put("candidateCount", n);
        } else {
            losses.field("n", "one answer per call when translating");
        }
    }
    if !call.stop.is_empty() {
        config.put("stopSequences", call.stop.clone());
    }
    match &call.format {
        Some(Format::Schema(format)) => {
            config.put("responseMimeType", "application/json");
            if target.old_schema {
                config.put("responseSchema", subset(&format.schema, "schema", losses));
            } else {
                config.put("responseJsonSchema", format.schema.clone());
            }
        }
        Some(Format::Json) => config.put("responseMimeType", "application/json"),
        Some(Format::Text) | None => {}
    }
    config.put_some("thinkingConfig", call.thinking.as_ref().and_then(|t| thinking(t, target, losses)));
    config
}

fn thinking(thinking: &Thinking, target: &Target, losses: &mut Losses) -> Option<Value> {
    let show = thinking.show.unwrap_or(thinking.depth != Depth::Off);
    let mut config = Object::new();
    match (thinking.depth, target.levels) {
        (Depth::Off, true) => {
            config.put("thinkingLevel", "low");
            losses.field("thinking", "the model cannot be kept from thinking");
            return config.unless_empty();
        }
        (Depth::Off, false) if target.model.contains("2.5-pro") => {
            config.put("thinkingBudget", LEAST_PRO);
            losses.field("thinking", "the model cannot be kept from thinking");
            return config.unless_empty();
        }
        (Depth::Off, false) => config.put("thinkingBudget", 0),
        (Depth::Adaptive, true) => {}
        (Depth::Adaptive, false) => config.put("thinkingBudget", -1),
        (depth, true) => {
            let high = depth.effort().is_some_and(|effort| effort > Effort::Medium);
            config.put("thinkingLevel", if high { "high" } else { "low" });
        }
        (depth, false) => config.put("thinkingBudget", depth.budget().unwrap_or(0).min(24_576)),
    }
    if show {
        config.put("includeThoughts", true);
    }
    config.unless_empty()
}

fn labels(call: &Call, losses: &mut Losses) {
    if call.end_user.is_some() {
        losses.soft_field("user", "the provider is not told about end users");
    }
    if !call.metadata.is_empty() {
        losses.soft_field("metadata", "the provider keeps no labels");
    }
    if call.service_tier.is_some() {
        losses.soft_field("service_tier", "tiers differ between providers");
    }
    if call.parallel_tools == Some(false) {
        losses.field("parallel_tool_calls", "the provider cannot be kept from parallel calls");
    }
}
