//! [`Call`] → a responses request. Calls of other dialects are not stored: their callers keep the history themselves.

mod input;

use serde_json::{Map, Value, json};

use crate::json::Object;
use crate::lost::Losses;
use crate::meaning::{Call, Depth, Format, Function, Tool, ToolChoice};
use crate::{Dialect, Target, openai_chat, schema};

pub(crate) fn render_call(call: &Call, target: &Target, losses: &mut Losses) -> Vec<u8> {
    let own = call.dialect == Dialect::OpenAiResponses;
    let mut extras = own_extras(call, losses);
    let mut body = Object::new().with("model", target.model.as_str());
    input::write(call, &mut body, losses);
    if let Some(tools) = tools(call, losses) {
        body.put("tools", tools);
        body.put_some("tool_choice", call.tool_choice.as_ref().map(tool_choice));
        body.put_some("parallel_tool_calls", call.parallel_tools);
    }
    body.put_some("max_output_tokens", call.max_tokens);
    sampling(call, target, &mut body, losses);
    let mut text =
        Object::new().maybe("format", openai_chat::request_out::takes_format(call, target, losses).map(format));
    merge(&mut text, extras.remove("text"));
    body.put_some("text", text.unless_empty());
    let mut reasoning = reasoning(call, target, losses);
    merge(&mut reasoning, extras.remove("reasoning"));
    body.put_some("reasoning", reasoning.unless_empty());
    if call.stream {
        body.put("stream", true);
    }
    body.put_some("user", call.end_user.as_deref());
    labels(call, &mut body, losses);
    let mut include = extras.remove("include").and_then(|list| list.as_array().cloned()).unwrap_or_default();
    if !own {
        body.put("store", false);
    }
    if target.reasoning_only {
        include.push("reasoning.encrypted_content".into());
    }
    if !include.is_empty() {
        body.put("include", include);
    }
    body.extend(&extras);
    body.bytes()
}

fn own_extras(call: &Call, losses: &mut Losses) -> Map<String, Value> {
    if call.dialect == Dialect::OpenAiResponses {
        return call.extras.clone();
    }
    losses.extras("", &call.extras);
    Map::new()
}

fn merge(object: &mut Object, more: Option<Value>) {
    if let Some(Value::Object(more)) = more {
        object.extend(&more);
    }
}

fn tools(call: &Call, losses: &mut Losses) -> Option<Value> {
    let mut list = Vec::new();
    for (i, tool) in call.tools.iter().enumerate() {
        match tool {
            Tool::Function(function) => list.push(self::tool(function, call, i, losses)),
            Tool::Foreign { dialect: Dialect::OpenAiResponses, value } => list.push(value.clone()),
            Tool::Foreign { .. } => losses.meaning(format!("tools[{i}]"), "the tool runs at the other provider"),
        }
    }
    (!list.is_empty()).then_some(Value::Array(list))
}

/// Functions are strict here unless they say otherwise, and elsewhere loose unless they say otherwise.
fn tool(function: &Function, call: &Call, i: usize, losses: &mut Losses) -> Value {
    let own = call.dialect == Dialect::OpenAiResponses;
    let empty = || json!({"type": "object", "properties": {}});
    let parameters = function.schema.clone().unwrap_or_else(empty);
    let strict = function.strict.filter(|strict| own || !strict || schema::is_strict(&parameters));
    let mut object = Object::new()
        .with("type", "function")
        .with("name", function.name.as_str())
        .maybe("description", function.description.as_deref())
        .with("parameters", parameters)
        .maybe("strict", strict.or((!own).then_some(false)));
    if own {
        object.extend(&function.extras);
    } else {
        losses.extras(&format!("tools[{i}]"), &function.extras);
    }
    object.done()
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Named(name) => json!({"type": "function", "name": name}),
        ToolChoice::OneOf(names) => {
            let tools: Vec<Value> = names.iter().map(|name| json!({"type": "function", "name": name})).collect();
            json!({"type": "allowed_tools", "mode": "required", "tools": tools})
        }
    }
}

fn sampling(call: &Call, target: &Target, body: &mut Object, losses: &mut Losses) {
    let sampling = &call.sampling;
    for (name, value) in [("temperature", &sampling.temperature), ("top_p", &sampling.top_p)] {
        match value {
            Some(value) if !target.reasoning_only => body.put(name, value.clone()),
            Some(_) => losses.field(name, "reasoning models refuse it"),
            None => {}
        }
    }
    let unknown = [
        ("top_k", sampling.top_k.is_some()),
        ("frequency_penalty", sampling.frequency_penalty.as_ref().is_some_and(|n| n.as_f64() != Some(0.0))),
        ("presence_penalty", sampling.presence_penalty.as_ref().is_some_and(|n| n.as_f64() != Some(0.0))),
        ("seed", sampling.seed.is_some()),
        ("n", sampling.n.is_some_and(|n| n != 1)),
        ("stop", !call.stop.is_empty()),
    ];
    for (name, _) in unknown.into_iter().filter(|(_, set)| *set) {
        losses.field(name, "this dialect has no such field");
    }
}

fn format(format: &Format) -> Value {
    match format {
        Format::Text => json!({"type": "text"}),
        Format::Json => json!({"type": "json_object"}),
        Format::Schema(schema) => {
            let mut object = Object::new().with("type", "json_schema");
            if let Value::Object(named) = openai_chat::request_out::named(schema).done() {
                object.extend(&named);
            }
            object.done()
        }
    }
}

fn reasoning(call: &Call, target: &Target, losses: &mut Losses) -> Object {
    let mut object = Object::new();
    let Some(thinking) = &call.thinking else { return object };
    let own = call.dialect == Dialect::OpenAiResponses;
    match thinking.depth {
        Depth::Off if own => object.put("effort", "none"),
        Depth::Off if target.reasoning_only => {
            object.put("effort", "minimal");
            losses.field("thinking", "the model cannot be kept from thinking");
        }
        Depth::Off | Depth::Adaptive => {}
        depth if own || target.reasoning_only || target.open_thoughts => {
            object.put_some("effort", depth.effort().map(openai_chat::effort_word));
        }
        _ => {
            losses.field("thinking", "the model does not think");
            return object;
        }
    }
    if thinking.show == Some(true) {
        object.put("summary", "auto");
    }
    object
}

fn labels(call: &Call, body: &mut Object, losses: &mut Losses) {
    let ours = matches!(call.dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses);
    if !call.metadata.is_empty() {
        if ours {
            body.put("metadata", json!(call.metadata));
        } else {
            losses.soft_field("metadata", "labels differ between providers");
        }
    }
    match &call.service_tier {
        Some(tier) if ours => body.put("service_tier", tier.as_str()),
        Some(_) => losses.soft_field("service_tier", "tiers differ between providers"),
        None => {}
    }
}
