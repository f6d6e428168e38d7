//! The facts about wire formats that are no one module's own, by the number of their line.

use serde_json::{Value, json};
use tidegate_llm::bounds::Bounds;
use tidegate_llm::meaning::{Answer, BlockKind, Body, Delta, Event, Gist, Kind, Stop, Usage};
use tidegate_llm::{Dialect, Losses, Site, Target};

use crate::support::{check_promises, collect, decode, encode, on_the_wire, reply};

const CHAT: Dialect = Dialect::OpenAiChat;

fn chat_chunk(delta: Value, finish: Value) -> Value {
    json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

fn answer_of(dialect: Dialect, events: &[Value]) -> Answer {
    let events = decode(dialect, &on_the_wire(dialect, events), 11);
    check_promises(&events).expect("promises hold");
    collect(dialect, &events).expect("the stream ends").expect("without an error")
}

fn text(stream: &[u8]) -> String {
    String::from_utf8(stream.to_vec()).expect("text")
}

fn translated(from: Dialect, body: &Value, to: Dialect) -> (Value, Losses) {
    translated_for(from, body, to, &Target::guess(to, "claude-sonnet-4-5"))
}

fn translated_for(from: Dialect, body: &Value, to: Dialect, target: &Target) -> (Value, Losses) {
    let site = Site { model: Some("m"), stream: false };
    let call = from.parse_call(body.to_string().as_bytes(), site).expect("the call is valid");
    let mut losses = Losses::new(from);
    let out = to.render_call(&call, target, &mut losses);
    (serde_json::from_slice(&out).expect("JSON"), losses)
}

fn paths(losses: &Losses) -> Vec<&str> {
    losses.list().iter().map(|lost| lost.path.as_str()).collect()
}

#[test]
fn line_1_the_usage_chunk_comes_only_if_asked_for_and_is_always_asked_of_the_provider() {
    let events = decode(CHAT, &on_the_wire(CHAT, &[chat_chunk(json!({"content": "x"}), json!("stop"))]), 9);
    for (include_usage, want) in [(true, 1), (false, 0)] {
        let mut encoder = CHAT.encoder(tidegate_llm::Reply { include_usage, ..reply(true) });
        let mut out = Vec::new();
        events.iter().for_each(|event| encoder.push(event.clone(), &mut out));
        let out = text(&out);
        assert_eq!(out.matches("\"choices\":[]").count(), want);
        assert!(out.ends_with("data: [DONE]\n\n"));
    }
    let call = json!({"model": "m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "x"}]});
    let (body, _) = translated(Dialect::Anthropic, &call, CHAT);
    assert_eq!(body["stream_options"]["include_usage"], true);
}

#[test]
fn line_2_usage_is_found_wherever_providers_put_it() {
    let report = json!({"prompt_tokens": 10, "completion_tokens": 4});
    let early = json!({"prompt_tokens": 10, "completion_tokens": 1});
    let with = |mut chunk: Value, usage: &Value| {
        chunk["usage"] = usage.clone();
        chunk
    };
    let word = || chat_chunk(json!({"content": "x"}), Value::Null);
    let end = || chat_chunk(json!({}), json!("stop"));
    let streams: [Vec<Value>; 6] = [
        vec![word(), with(end(), &report)],
        vec![with(word(), &early), with(end(), &report)],
        vec![with(word(), &Value::Null), end(), json!({"choices": [], "usage": report})],
        vec![word(), end(), json!({"choices": [{"delta": {}}], "usage": report})],
        vec![word(), end(), with(end(), &report)],
        vec![word(), json!({"choices": [{"delta": {}, "finish_reason": "stop"}], "x_groq": {"usage": report}})],
    ];
    for stream in streams {
        let answer = answer_of(CHAT, &stream);
        assert_eq!(answer.usage, Some(Usage { input: 10, output: 4, ..Usage::default() }), "{stream:?}");
        assert_eq!((answer.text().as_str(), answer.stop), ("x", Stop::EndTurn));
    }
}

#[test]
fn line_3_anthropics_order_holds_even_if_a_call_comes_first_and_text_after_it() {
    let call = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]});
    let stream = [
        chat_chunk(call, Value::Null),
        chat_chunk(json!({"content": "and text"}), Value::Null),
        chat_chunk(json!({}), json!("tool_calls")),
    ];
    let events = decode(CHAT, &on_the_wire(CHAT, &stream), 50);
    let out = text(&encode(Dialect::Anthropic, &events, true));
    let names: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let block = ["content_block_start", "content_block_delta", "content_block_stop"];
    let want = [&["message_start"][..], &block, &block, &["message_delta", "message_stop"]].concat();
    assert_eq!(names, want);
    assert!(out.contains(r#""index":1,"content_block":{"type":"text""#) && !out.contains("[DONE]"));
}

#[test]
fn line_5_items_keep_their_ids_and_numbers_count() {
    let stream = [
        chat_chunk(json!({"reasoning_content": "hm"}), Value::Null),
        chat_chunk(json!({"content": "x"}), Value::Null),
        chat_chunk(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}), Value::Null),
        chat_chunk(json!({}), json!("length")),
    ];
    let events = decode(CHAT, &on_the_wire(CHAT, &stream), 50);
    let out = text(&encode(Dialect::OpenAiResponses, &events, true));
    let told: Vec<Value> = out
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    assert!(told.iter().enumerate().all(|(i, event)| event["sequence_number"] == i));
    let ids = |name: &str| -> Vec<&str> {
        told.iter().filter(|e| e["type"] == name).filter_map(|e| e["item"]["id"].as_str()).collect()
    };
    assert_eq!(ids("response.output_item.added"), ids("response.output_item.done"));
    let last = told.last().expect("there is one");
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(last["response"]["incomplete_details"]["reason"], "max_output_tokens");
    let output: Vec<&str> =
        last["response"]["output"].as_array().expect("a list").iter().filter_map(|item| item["id"].as_str()).collect();
    assert_eq!(output, ids("response.output_item.done"));
    assert!(!out.contains("[DONE]"));
}

