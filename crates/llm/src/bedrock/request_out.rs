//! [`Call`] → a Converse request. The model and whether to stream go into the path, which the caller builds.

mod blocks;

use serde_json::{Value, json};

use crate::json::{self, Object};
use crate::lost::Losses;
use crate::meaning::{Body, CacheHint, Call, Depth, Effort, Format, Function, Role, Tool, ToolChoice};
use crate::schema::closed;
use crate::{Dialect, Target};

pub(crate) fn render_call(call: &Call, target: &Target, losses: &mut Losses) -> Vec<u8> {
    let stripped = (!is_claude(target)).then(|| call.without_claudes_thoughts());
    let call = stripped.as_deref().unwrap_or(call);
    let mut body = Object::new().with("messages", blocks::messages(call, losses));
    body.put_some("system", blocks::system(call, losses));
    let mut more = additional(call, target, losses);
    let thinks = more.has("thinking");
    body.put_some("inferenceConfig", inference(call, thinks, losses).unless_empty());
    body.put_some("toolConfig", tool_config(call, thinks, losses));
    format(call, &mut body, losses);
    if call.dialect == Dialect::Bedrock
        && let Some(Value::Object(own)) = call.extras.get("additionalModelRequestFields")
    {
        more.extend(own);
    }
    body.put_some("additionalModelRequestFields", more.unless_empty());
    if call.dialect == Dialect::Bedrock {
        body.put_some("requestMetadata", (!call.metadata.is_empty()).then(|| json!(call.metadata)));
        body.put_some("serviceTier", call.service_tier.as_ref().map(|tier| json!({"type": tier})));
        body.extend(&call.extras);
    } else {
        labels(call, losses);
        losses.extras("", &call.extras);
    }
    body.bytes()
}

fn is_claude(target: &Target) -> bool {
    target.model.contains("claude")
}

fn inference(call: &Call, thinks: bool, losses: &mut Losses) -> Object {
    let mut config = Object::new().maybe("maxTokens", call.max_tokens);
    let strict = thinks && call.dialect != Dialect::Bedrock;
    match &call.sampling.temperature {
        Some(_) if strict => losses.field("temperature", "a thinking model refuses it"),
        Some(heat) if heat.as_f64().is_some_and(|heat| heat > 1.0) => {
            config.put("temperature", 1.0);
            losses.field("temperature", "the provider's scale ends at 1");
        }
        heat => config.put_some("temperature", heat.clone()),
    }
    match &call.sampling.top_p {
        Some(_) if strict => losses.field("top_p", "a thinking model refuses it"),
        top_p => config.put_some("topP", top_p.clone()),
    }
    if !call.stop.is_empty() {
        config.put("stopSequences", call.stop.clone());
    }
    let sampling = &call.sampling;
    let unknown = [
        ("frequency_penalty", sampling.frequency_penalty.as_ref().is_some_and(|n| n.as_f64() != Some(0.0))),
        ("presence_penalty", sampling.presence_penalty.as_ref().is_some_and(|n| n.as_f64() != Some(0.0))),
        ("seed", sampling.seed.is_some()),
        ("n", sampling.n.is_some_and(|n| n != 1)),
    ];
    for (name, _) in unknown.into_iter().filter(|(_, set)| *set) {
        losses.field(name, "the provider has no such field");
    }
    config
}

/// What Converse leaves to each model's maker.
fn additional(call: &Call, target: &Target, losses: &mut Losses) -> Object {
    let mut more = Object::new();
    let claude = is_claude(target);
    match call.sampling.top_k {
        Some(top_k) if claude || call.dialect == Dialect::Bedrock => more.put("top_k", top_k),
        Some(_) => losses.field("top_k", "the model has no such field"),
        None => {}
    }
    let Some(thinking) = &call.thinking else { return more };
    if !claude {
        match thinking.depth {
            Depth::Off | Depth::Adaptive => {}
            depth if target.model.contains("gpt-oss") => {
                more.put_some("reasoning_effort", depth.effort().map(|effort| effort.min(Effort::High).word()));
            }
            _ => losses.field("thinking", "the model has no such field"),
        }
        return more;
    }
    let own = call.dialect == Dialect::Bedrock;
    if !own && thinking.depth != Depth::Off && call.tool_turn_without_thoughts(Dialect::Bedrock) {
        losses.field("thinking", "the history holds tool calls without the thoughts that led to them");
        return more;
    }
    match (thinking.depth, target.adaptive) {
        (Depth::Off, _) => {}
        (Depth::Adaptive, true) => more.put("thinking", json!({"type": "adaptive"})),
        (Depth::Effort(effort), true) => {
            more.put("thinking", json!({"type": "adaptive"}));
            more.put("output_config", json!({"effort": effort.max(Effort::Low).word()}));
        }
        (depth, _) => {
            let most = call.max_tokens.map_or(u64::MAX, |max| max.saturating_sub(1));
            let budget = depth.budget().unwrap_or(Effort::Medium.budget()).max(1_024).min(most);
            if budget < 1_024 {
                losses.field("thinking", "the maximum of tokens leaves no room for thoughts");
            } else {
                more.put("thinking", json!({"type": "enabled", "budget_tokens": budget}));
            }
        }
    }
    more
}

