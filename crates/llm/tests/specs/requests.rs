//! A→B→A over every recorded request: what was said, which tools were called and what they answered comes home.

use std::collections::BTreeMap;

use serde_json::Value;
use tidegate_llm::meaning::{Body, Call, Media, Part, Role, Source, ToolChoice};
use tidegate_llm::peek::peek;
use tidegate_llm::{Dialect, Losses, Site, Target};

use crate::recorded::report;
use crate::support::recordings;

#[test]
fn a_request_comes_home_from_every_dialect() {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut broken = Vec::new();
    let cases = recordings("requests");
    for case in cases.iter().filter(|case| case.status == 200) {
        let Some(request) = &case.request else { continue };
        let site = Site { model: Some(case.model.as_deref().unwrap_or("some-model")), stream: false };
        let body = request.to_string();
        let first = match case.dialect.parse_call(body.as_bytes(), site) {
            Ok(call) => call,
            Err(error) => {
                broken.push(format!("{} was refused: {error}", case.name));
                continue;
            }
        };
        if let Err(error) = peek(case.dialect, body.as_bytes(), site) {
            broken.push(format!("{} cannot be peeked: {error}", case.name));
        }
        for through in Dialect::ALL {
            *counts.entry((case.dialect.name(), through.name())).or_default() += 1;
            let (there, home) = (carried(&first, through), case.dialect);
            let back = there.and_then(|there| carried(&there, home));
            match back {
                Ok(back) if said(&back, &first) == said(&first, &first) => {}
                Ok(back) => broken.push(format!(
                    "{} {through:?}\n {:?}\n {:?}",
                    case.name,
                    said(&first, &first),
                    said(&back, &first)
                )),
                Err(why) => broken.push(format!("{} {through:?}: {why}", case.name)),
            }
        }
    }
    report("requests", &counts, &broken);
}

fn carried(call: &Call, to: Dialect) -> Result<Call, String> {
    let target = Target::guess(to, &call.model);
    let body = to.render_call(call, &target, &mut Losses::new(call.dialect));
    let site = Site { model: Some(&call.model), stream: call.stream };
    to.parse_call(&body, site).map_err(|e| format!("{e} in {}", String::from_utf8_lossy(&body)))
}

#[derive(Debug, PartialEq)]
struct Said {
    text: String,
    calls: Vec<(String, Value)>,
    results: Vec<String>,
    tools: Vec<String>,
}

/// Tools that were only declared for the history's sake are none of the caller's.
fn said(call: &Call, first: &Call) -> Said {
    let mut said = Said { text: String::new(), calls: Vec::new(), results: Vec::new(), tools: Vec::new() };
    // A system prompt amid the conversation moves to its beginning; its words stay.
    let amid = call.messages.iter().filter(|message| message.role == Role::System).flat_map(|message| &message.parts);
    let mut words: String = call.system.iter().chain(amid).filter_map(Part::as_text).collect();
    let others = call.messages.iter().filter(|message| message.role != Role::System);
    for part in others.flat_map(|message| &message.parts) {
        match &part.body {
            Body::Text(text) | Body::Refusal(text) => words.push_str(text),
            // Elsewhere a text file is text.
            Body::Media(Media { source: Source::Plain { text, .. }, .. }) => words.push_str(text),
            Body::ToolCall(call) => {
                let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
                said.calls.push((call.name.clone(), serde_json::from_str(arguments).unwrap_or_default()));
            }
            Body::ToolResult(result) => {
                said.results.push(letters(&result.texts().concat()));
            }
            _ => {}
        }
    }
    said.text = letters(&words);
    let wanted = |name: &String| match &first.tool_choice {
        // Who cannot narrow the choice narrows the tools.
        Some(ToolChoice::OneOf(names)) => names.contains(name),
        Some(ToolChoice::Named(one)) => name == one,
        // Bedrock cannot say `none`: it gets no tools then.
        Some(ToolChoice::None) => false,
        _ => first.tools.iter().any(|tool| tool.function().is_some()),
    };
    let functions = call.tools.iter().filter_map(|tool| tool.function());
    said.tools = functions.map(|function| function.name.clone()).filter(wanted).collect();
    said
}

/// Blanks between parts, and what stands for nothing (`(no output)`, the notice of an attachment), are no words.
fn letters(text: &str) -> String {
    let text = text.replace("(no output)", "").replace("The result is attached to the next message.", "");
    text.chars().filter(|c| c.is_alphanumeric()).collect()
}
