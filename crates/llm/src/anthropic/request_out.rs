//! [`Call`] → a messages request, and what Anthropic insists on: `max_tokens`, a budget below it, no sampling beside
//! thoughts, tools wherever the history has calls.

mod blocks;
mod messages;

use serde_json::{Map, Value, json};

use crate::json::Object;
use crate::lost::Losses;
use crate::meaning::{Call, Depth, Effort, Format, Function, Tool, ToolChoice};
use crate::schema::closed;
use crate::{Dialect, Target};

/// Anthropic's smallest budget.
const LEAST_BUDGET: u64 = 1_024;

pub(crate) fn render_call(call: &Call, target: &Target, losses: &mut Losses) -> Vec<u8> {
    let mut config = Object::new();
    let thinking = thinking(call, target, &mut config, losses);
    let mut body = Object::new()
        .with("model", target.model.as_str())
        .with("max_tokens", max_tokens(call, target, thinking.as_ref()));
    let system = messages::system(call, losses);
    body.put_some("system", system);
    body.put("messages", messages::write(call, losses));
    tools(call, thinking.is_some(), &mut body, losses);
    sampling(call, thinking.is_some(), &mut body, losses);
    body.put_some("thinking", thinking);
    format(call, &mut config, losses);
    if !call.stop.is_empty() {
        body.put("stop_sequences", call.stop.clone());
    }
    if call.stream {
        body.put("stream", true);
    }
    body.put_some("metadata", call.end_user.as_ref().map(|user| json!({"user_id": user})));
    rest(call, &mut config, &mut body, losses);
    body.put_some("output_config", config.unless_empty());
    body.bytes()
}

/// The budget is part of `max_tokens`.
fn max_tokens(call: &Call, target: &Target, thinking: Option<&Value>) -> u64 {
    let budget = thinking.and_then(|thinking| thinking["budget_tokens"].as_u64()).unwrap_or(0);
    let roomy = || target.max_output.max(budget.saturating_add(target.max_output / 2));
    call.max_tokens.unwrap_or_else(|| roomy().min(target.most_output))
}

fn thinking(call: &Call, target: &Target, config: &mut Object, losses: &mut Losses) -> Option<Value> {
    let thinking = call.thinking.as_ref()?;
    let own = call.dialect == Dialect::Anthropic;
    let display = thinking.show.filter(|_| own).map(|show| if show { "summarized" } else { "omitted" });
    if !own && thinking.depth != Depth::Off && call.tool_turn_without_thoughts(Dialect::Anthropic) {
        losses.field("thinking", "the history holds tool calls without the thoughts that led to them");
        return None;
    }
    match (thinking.depth, target.adaptive) {
        (Depth::Off, _) => own.then(|| json!({"type": "disabled"})),
        (Depth::Adaptive, true) => Some(Object::new().with("type", "adaptive").maybe("display", display).done()),
        (Depth::Effort(effort), true) => {
            config.put("effort", word(effort, own));
            Some(Object::new().with("type", "adaptive").maybe("display", display).done())
        }
        (depth, _) => {
            // Where nobody says how much, a quarter stays for words.
            let roomy = target.most_output - target.most_output / 4;
            let most = call.max_tokens.map_or(roomy, |max| max.saturating_sub(1));
            let budget = depth.budget().unwrap_or(Effort::Medium.budget()).clamp(LEAST_BUDGET, most.max(LEAST_BUDGET));
            if budget > most {
                losses.field("thinking", "the maximum of tokens leaves no room for thoughts");
                return None;
            }
            Some(Object::new().with("type", "enabled").with("budget_tokens", budget).maybe("display", display).done())
        }
    }
}

/// `minimal` is OpenAI's, `xhigh` not every model's.
fn word(effort: Effort, own: bool) -> &'static str {
    match effort {
        _ if own => effort.word(),
        Effort::Minimal => Effort::Low.word(),
        Effort::XHigh => Effort::High.word(),
        effort => effort.word(),
    }
}

fn tools(call: &Call, thinking: bool, body: &mut Object, losses: &mut Losses) {
    let mut list = Vec::new();
    for (i, tool) in call.tools.iter().enumerate() {
        match tool {
            Tool::Function(function) if allowed(&function.name, call) => {
                list.push(self::tool(function, call, i, losses))
            }
            Tool::Function(_) => {}
            Tool::Foreign { dialect: Dialect::Anthropic, value } => list.push(value.clone()),
            Tool::Foreign { .. } => losses.meaning(format!("tools[{i}]"), "the tool runs at the other provider"),
        }
    }
    let invented = list.is_empty();
    if invented {
        list.extend(
            messages::names_in_history(call)
                .into_iter()
                .map(|name| json!({"name": name, "input_schema": {"type": "object", "properties": {}}})),
        );
    }
    if list.is_empty() {
        return;
    }
    body.put("tools", list);
    let choice = if invented { Some(json!({"type": "none"})) } else { choice(call, thinking, losses) };
    body.put_some("tool_choice", choice);
}

