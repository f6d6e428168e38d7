//! [`Call`] → a call of `v2/chat`.

mod messages;

use serde_json::{Value, json};

use crate::json::Object;
use crate::lost::Losses;
use crate::meaning::{Call, Depth, Format, Tool, ToolChoice};
use crate::{Dialect, Target};

/// As many stop sequences as Cohere takes.
const STOPS: usize = 5;

pub(crate) fn render_call(call: &Call, target: &Target, losses: &mut Losses) -> Vec<u8> {
    let mut body = Object::new().with("model", target.model.as_str()).with("messages", messages::write(call, losses));
    let tools = tools(call, losses);
    let any = !tools.is_empty();
    if any {
        body.put("tools", tools);
    }
    tool_choice(call, any, &mut body, losses);
    body.put_some("max_tokens", call.max_tokens);
    sampling(call, &mut body, losses);
    body.put_some("response_format", call.format.as_ref().and_then(format));
    thinking(call, target, &mut body, losses);
    if call.stream {
        body.put("stream", true);
    }
    if call.dialect == Dialect::Cohere {
        body.extend(&call.extras);
    } else {
        labels(call, losses);
        losses.extras("", &call.extras);
    }
    body.bytes()
}

fn tools(call: &Call, losses: &mut Losses) -> Vec<Value> {
    let mut list = Vec::new();
    for (i, tool) in call.tools.iter().enumerate() {
        match tool {
            Tool::Function(tool) => {
                // Who cannot narrow the choice narrows the tools.
                if matches!(&call.tool_choice, Some(ToolChoice::OneOf(names)) if !names.contains(&tool.name))
                    || matches!(&call.tool_choice, Some(ToolChoice::Named(name)) if *name != tool.name)
                {
                    continue;
                }
                let empty = || json!({"type": "object", "properties": {}});
                let mut function = Object::new()
                    .with("name", tool.name.as_str())
                    .maybe("description", tool.description.as_deref())
                    .with("parameters", tool.schema.clone().unwrap_or_else(empty));
                if call.dialect == Dialect::Cohere {
                    function.extend(&tool.extras);
                } else {
                    losses.extras(&format!("tools[{i}]"), &tool.extras);
                }
                list.push(json!({"type": "function", "function": function.done()}));
            }
            Tool::Foreign { dialect: Dialect::Cohere, value } => list.push(value.clone()),
            Tool::Foreign { .. } => losses.meaning(format!("tools[{i}]"), "the tool runs at the other provider"),
        }
    }
    list
}

fn tool_choice(call: &Call, any: bool, body: &mut Object, losses: &mut Losses) {
    match &call.tool_choice {
        Some(ToolChoice::None) if any => body.put("tool_choice", "NONE"),
        Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::OneOf(_)) if any => {
            body.put("tool_choice", "REQUIRED");
        }
        _ => {}
    }
    if call.parallel_tools == Some(false) && any {
        losses.field("parallel_tool_calls", "the provider cannot be kept from parallel calls");
    }
    // Its own word for it, for all tools at once.
    let strict = call.tools.iter().filter_map(Tool::function).any(|function| function.strict == Some(true));
    if strict && any && call.dialect != Dialect::Cohere {
        body.put("strict_tools", true);
    }
}

fn sampling(call: &Call, body: &mut Object, losses: &mut Losses) {
    let sampling = &call.sampling;
    match &sampling.temperature {
        Some(heat) if heat.as_f64().is_some_and(|heat| heat > 1.0) => {
            body.put("temperature", 1.0);
            losses.field("temperature", "the provider's scale ends at 1");
        }
        heat => body.put_some("temperature", heat.clone()),
    }
    body.put_some("p", sampling.top_p.clone());
    body.put_some("k", sampling.top_k);
    for (name, value) in
        [("frequency_penalty", &sampling.frequency_penalty), ("presence_penalty", &sampling.presence_penalty)]
    {
        match value {
            Some(value) if value.as_f64().is_some_and(|value| !(0.0..=1.0).contains(&value)) => {
                losses.field(name, "the provider's scale is 0 to 1");
            }
            value => body.put_some(name, value.clone()),
        }
    }
    body.put_some("seed", sampling.seed.clone());
    if sampling.n.is_some_and(|n| n != 1) {
        losses.field("n", "the provider gives one answer");
    }
    if !call.stop.is_empty() {
        body.put("stop_sequences", call.stop.iter().take(STOPS).cloned().collect::<Vec<_>>());
        if call.stop.len() > STOPS {
            losses.field("stop", "at most five stop sequences are allowed");
        }
    }
}

fn format(format: &Format) -> Option<Value> {
    Some(match format {
        Format::Text => return None,
        Format::Json => json!({"type": "json_object"}),
        Format::Schema(schema) => json!({"type": "json_object", "json_schema": schema.schema}),
    })
}

fn thinking(call: &Call, target: &Target, body: &mut Object, losses: &mut Losses) {
    let Some(thinking) = &call.thinking else { return };
    let thinks = target.model.contains("reasoning") || call.dialect == Dialect::Cohere;
    match thinking.depth {
        Depth::Off if thinks => body.put("thinking", json!({"type": "disabled"})),
        Depth::Off | Depth::Adaptive if !thinks => {}
        Depth::Adaptive => body.put("thinking", json!({"type": "enabled"})),
        depth if thinks => {
            let enabled = Object::new().with("type", "enabled").maybe("token_budget", depth.budget());
            body.put("thinking", enabled.done());
        }
        _ => losses.field("thinking", "the model does not think"),
    }
}

fn labels(call: &Call, losses: &mut Losses) {
    if call.end_user.is_some() {
        losses.soft_field("user", "the provider is not told about end users");
    }
    if !call.metadata.is_empty() {
        losses.soft_field("metadata", "labels differ between providers");
    }
    if call.service_tier.is_some() {
        losses.soft_field("service_tier", "tiers differ between providers");
    }
}