#[test]
fn line_5_items_whose_ids_rotate_are_told_apart_by_their_index() {
    let event = |kind: &str, id: &str, more: Value| {
        let mut event = json!({"type": kind, "item_id": id, "output_index": 0, "content_index": 0});
        event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        event
    };
    let stream = [
        json!({"type": "response.created", "response": {"id": "r1"}}),
        event("response.output_item.added", "a", json!({"item": {"type": "message", "id": "x1"}})),
        event("response.output_text.delta", "b", json!({"delta": "Hel"})),
        event("response.output_text.delta", "c", json!({"delta": "lo"})),
        event("response.output_item.done", "d", json!({"item": {"type": "message", "id": "x2", "content": []}})),
        json!({"type": "response.completed", "response": {"id": "r2", "status": "completed", "output": []}}),
    ];
    let answer = answer_of(Dialect::OpenAiResponses, &stream);
    assert_eq!((answer.text().as_str(), answer.parts.len(), answer.id.as_str()), ("Hello", 1, "r1"));
}

#[test]
fn line_6_bedrock_tells_usage_after_the_stop_and_exceptions_end_a_stream() {
    let stream = [
        json!({"messageStart": {"role": "assistant"}}),
        json!({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Hi"}, "p": "abcd"}}),
        json!({"contentBlockStop": {"contentBlockIndex": 0}}),
        json!({"messageStop": {"stopReason": "end_turn"}}),
        json!({"metadata": {"usage": {"inputTokens": 3, "outputTokens": 2, "cacheReadInputTokens": 9}}}),
    ];
    let answer = answer_of(Dialect::Bedrock, &stream);
    assert_eq!(answer.text(), "Hi");
    assert_eq!(answer.usage, Some(Usage { input: 3, cache_read: 9, output: 2, ..Usage::default() }));

    let mut broken = on_the_wire(Dialect::Bedrock, &stream[..2]);
    let payload = br#"{"message":"slow down"}"#;
    tidegate_llm::frame::aws::write(
        tidegate_llm::frame::FrameKind::Exception,
        "throttlingException",
        payload,
        &mut broken,
    );
    let events = decode(Dialect::Bedrock, &broken, 3);
    assert!(matches!(events.last(), Some(Event::Error(e)) if e.kind == Kind::RateLimited && e.message == "slow down"));
}

#[test]
fn line_7_gemini_stops_with_stop_even_if_it_calls_and_calls_get_ids() {
    let part = |part: Value| json!({"responseId": "r-1", "candidates": [{"content": {"parts": [part]}}]});
    let call = |city: &str| part(json!({"functionCall": {"name": "weather", "args": {"city": city}}}));
    let end = json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 5,
        "candidatesTokenCount": 2, "thoughtsTokenCount": 7}});
    let answer = answer_of(Dialect::Gemini, &[call("Paris"), call("Rome"), end]);
    assert_eq!(answer.stop, Stop::ToolUse);
    let ids: Vec<&str> = answer
        .parts
        .iter()
        .filter_map(|part| match &part.body {
            Body::ToolCall(call) => Some(call.id.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(ids, ["call_r1_0", "call_r1_1"]);
    let cut = json!({"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}],
        "usageMetadata": {"promptTokenCount": 5, "thoughtsTokenCount": 90, "totalTokenCount": 95}});
    let answer = Dialect::Gemini.parse_answer(cut.to_string().as_bytes()).expect("an answer");
    assert_eq!((answer.stop, answer.usage.expect("told").completion()), (Stop::MaxTokens, 90));
}

#[test]
fn line_8_calls_are_keyed_by_index_and_odd_imitations_are_understood() {
    let piece = |piece: Value| chat_chunk(json!({"tool_calls": [piece]}), Value::Null);
    let end = || chat_chunk(json!({}), json!("stop"));
    let streams = [
        // All numbered 0, each whole (Gemini's imitation).
        vec![
            piece(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"x\":1}"}})),
            piece(json!({"index": 0, "id": "b", "function": {"name": "g", "arguments": "{}"}})),
        ],
        // Ids and names repeated with every piece.
        vec![
            piece(json!({"index": 5, "id": "a", "function": {"name": "f", "arguments": "{\"x\""}})),
            piece(json!({"index": 5, "id": "a", "function": {"name": "f", "arguments": ":1}"}})),
            piece(json!({"index": 9, "id": "b", "function": {"name": "g", "arguments": ""}})),
        ],
        // No index; arguments before the name; an object instead of text.
        vec![
            piece(json!({"id": "a", "function": {"arguments": "{\"x\":"}})),
            piece(json!({"id": "a", "function": {"name": "f", "arguments": "1}"}})),
            piece(json!({"id": "b", "function": {"name": "g", "arguments": {}}})),
        ],
    ];
    for mut stream in streams {
        stream.push(end());
        let answer = answer_of(CHAT, &stream);
        let rendered = Dialect::Anthropic.render_answer(&answer, &reply(true));
        let rendered: Value = serde_json::from_slice(&rendered).expect("JSON");
        let want = json!([{"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
            {"type": "tool_use", "id": "b", "name": "g", "input": {}}]);
        assert_eq!(rendered["content"], want);
        assert_eq!(rendered["stop_reason"], "tool_use");
    }
}

