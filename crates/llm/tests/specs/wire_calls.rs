//! Facts about requests, by the number of their line.

use serde_json::{Value, json};
use tidegate_llm::{Dialect, Target};

use crate::support::reply;
use crate::wire::{CHAT, paths, translated, translated_for};

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
    // Nobody else gets what Anthropic signed, but Claude on Bedrock.
    for other in [CHAT, Dialect::OpenAiResponses, Dialect::Gemini] {
        let (body, losses) = translated(CHAT, &call, other);
        assert!(!body.to_string().contains("c2ln") && !losses.is_empty(), "{other:?} {body}");
    }
    let (body, _) = translated(CHAT, &call, Dialect::Bedrock);
    let thought = json!({"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}});
    assert_eq!(body["messages"][1]["content"][0], thought);
    let (body, losses) =
        translated_for(CHAT, &call, Dialect::Bedrock, &Target::guess(Dialect::Bedrock, "amazon.nova-2-lite-v1:0"));
    assert!(!body.to_string().contains("c2ln") && !losses.is_empty(), "{body}");
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
