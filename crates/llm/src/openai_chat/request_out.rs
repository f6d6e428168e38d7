//! [`Call`] → a chat completion request.

pub(crate) mod content;
mod messages;

use serde_json::{Value, json};

use crate::json::Object;
use crate::lost::Losses;
use crate::meaning::{Call, Depth, Effort, Format, Schema, Thinking, Tool, ToolChoice};
use crate::target::Switch;
use crate::{Dialect, Target, schema};

/// OpenAI allows four stop sequences.
const STOPS: usize = 4;

pub(crate) fn render_call(call: &Call, target: &Target, losses: &mut Losses) -> Vec<u8> {
    let mut body =
        Object::new().with("model", target.model.as_str()).with("messages", messages::write(call, target, losses));
    // Without tools OpenAI refuses to be told how to choose.
    if let Some(tools) = tools(call, losses) {
        body.put("tools", tools);
        body.put_some("tool_choice", call.tool_choice.as_ref().map(|choice| tool_choice(choice, call)));
        body.put_some("parallel_tool_calls", call.parallel_tools);
    }
    let cap = if target.reasoning_only { "max_completion_tokens" } else { "max_tokens" };
    body.put_some(cap, call.max_tokens);
    sampling(call, target, &mut body, losses);
    stop(call, &mut body, losses);
    body.put_some("response_format", takes_format(call, target, losses).map(format));
    thinking(call, target, &mut body, losses);
    if call.stream {
        // Always asked for: the usage chunk is stripped again where the caller did not want it.
        body = body.with("stream", true).with("stream_options", json!({"include_usage": true}));
    }
    body.put_some("user", call.end_user.as_deref());
    labels(call, &mut body, losses);
    if call.dialect == Dialect::OpenAiChat {
        body.extend(&call.extras);
    } else {
        losses.extras("", &call.extras);
    }
    body.bytes()
}

fn tools(call: &Call, losses: &mut Losses) -> Option<Value> {
    let mut list = Vec::new();
    for (i, tool) in call.tools.iter().enumerate() {
        match tool {
            Tool::Function(tool) => {
                let mut function = Object::new()
                    .with("name", tool.name.as_str())
                    .maybe("description", tool.description.as_deref())
                    .maybe("parameters", tool.schema.clone())
                    .maybe("strict", tool.strict);
                if call.dialect == Dialect::OpenAiChat {
                    function.extend(&tool.extras);
                } else {
                    losses.extras(&format!("tools[{i}]"), &tool.extras);
                }
                list.push(json!({"type": "function", "function": function.done()}));
            }
            Tool::Foreign { dialect: Dialect::OpenAiChat, value } => list.push(value.clone()),
            Tool::Foreign { .. } => losses.meaning(format!("tools[{i}]"), "the tool runs at the other provider"),
        }
    }
    (!list.is_empty()).then_some(Value::Array(list))
}

fn tool_choice(choice: &ToolChoice, call: &Call) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
        ToolChoice::OneOf(names) => {
            let known = |name: &&String| call.tools.iter().any(|t| t.function().is_some_and(|f| f.name == **name));
            let tools: Vec<Value> = names
                .iter()
                .filter(known)
                .map(|name| json!({"type": "function", "function": {"name": name}}))
                .collect();
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": tools}})
        }
    }
}

fn sampling(call: &Call, target: &Target, body: &mut Object, losses: &mut Losses) {
    let sampling = &call.sampling;
    let fixed = [
        ("temperature", &sampling.temperature),
        ("top_p", &sampling.top_p),
        ("frequency_penalty", &sampling.frequency_penalty),
        ("presence_penalty", &sampling.presence_penalty),
    ];
    for (name, value) in fixed {
        match value {
            Some(value) if !target.reasoning_only => body.put(name, value.clone()),
            Some(_) => losses.field(name, "reasoning models refuse it"),
            None => {}
        }
    }
    body.put_some("seed", sampling.seed.clone());
    match sampling.n {
        Some(n) if call.dialect == Dialect::OpenAiChat => body.put("n", n),
        Some(n) if n != 1 => losses.field("n", "one answer per call when translating"),
        _ => {}
    }
    match sampling.top_k {
        Some(top_k) if call.dialect == Dialect::OpenAiChat => body.put("top_k", top_k),
        Some(_) => losses.field("top_k", "this dialect has no such field"),
        None => {}
    }
}