#[test]
fn line_8_truncated_arguments_are_an_object_for_anthropic() {
    let call = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{\"a\":1,\"b\":\"unfin"}}]});
    let answer = answer_of(CHAT, &[chat_chunk(call, Value::Null), chat_chunk(json!({}), json!("length"))]);
    let rendered: Value =
        serde_json::from_slice(&Dialect::Anthropic.render_answer(&answer, &reply(true))).expect("JSON");
    assert_eq!(rendered["content"][0]["input"], json!({"a": 1}));
    assert_eq!(rendered["stop_reason"], "max_tokens");
}

#[test]
fn line_9_results_are_merged_for_anthropic_split_for_openai_and_tools_are_never_missing() {
    let chat = json!({"model": "m", "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "user", "content": "go on"}]});
    for dialect in [Dialect::Anthropic, Dialect::Bedrock] {
        let (body, _) = translated(CHAT, &chat, dialect);
        let messages = body["messages"].as_array().expect("a list");
        assert_eq!(messages.len(), 3, "{body}");
        assert_eq!(messages[1]["content"].as_array().map(Vec::len), Some(2), "no empty text: {body}");
        assert_eq!(messages[2]["content"].as_array().map(Vec::len), Some(3), "two results and a text: {body}");
        let tools = if dialect == Dialect::Anthropic { &body["tools"] } else { &body["toolConfig"]["tools"] };
        assert_eq!(tools.as_array().map(Vec::len), Some(2), "{body}");
    }
    let (anthropic, _) = translated(CHAT, &chat, Dialect::Anthropic);
    let (home, _) = translated(Dialect::Anthropic, &anthropic, CHAT);
    let roles: Vec<&str> =
        home["messages"].as_array().expect("a list").iter().filter_map(|m| m["role"].as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "tool", "user"]);
    assert_eq!(home["messages"][1]["content"], Value::Null);
}

#[test]
fn line_10_tools_that_run_at_a_provider_are_named_as_lost() {
    let call = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "tools": [
        {"type": "web_search_20250305", "name": "web_search"}, {"name": "f", "input_schema": {"type": "object"}}]});
    for dialect in [CHAT, Dialect::OpenAiResponses, Dialect::Gemini, Dialect::Bedrock] {
        let (_, losses) = translated(Dialect::Anthropic, &call, dialect);
        assert_eq!(paths(&losses), ["tools[0]"]);
        let refused = losses.reject().expect_err("a tool means something");
        assert!(refused.to_string().starts_with("tools[0]: cannot be translated"), "{refused}");
    }
}