fn tool_config(call: &Call, thinks: bool, losses: &mut Losses) -> Option<Value> {
    let history = call.messages.iter().flat_map(|message| &message.parts);
    let has_history = history.clone().any(|part| matches!(part.body, Body::ToolCall(_) | Body::ToolResult(_)));
    let none = call.tool_choice == Some(ToolChoice::None);
    if none && !has_history {
        return None;
    }
    let mut list = Vec::new();
    for (i, tool) in call.tools.iter().enumerate() {
        match tool {
            Tool::Function(function) => self::tool(function, call, i, &mut list, losses),
            Tool::Foreign { dialect: Dialect::Bedrock, value } => list.push(value.clone()),
            Tool::Foreign { .. } => losses.meaning(format!("tools[{i}]"), "the tool runs at the other provider"),
        }
    }
    if list.is_empty() {
        // A history with calls is refused without tools.
        let mut names: Vec<&str> = Vec::new();
        for part in history {
            if let Body::ToolCall(call) = &part.body
                && !names.contains(&call.name.as_str())
            {
                names.push(&call.name);
            }
        }
        let empty = json!({"json": {"type": "object", "properties": {}}});
        list.extend(names.iter().map(|name| json!({"toolSpec": {"name": name, "inputSchema": empty}})));
    }
    if list.is_empty() {
        return None;
    }
    let forced = matches!(call.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::OneOf(_)));
    let choice = match &call.tool_choice {
        _ if forced && thinks && call.dialect != Dialect::Bedrock => {
            losses.field("tool_choice", "a thinking model cannot be forced to call a tool");
            Some(json!({"auto": {}}))
        }
        Some(ToolChoice::Auto) => Some(json!({"auto": {}})),
        Some(ToolChoice::Required) => Some(json!({"any": {}})),
        Some(ToolChoice::Named(name)) => Some(json!({"tool": {"name": name}})),
        Some(ToolChoice::OneOf(_)) => Some(json!({"any": {}})),
        Some(ToolChoice::None) => {
            losses.field("tool_choice", "the provider cannot forbid calls where the history holds some");
            None
        }
        None => None,
    };
    if call.parallel_tools == Some(false) {
        losses.field("parallel_tool_calls", "the provider cannot be kept from parallel calls");
    }
    Some(Object::new().with("tools", list).maybe("toolChoice", choice).done())
}

fn tool(function: &Function, call: &Call, i: usize, list: &mut Vec<Value>, losses: &mut Losses) {
    if let Some(ToolChoice::OneOf(names)) = &call.tool_choice
        && !names.contains(&function.name)
    {
        return;
    }
    let empty = || json!({"type": "object", "properties": {}});
    let schema = function.schema.as_ref().filter(|s| s.as_object().is_some_and(|s| !s.is_empty()));
    let schema = match schema {
        Some(schema) if function.strict == Some(true) && call.dialect != Dialect::Bedrock => {
            closed(schema, &format!("tools[{i}].parameters"), losses)
        }
        schema => schema.cloned().unwrap_or_else(empty),
    };
    let mut spec = Object::new()
        .with("name", function.name.as_str())
        // An empty description is refused.
        .maybe("description", function.description.as_deref().filter(|text| !text.is_empty()))
        .with("inputSchema", json!({"json": schema}))
        .maybe("strict", function.strict.filter(|strict| *strict || call.dialect == Dialect::Bedrock));
    if call.dialect == Dialect::Bedrock {
        spec.extend(&function.extras);
    } else {
        losses.extras(&format!("tools[{i}]"), &function.extras);
    }
    list.push(json!({"toolSpec": spec.done()}));
    list.extend(function.cache.map(cache_point));
}

fn cache_point(hint: CacheHint) -> Value {
    match hint {
        CacheHint::Minutes5 => json!({"cachePoint": {"type": "default"}}),
        CacheHint::Hour => json!({"cachePoint": {"type": "default", "ttl": "1h"}}),
    }
}

fn format(call: &Call, body: &mut Object, losses: &mut Losses) {
    match &call.format {
        Some(Format::Schema(format)) => {
            let schema = closed(&format.schema, losses.schema_path(), losses);
            let schema = Object::new()
                .with("schema", json::text(&schema))
                .with("name", format.name.as_deref().unwrap_or("answer"))
                .maybe("description", format.description.as_deref())
                .done();
            let text = json!({"type": "json_schema", "structure": {"jsonSchema": schema}});
            body.put("outputConfig", json!({"textFormat": text}));
        }
        Some(Format::Json) => losses.field("format", "the provider promises JSON only by a schema"),
        Some(Format::Text) | None => {}
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

fn role(role: Role) -> &'static str {
    match role {
        Role::Assistant => "assistant",
        Role::User | Role::System => "user",
    }
}