fn allowed(name: &str, call: &Call) -> bool {
    match &call.tool_choice {
        Some(ToolChoice::OneOf(names)) => names.iter().any(|allowed| allowed == name),
        _ => true,
    }
}

fn tool(function: &Function, call: &Call, i: usize, losses: &mut Losses) -> Value {
    let empty = || json!({"type": "object", "properties": {}});
    let schema = function.schema.as_ref().filter(|s| s.as_object().is_some_and(|s| !s.is_empty()));
    let schema = match schema {
        Some(schema) if function.strict == Some(true) && call.dialect != Dialect::Anthropic => {
            closed(schema, &format!("tools[{i}].parameters"), losses)
        }
        schema => schema.cloned().unwrap_or_else(empty),
    };
    let mut object = Object::new()
        .with("name", function.name.as_str())
        .maybe("description", function.description.as_deref())
        .with("input_schema", schema)
        .maybe("strict", function.strict.filter(|strict| *strict || call.dialect == Dialect::Anthropic))
        .maybe("cache_control", function.cache.map(blocks::cache_control));
    if call.dialect == Dialect::Anthropic {
        object.extend(&function.extras);
    } else {
        losses.extras(&format!("tools[{i}]"), &function.extras);
    }
    object.done()
}

fn choice(call: &Call, thinking: bool, losses: &mut Losses) -> Option<Value> {
    let forced = matches!(call.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::OneOf(_)));
    let own = call.dialect == Dialect::Anthropic;
    let mut choice = match &call.tool_choice {
        _ if forced && thinking && !own => {
            losses.field("tool_choice", "a thinking model cannot be forced to call a tool");
            Some(Object::new().with("type", "auto"))
        }
        Some(ToolChoice::Auto) => Some(Object::new().with("type", "auto")),
        Some(ToolChoice::None) => Some(Object::new().with("type", "none")),
        Some(ToolChoice::Required | ToolChoice::OneOf(_)) => Some(Object::new().with("type", "any")),
        Some(ToolChoice::Named(name)) => Some(Object::new().with("type", "tool").with("name", name.as_str())),
        None => None,
    };
    if let (Some(parallel), false) = (call.parallel_tools, call.tool_choice == Some(ToolChoice::None))
        && (!parallel || own)
    {
        choice.get_or_insert_with(|| Object::new().with("type", "auto")).put("disable_parallel_tool_use", !parallel);
    }
    choice.map(Object::done)
}

fn sampling(call: &Call, thinking: bool, body: &mut Object, losses: &mut Losses) {
    let sampling = &call.sampling;
    let strict = thinking && call.dialect != Dialect::Anthropic;
    match &sampling.temperature {
        Some(_) if strict => losses.field("temperature", "a thinking model refuses it"),
        Some(heat) if heat.as_f64().is_some_and(|heat| heat > 1.0) => {
            body.put("temperature", 1.0);
            losses.field("temperature", "the provider's scale ends at 1");
        }
        Some(heat) => body.put("temperature", heat.clone()),
        None => {}
    }
    match &sampling.top_p {
        Some(_) if strict => losses.field("top_p", "a thinking model refuses it"),
        top_p => body.put_some("top_p", top_p.clone()),
    }
    match sampling.top_k {
        Some(_) if strict => losses.field("top_k", "a thinking model refuses it"),
        top_k => body.put_some("top_k", top_k),
    }
    let unknown = [
        ("frequency_penalty", sampling.frequency_penalty.as_ref().is_some_and(|n| n.as_f64() != Some(0.0))),
        ("presence_penalty", sampling.presence_penalty.as_ref().is_some_and(|n| n.as_f64() != Some(0.0))),
        ("seed", sampling.seed.is_some()),
        ("n", sampling.n.is_some_and(|n| n != 1)),
    ];
    for (name, _) in unknown.into_iter().filter(|(_, set)| *set) {
        losses.field(name, "the provider has no such field");
    }
}

fn format(call: &Call, config: &mut Object, losses: &mut Losses) {
    match &call.format {
        Some(Format::Schema(schema)) => {
            let schema = closed(&schema.schema, losses.schema_path(), losses);
            config.put("format", json!({"type": "json_schema", "schema": schema}));
        }
        Some(Format::Json) => losses.field("format", "the provider promises JSON only by a schema"),
        Some(Format::Text) | None => {}
    }
}

fn rest(call: &Call, config: &mut Object, body: &mut Object, losses: &mut Losses) {
    if call.dialect != Dialect::Anthropic {
        if !call.metadata.is_empty() {
            losses.soft_field("metadata", "the provider keeps no labels");
        }
        if call.service_tier.is_some() {
            losses.soft_field("service_tier", "tiers differ between providers");
        }
        return losses.extras("", &call.extras);
    }
    body.put_some("service_tier", call.service_tier.as_deref());
    let mut extras: Map<String, Value> = call.extras.clone();
    if let Some(Value::Object(more)) = extras.remove("output_config") {
        config.extend(&more);
    }
    body.extend(&extras);
}