#[test]
fn line_11_tool_choice_and_parallel_calls_translate() {
    let call = |choice: Value, parallel: bool| {
        json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "tool_choice": choice,
            "parallel_tool_calls": parallel, "tools": [{"type": "function", "function": {"name": "f"}}]})
    };
    let named = json!({"type": "function", "function": {"name": "f"}});
    let table = [
        (json!("auto"), json!({"type": "auto"}), json!({"mode": "AUTO"})),
        (json!("none"), json!({"type": "none"}), json!({"mode": "NONE"})),
        (json!("required"), json!({"type": "any"}), json!({"mode": "ANY"})),
        (named, json!({"type": "tool", "name": "f"}), json!({"mode": "ANY", "allowedFunctionNames": ["f"]})),
    ];
    for (chat, anthropic, gemini) in table {
        let (body, _) = translated(CHAT, &call(chat.clone(), true), Dialect::Anthropic);
        assert_eq!(body["tool_choice"], anthropic);
        let (home, _) = translated(Dialect::Anthropic, &body, CHAT);
        assert_eq!(home["tool_choice"], chat);
        let (body, _) = translated(CHAT, &call(chat.clone(), true), Dialect::Gemini);
        assert_eq!(body["toolConfig"]["functionCallingConfig"], gemini);
        let (home, _) = translated(Dialect::Gemini, &body, CHAT);
        assert_eq!(home["tool_choice"], chat);
    }
    let (body, _) = translated(CHAT, &call(json!("auto"), false), Dialect::Anthropic);
    assert_eq!(body["tool_choice"], json!({"type": "auto", "disable_parallel_tool_use": true}));
    let (home, _) = translated(Dialect::Anthropic, &body, CHAT);
    assert_eq!(home["parallel_tool_calls"], false);
}

#[test]
fn line_12_strict_is_claimed_for_openai_only_where_the_schema_keeps_it() {
    let call = |schema: Value| {
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}],
            "output_config": {"format": {"type": "json_schema", "schema": schema}}})
    };
    let strict = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let loose = json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false});
    for (schema, want) in [(strict, true), (loose, false)] {
        let (body, _) = translated(Dialect::Anthropic, &call(schema.clone()), CHAT);
        assert_eq!(body["response_format"]["json_schema"]["strict"], want);
        assert_eq!(body["response_format"]["json_schema"]["schema"], schema);
    }
}