fn stop(call: &Call, body: &mut Object, losses: &mut Losses) {
    match call.stop.as_slice() {
        [] => {}
        [one] => body.put("stop", one.as_str()),
        many => {
            body.put("stop", many.iter().take(STOPS).cloned().collect::<Vec<_>>());
            if many.len() > STOPS {
                losses.field("stop", "at most four stop sequences are allowed");
            }
        }
    }
}

fn format(format: &Format) -> Value {
    match format {
        Format::Text => json!({"type": "text"}),
        Format::Json => json!({"type": "json_object"}),
        Format::Schema(schema) => json!({"type": "json_schema", "json_schema": named(schema).done()}),
    }
}

/// OpenAI takes the schema of an object and of nothing else.
pub(crate) fn takes_format<'c>(call: &'c Call, target: &Target, losses: &mut Losses) -> Option<&'c Format> {
    let format = call.format.as_ref()?;
    let ours = matches!(call.dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses);
    if let (Format::Schema(schema), false) = (format, ours || target.any_schema)
        && !schema::is_of_object(&schema.schema)
    {
        losses.field("format", "the provider takes only the schema of an object");
        return None;
    }
    Some(format)
}

/// OpenAI wants a name, and a `strict` that the schema can keep.
pub(crate) fn named(format: &Schema) -> Object {
    Object::new()
        .with("name", format.name.as_deref().unwrap_or("answer"))
        .maybe("description", format.description.as_deref())
        .with("strict", format.strict.unwrap_or_else(|| schema::is_strict(&format.schema)))
        .with("schema", format.schema.clone())
}

fn thinking(call: &Call, target: &Target, body: &mut Object, losses: &mut Losses) {
    let Some(thinking) = &call.thinking else { return };
    let is_on = thinking.depth != Depth::Off;
    match target.switch {
        Switch::Reasoning => return body.put("reasoning", reasoning(thinking)),
        Switch::EnableThinking => {
            body.put("enable_thinking", is_on);
            let budget = thinking.depth.budget().filter(|_| is_on);
            return body.put_some("thinking_budget", budget);
        }
        Switch::Thinking => {
            body.put("thinking", json!({"type": if is_on { "enabled" } else { "disabled" }}));
            if !is_on {
                return;
            }
        }
        Switch::Effort => {}
    }
    let takes = target.reasoning_only || target.open_thoughts || call.dialect == Dialect::OpenAiChat;
    match thinking.depth {
        Depth::Off if call.dialect == Dialect::OpenAiChat => body.put("reasoning_effort", "none"),
        Depth::Off if target.reasoning_only => {
            body.put("reasoning_effort", "minimal");
            losses.field("thinking", "the model cannot be kept from thinking");
        }
        Depth::Off if target.open_thoughts => {
            losses.field("thinking", "nobody knows how this provider's model is kept from thinking");
        }
        Depth::Off | Depth::Adaptive => {}
        depth if takes => body.put_some("reasoning_effort", depth.effort().map(effort_word)),
        _ => losses.field("thinking", "the model does not think"),
    }
}

/// As OpenRouter reads it for models of any maker.
fn reasoning(thinking: &Thinking) -> Value {
    let object = match thinking.depth {
        Depth::Off => Object::new().with("effort", "none"),
        Depth::Adaptive => Object::new().with("enabled", true),
        Depth::Effort(effort) => Object::new().with("effort", effort_word(effort)),
        Depth::Budget(tokens) => Object::new().with("max_tokens", tokens),
    };
    object.maybe("exclude", (thinking.show == Some(false) && thinking.depth != Depth::Off).then_some(true)).done()
}

/// OpenAI knows no `max`.
pub(crate) fn effort_word(effort: Effort) -> &'static str {
    effort.min(Effort::XHigh).word()
}

fn labels(call: &Call, body: &mut Object, losses: &mut Losses) {
    let ours = matches!(call.dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses);
    if !call.metadata.is_empty() {
        // OpenAI refuses metadata of calls it does not store, and other callers never asked to be stored.
        if ours {
            body.put("metadata", json!(call.metadata));
        } else {
            losses.soft_field("metadata", "labels are kept only for stored calls");
        }
    }
    match &call.service_tier {
        Some(tier) if ours => body.put("service_tier", tier.as_str()),
        Some(_) => losses.soft_field("service_tier", "tiers differ between providers"),
        None => {}
    }
}
