//! What is not ours to read comes out as it came in: numbers that no machine's word holds, and how they are written.

use serde_json::{Value, json};
use tidegate_llm::bounds::Bounds;
use tidegate_llm::{Dialect, Losses, Site, Target};

use crate::support::{collect, decode, encode, on_the_wire, reply};
use crate::wire::CHAT;

const ARGUMENTS: &str =
    r#"{"id":12345678901234567890123,"ratio":0.12345678901234567890123,"price":1.50,"deep":[{"big":-1e30,"zero":-0}]}"#;
const SCHEMA: &str = r#"{"type":"object","properties":{"id":{"type":"integer","maximum":340282366920938463463374607431768211455,"minimum":0.10}}}"#;

fn call() -> String {
    format!(
        r#"{{"model":"m","max_tokens":9,"temperature":0.70,"tools":[{{"type":"function","function":{{"name":"f","parameters":{SCHEMA}}}}}],
        "messages":[{{"role":"user","content":"go"}},
        {{"role":"assistant","content":null,"tool_calls":[{{"id":"a","type":"function","function":{{"name":"f","arguments":{}}}}}]}},
        {{"role":"tool","tool_call_id":"a","content":{}}}]}}"#,
        Value::from(ARGUMENTS),
        Value::from(ARGUMENTS),
    )
}

fn translated(from: Dialect, body: &[u8], to: Dialect) -> String {
    let call = from.parse_call(body, Site { model: Some("m"), stream: false }).expect("the call is valid");
    let target = Target::guess(to, "claude-sonnet-4-5");
    String::from_utf8(to.render_call(&call, &target, &mut Losses::new(from))).expect("text")
}

/// However a text is written within others.
fn says(body: &str, text: &str) -> bool {
    let quoted = Value::from(text).to_string();
    body.contains(text) || body.contains(&quoted[1..quoted.len() - 1])
}

#[test]
fn line_8_arguments_and_schemas_of_tools_keep_every_number_on_their_way_out_and_home() {
    for to in Dialect::ALL {
        let out = translated(CHAT, call().as_bytes(), to);
        assert!(says(&out, ARGUMENTS), "{to:?}: {out}");
        assert!(says(&out, "340282366920938463463374607431768211455") && says(&out, "0.10"), "{to:?}: {out}");
        for home in Dialect::ALL {
            let back = translated(to, out.as_bytes(), home);
            assert!(says(&back, ARGUMENTS), "{to:?} {home:?}: {back}");
            assert!(says(&back, "340282366920938463463374607431768211455"), "{to:?} {home:?}: {back}");
        }
    }
}

#[test]
fn line_8_arguments_in_answers_and_streams_keep_every_number() {
    let chat = json!({"id": "c", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant",
        "content": null, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": ARGUMENTS}}]}}]});
    let answer = CHAT.parse_answer(chat.to_string().as_bytes()).expect("an answer");
    for by in Dialect::ALL {
        let whole = by.render_answer(&answer, &reply(false));
        let again = by.parse_answer(&whole).expect("an answer");
        let home = String::from_utf8(CHAT.render_answer(&again, &reply(false))).expect("text");
        assert!(says(&home, ARGUMENTS), "{by:?}: {home}");
        let mut stream = Vec::new();
        answer.clone().replayed(by, reply(true)).iter().for_each(|piece| stream.extend(piece));
        let events = decode(by, &stream, 7);
        let again = collect(by, &events).expect("it ends").expect("without an error");
        let home = String::from_utf8(CHAT.render_answer(&again, &reply(false))).expect("text");
        assert!(says(&home, ARGUMENTS), "{by:?}: {home}");
        assert!(!encode(by, &events, true).is_empty());
    }
}

#[test]
fn line_7_arguments_that_stream_in_objects_keep_every_number() {
    let chunk = format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{{\"name\":\"f\",\"args\":{ARGUMENTS}}}}}]}},\"finishReason\":\"STOP\"}}]}}\n\n"
    );
    let mut decoder = Dialect::Gemini.decoder(Bounds::default());
    let mut events = Vec::new();
    decoder.push(chunk.as_bytes(), &mut events);
    decoder.finish(&mut events);
    let answer = collect(Dialect::Gemini, &events).expect("it ends").expect("without an error");
    let home = String::from_utf8(Dialect::Anthropic.render_answer(&answer, &reply(false))).expect("text");
    assert!(home.contains(ARGUMENTS), "{home}");
    // What is made of values is as exact as they are.
    let plain = on_the_wire(
        Dialect::Gemini,
        &[json!({"candidates": [{"content": {"parts": [{"functionCall":
        {"name": "f", "args": {"n": u64::MAX}}}]}, "finishReason": "STOP"}]})],
    );
    let answer = collect(Dialect::Gemini, &decode(Dialect::Gemini, &plain, 9)).expect("it ends").expect("an answer");
    assert!(
        matches!(&answer.parts[0].body, tidegate_llm::meaning::Body::ToolCall(call) if call.arguments == r#"{"n":18446744073709551615}"#)
    );
}