#[test]
fn line_13_thoughts_go_back_to_their_maker_only_and_unchanged() {
    let answer = json!({"id": "m1", "type": "message", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "c2VjcmV0"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}}], "stop_reason": "tool_use", "usage": {}});
    let answer = Dialect::Anthropic.parse_answer(answer.to_string().as_bytes()).expect("an answer");
    // As an OpenAI client sends it back.
    let message: Value = serde_json::from_slice(&CHAT.render_answer(&answer, &reply(true))).expect("JSON");
    let message = &message["choices"][0]["message"];
    let call = json!({"model": "m", "messages": [{"role": "user", "content": "x"}, message,
        {"role": "tool", "tool_call_id": "t", "content": "1"}]});
    let (body, _) = translated(CHAT, &call, Dialect::Anthropic);
    let want = json!([{"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "c2VjcmV0"}, {"type": "tool_use", "id": "t", "name": "f", "input": {}}]);
    assert_eq!(body["messages"][1]["content"], want);
    // Neither Bedrock nor OpenAI get what Anthropic signed.
    for other in [Dialect::Bedrock, CHAT, Dialect::OpenAiResponses, Dialect::Gemini] {
        let (body, losses) = translated(CHAT, &call, other);
        assert!(!body.to_string().contains("c2ln") && !losses.is_empty(), "{other:?} {body}");
    }
}

#[test]
fn line_13_unsigned_thoughts_are_dropped_for_anthropic_and_a_thinking_tool_turn_stops_thinking() {
    let call = json!({"model": "m", "reasoning_effort": "high", "messages": [{"role": "user", "content": "x"},
        {"role": "assistant", "reasoning_content": "hm", "content": null, "tool_calls": [
            {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "t", "content": "1"}]});
    let (body, losses) = translated(CHAT, &call, Dialect::Anthropic);
    assert!(!body.to_string().contains("thinking"), "{body}");
    assert!(paths(&losses).contains(&"reasoning_effort"), "{losses:?}");
}

#[test]
fn line_13_gemini_3_gets_its_signatures_even_from_clients_that_keep_only_ids() {
    let answer = json!({"responseId": "r", "candidates": [{"finishReason": "STOP", "content": {"parts": [
        {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "Ck+/AY=="}]}}]});
    let answer = Dialect::Gemini.parse_answer(answer.to_string().as_bytes()).expect("an answer");
    let message: Value = serde_json::from_slice(&CHAT.render_answer(&answer, &reply(true))).expect("JSON");
    let mut call = message["choices"][0]["message"]["tool_calls"][0].clone();
    call.as_object_mut().expect("an object").remove("extra_content");
    let id = call["id"].clone();
    let request = json!({"model": "m", "messages": [{"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": id, "content": "1"}]});
    let target = Target::guess(Dialect::Gemini, "gemini-3-pro");
    let (body, _) = translated_for(CHAT, &request, Dialect::Gemini, &target);
    assert_eq!(body["contents"][1]["parts"][0]["thoughtSignature"], "Ck+/AY==");
    assert_eq!(body["contents"][2]["parts"][0]["functionResponse"]["name"], "f");
    // Calls that another model made get Google's stand-in.
    let (body, _) = translated_for(
        CHAT,
        &json!({"model": "m", "messages": [{"role": "assistant", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}]}),
        Dialect::Gemini,
        &target,
    );
    assert_eq!(body["contents"][0]["parts"][0]["thoughtSignature"], "skip_thought_signature_validator");
}

#[test]
fn line_14_thoughts_are_read_in_every_spelling() {
    let spellings = [
        json!({"reasoning_content": "hm"}),
        json!({"reasoning": "hm"}),
        json!({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}]}),
        json!({"reasoning_details": [{"type": "reasoning.summary", "summary": "hm", "index": 0}]}),
        json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
    ];
    for delta in spellings {
        let answer = answer_of(
            CHAT,
            &[chat_chunk(delta.clone(), Value::Null), chat_chunk(json!({"content": "x"}), json!("stop"))],
        );
        let thoughts: Vec<&Body> = answer.parts.iter().map(|part| &part.body).collect();
        assert!(
            matches!(thoughts[..], [Body::Reasoning { text, .. }, Body::Text(_)] if text == "hm"),
            "{delta} {thoughts:?}"
        );
    }
}

#[test]
fn line_14_effort_budget_and_level_translate() {
    let call = json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "reasoning_effort": "medium"});
    let (body, _) = translated(CHAT, &call, Dialect::Anthropic);
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 8192}));
    assert!(body["max_tokens"].as_u64() > Some(8192));
    let (home, _) = translated_for(Dialect::Anthropic, &body, CHAT, &Target::guess(CHAT, "gpt-5"));
    assert_eq!(home["reasoning_effort"], "medium");
    let target = Target::guess(Dialect::Anthropic, "claude-opus-4-6");
    let (body, _) = translated_for(CHAT, &call, Dialect::Anthropic, &target);
    assert_eq!((&body["thinking"]["type"], &body["output_config"]["effort"]), (&json!("adaptive"), &json!("medium")));
    let target = Target::guess(Dialect::Gemini, "gemini-2.5-pro");
    let (body, _) = translated_for(CHAT, &call, Dialect::Gemini, &target);
    assert_eq!(body["generationConfig"]["thinkingConfig"]["thinkingBudget"], 8192);
}

#[test]
fn line_15_max_tokens_is_always_there_for_anthropic_and_reasoning_models_get_no_temperature() {
    let call =
        json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 0.3, "max_tokens": 77});
    let (body, _) = translated(CHAT, &json!({"model": "m", "messages": []}), Dialect::Anthropic);
    assert_eq!(body["max_tokens"], 8192);
    let (body, losses) = translated_for(CHAT, &call, CHAT, &Target::guess(CHAT, "o3-mini"));
    assert_eq!(
        (&body["max_completion_tokens"], &body["temperature"], &body["max_tokens"]),
        (&json!(77), &Value::Null, &Value::Null)
    );
    assert_eq!(paths(&losses), ["temperature"]);
    let (body, losses) = translated_for(CHAT, &call, CHAT, &Target::guess(CHAT, "gpt-4o"));
    assert_eq!((&body["max_tokens"], &body["temperature"]), (&json!(77), &json!(0.3)));
    assert!(losses.is_empty());
}

#[test]
fn line_18_every_stop_means_the_same_in_every_dialect() {
    let stops = [
        (Stop::EndTurn, Gist::Done),
        (Stop::MaxTokens, Gist::Length),
        (Stop::StopSequence(Some("X".into())), Gist::Done),
        (Stop::ContentFilter, Gist::Filtered),
        (Stop::Refusal, Gist::Filtered),
        (Stop::Pause, Gist::Done),
        (Stop::ContextExceeded, Gist::Length),
    ];
    for (stop, gist) in stops {
        let mut answer = Answer::new(Dialect::Anthropic);
        answer.parts.push(Body::Text("x".into()).into());
        answer.stop = stop.clone();
        for dialect in Dialect::ALL {
            let home = dialect.parse_answer(&dialect.render_answer(&answer, &reply(true))).expect("readable");
            assert_eq!(home.stop.gist(), gist, "{stop:?} {dialect:?}");
            let events = decode(dialect, &encode(dialect, &answer.events(), true), 7);
            let home = collect(dialect, &events).expect("ends").expect("no error");
            assert_eq!(home.stop.gist(), gist, "{stop:?} {dialect:?} streamed");
        }
    }
    let blocked = br#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":4}}"#;
    let answer = Dialect::Gemini.parse_answer(blocked).expect("an answer");
    assert_eq!((answer.stop, answer.parts.len()), (Stop::ContentFilter, 0));
    let guarded =
        br#"{"output":{"message":{"role":"assistant","content":[{"text":"no"}]}},"stopReason":"guardrail_intervened"}"#;
    assert_eq!(Dialect::Bedrock.parse_answer(guarded).expect("an answer").stop, Stop::ContentFilter);
}

#[test]
fn line_19_errors_keep_kind_status_and_wait_in_every_dialect() {
    let none = |_: &str| None;
    let gemini = json!({"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}]}});
    let table = [
        (
            CHAT,
            400,
            json!({"error": {"message": "This model's maximum context length is 9", "type": "invalid_request_error", "code": "context_length_exceeded"}}),
            Kind::ContextExceeded,
        ),
        (
            CHAT,
            429,
            json!({"error": {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}}),
            Kind::Billing,
        ),
        (CHAT, 429, json!({"error": {"message": "Provider returned error", "code": 429}}), Kind::RateLimited),
        (CHAT, 400, json!({"detail": "bad"}), Kind::BadRequest),
        (
            Dialect::Anthropic,
            529,
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
            Kind::Overloaded,
        ),
        (
            Dialect::Anthropic,
            400,
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens"}}),
            Kind::ContextExceeded,
        ),
        (Dialect::Gemini, 429, gemini.clone(), Kind::RateLimited),
        (Dialect::Bedrock, 400, json!({"message": "Input is too long for requested model."}), Kind::ContextExceeded),
    ];
    for (dialect, status, body, kind) in table {
        let error = dialect.parse_error(status, &none, body.to_string().as_bytes());
        assert_eq!((error.kind, error.status()), (kind, status), "{body}");
    }
    assert_eq!(Dialect::Gemini.parse_error(429, &none, gemini.to_string().as_bytes()).retry_after, Some(34_400));
    let named = |name: &str| (name == "x-amzn-errortype").then_some("ThrottlingException:http://x");
    assert_eq!(Dialect::Bedrock.parse_error(400, &named, b"{\"message\":\"m\"}").kind, Kind::RateLimited);
    let html = CHAT.parse_error(502, &none, b"<html>bad gateway</html>");
    assert_eq!((html.kind, html.message.as_str()), (Kind::Server, "<html>bad gateway</html>"));
}

#[test]
fn line_20_a_stream_that_breaks_off_ends_with_an_error_in_the_callers_dialect() {
    let half = on_the_wire(CHAT, &[chat_chunk(json!({"content": "half"}), Value::Null)]);
    let half = &half[..half.len() - "data: [DONE]\n\n".len()];
    let events = decode(CHAT, half, 8);
    assert!(matches!(events.last(), Some(Event::Error(error)) if error.kind == Kind::BadStream));
    for dialect in Dialect::ALL {
        let told = decode(dialect, &encode(dialect, &events, true), 8);
        assert!(matches!(told.last(), Some(Event::Error(_))), "{dialect:?}");
        assert!(
            told.iter().any(|event| matches!(event, Event::Delta { delta: Delta::Text(text), .. } if text == "half"))
        );
    }
}

#[test]
fn line_20_the_first_event_tells_whether_a_provider_may_still_be_replaced() {
    let mut decoder = Dialect::Anthropic.decoder(Bounds::default());
    let mut events = Vec::new();
    decoder.push(b": keep-alive\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n", &mut events);
    assert!(events.is_empty(), "pings before the start are no first event: {events:?}");
    decoder.push(
        b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"o\"}}\n\n",
        &mut events,
    );
    assert!(matches!(&events[..], [Event::Error(error)] if error.kind == Kind::Overloaded));
    assert!(decoder.is_over());
}

#[test]
fn line_21_images_take_each_providers_form_and_results_with_images_find_a_place() {
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://e.com/a.png"}}]}]});
    let (anthropic, _) = translated(CHAT, &chat, Dialect::Anthropic);
    let content = &anthropic["messages"][0]["content"];
    assert_eq!(content[0]["source"], json!({"type": "base64", "media_type": "image/png", "data": "AAAA"}));
    assert_eq!(content[1]["source"], json!({"type": "url", "url": "https://e.com/a.png"}));
    let (gemini, _) = translated(CHAT, &chat, Dialect::Gemini);
    assert_eq!(gemini["contents"][0]["parts"][0]["inlineData"], json!({"mimeType": "image/png", "data": "AAAA"}));
    let (bedrock, losses) = translated(CHAT, &chat, Dialect::Bedrock);
    assert_eq!(bedrock["messages"][0]["content"][0]["image"], json!({"format": "png", "source": {"bytes": "AAAA"}}));
    assert_eq!(paths(&losses), ["messages[0].content[1]"], "Bedrock fetches nothing");

    let anthropic = json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]}]}]});
    let (chat, _) = translated(Dialect::Anthropic, &anthropic, CHAT);
    assert_eq!(chat["messages"][0]["role"], "tool");
    assert_eq!(chat["messages"][1]["content"][0]["image_url"]["url"], "data:image/png;base64,AAAA");
}

#[test]
fn line_21_azures_first_chunk_without_choices_is_no_start() {
    let azure = json!({"id": "", "model": "", "choices": [], "prompt_filter_results": []});
    let events = decode(CHAT, &on_the_wire(CHAT, &[azure, chat_chunk(json!({"content": "x"}), json!("stop"))]), 5);
    assert!(matches!(&events[0], Event::Start(start) if start.id == "c" && start.model == "m"));
    assert!(matches!(&events[1], Event::Open { kind: BlockKind::Text, .. }));
}
