//! What odd callers ask and odd providers say.

use serde_json::{Value, json};
use tidegate_llm::meaning::{Event, Kind};
use tidegate_llm::unsaid::Unsaid;
use tidegate_llm::{Dialect, Target};

use crate::support::{decode, on_the_wire, reply};
use crate::wire::{CHAT, answer_of, chat_chunk, paths, translated, translated_for};

#[test]
fn line_19_an_error_inside_a_stream_is_one_however_it_is_said() {
    let said: [(Value, &str); 4] = [
        (json!({"error": {"message": "boom", "code": 500}}), "boom"),
        (json!({"error": "CUDA out of memory"}), "CUDA out of memory"),
        (json!({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}), "too long"),
        (json!({"error": {"message": "slow down", "type": "rate_limit_error"}}), "slow down"),
    ];
    for (chunk, want) in said {
        let stream = [chat_chunk(json!({"content": "He"}), Value::Null), chunk.clone()];
        let events = decode(CHAT, &on_the_wire(CHAT, &stream), 7);
        let Some(Event::Error(error)) = events.last() else { panic!("{chunk}: {events:?}") };
        assert_eq!(error.message, want);
        assert!(!events.iter().any(|event| matches!(event, Event::Stop(_) | Event::End)), "{events:?}");
        let whole = CHAT.parse_answer(chunk.to_string().as_bytes()).expect_err("no answer");
        assert_eq!(whole.message, want);
    }
    let fine = [chat_chunk(json!({"content": "He"}), json!("stop")), json!({"choices": [], "error": ""})];
    assert_eq!(answer_of(CHAT, &fine).text(), "He");
}

#[test]
fn halves_of_an_emoji_end_neither_a_stream_nor_an_answer_nor_a_call() {
    let mut wire = format!("data: {}\n\n", chat_chunk(json!({"content": "a"}), Value::Null)).into_bytes();
    for half in ["\\ud83d", "\\ude00"] {
        wire.extend_from_slice(
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{half}\"}}}}]}}\n\n").as_bytes(),
        );
    }
    wire.extend(on_the_wire(CHAT, &[chat_chunk(json!({"content": "b"}), json!("stop"))]));
    let events = decode(CHAT, &wire, 5);
    let answer = crate::support::collect(CHAT, &events).expect("it ends").expect("no error");
    assert_eq!(answer.text(), "a\u{fffd}\u{fffd}b");
    let body = br#"{"choices":[{"message":{"content":"x\ud83d","tool_calls":[{"id":"1","function":{"name":"f",
        "arguments":"{\"a\":\"\\ud83d\",\"b\":2}"}}]},"finish_reason":"stop"}]}"#;
    let answer = CHAT.parse_answer(body).expect("an answer");
    assert_eq!(answer.text(), "x\u{fffd}");
    let told: Value = serde_json::from_slice(&Dialect::Anthropic.render_answer(&answer, &reply(false))).expect("JSON");
    assert_eq!(told["content"][1]["input"], json!({"a": "\u{fffd}", "b": 2}), "no argument is lost: {told}");
    let call = br#"{"model":"m","messages":[{"role":"user","content":"\ud83d"}]}"#;
    assert!(CHAT.parse_call(call, tidegate_llm::Site::default()).is_ok());
}

#[test]
fn line_11_a_choice_goes_along_only_with_tools_to_choose_from() {
    let call = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "web_search_20250305", "name": "web_search"}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}});
    for dialect in [CHAT, Dialect::OpenAiResponses] {
        let (body, losses) = translated(Dialect::Anthropic, &call, dialect);
        assert_eq!(
            (&body["tools"], &body["tool_choice"], &body["parallel_tool_calls"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        assert_eq!(paths(&losses), ["tools[0]"]);
    }
    let (body, _) = translated(Dialect::Anthropic, &call, Dialect::Gemini);
    assert_eq!(body["toolConfig"], Value::Null);
}

#[test]
fn line_11_a_model_that_may_call_some_tools_is_not_told_of_the_others() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let choice = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("a")]}});
    let call = json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": [tool("a"), tool("b")],
        "tool_choice": choice});
    for (dialect, names) in [(Dialect::Anthropic, "/tools"), (Dialect::Gemini, "/tools/0/functionDeclarations")] {
        let (body, _) = translated(CHAT, &call, dialect);
        let list = body.pointer(names).and_then(Value::as_array).expect("tools");
        assert_eq!((list.len(), &list[0]["name"]), (1, &json!("a")), "{body}");
    }
    let flat = |name: &str| json!({"type": "function", "name": name});
    let responses = json!({"model": "m", "input": "x", "tools": [flat("a"), flat("b")],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [flat("b")]}});
    let (body, _) = translated(Dialect::OpenAiResponses, &responses, Dialect::Anthropic);
    assert_eq!((body["tools"].as_array().map(Vec::len), &body["tools"][0]["name"]), (Some(1), &json!("b")));
}

#[test]
fn line_17_answers_that_nobody_would_read_are_not_paid_for() {
    let call = json!({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"candidateCount": 3}});
    let (body, losses) = translated(Dialect::Gemini, &call, CHAT);
    assert_eq!((&body["n"], paths(&losses)), (&Value::Null, vec!["generationConfig.candidateCount"]));
}

#[test]
fn line_14_gemini_2_5_pro_always_thinks() {
    let call = json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "reasoning_effort": "none"});
    for (model, budget, lost) in [("gemini-2.5-pro", 128, 1), ("gemini-2.5-flash", 0, 0)] {
        let target = Target::guess(Dialect::Gemini, model);
        let (body, losses) = translated_for(CHAT, &call, Dialect::Gemini, &target);
        assert_eq!(body["generationConfig"]["thinkingConfig"]["thinkingBudget"], budget, "{model}");
        assert_eq!(losses.list().len(), lost);
    }
}

#[test]
fn line_15_room_for_thoughts_ends_where_the_model_does() {
    let call = json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "reasoning_effort": "xhigh"});
    let mut target = Target::guess(Dialect::Anthropic, "claude-opus-4-1");
    target.most_output = 32_000;
    let (body, _) = translated_for(CHAT, &call, Dialect::Anthropic, &target);
    assert_eq!((&body["max_tokens"], &body["thinking"]["budget_tokens"]), (&json!(28_096), &json!(24_000)));
    target.most_output = u64::MAX;
    let (body, _) = translated_for(CHAT, &call, Dialect::Anthropic, &target);
    assert_eq!(body["thinking"]["budget_tokens"], 32_768);
}

#[test]
fn what_happens_anyway_is_no_loss() {
    let call = json!({"model": "m", "input": "x", "truncation": "disabled", "background": false});
    let (_, losses) = translated(Dialect::OpenAiResponses, &call, Dialect::Anthropic);
    assert!(losses.reject().is_ok(), "{:?}", paths(&losses));
    let call = json!({"model": "m", "input": "x", "truncation": "auto"});
    let (_, losses) = translated(Dialect::OpenAiResponses, &call, Dialect::Anthropic);
    assert!(losses.reject().is_err());
}

#[test]
fn pictures_in_a_system_prompt_are_named_where_they_cannot_go() {
    let picture = json!({"type": "input_image", "image_url": "data:image/png;base64,AAAA"});
    let call = json!({"model": "m", "instructions": "be kind", "input": [
        {"role": "developer", "content": [{"type": "input_text", "text": "d"}, picture]},
        {"role": "user", "content": "x"},
        {"role": "developer", "content": [picture]}]});
    for dialect in [Dialect::Bedrock, Dialect::Gemini] {
        let (_, losses) = translated(Dialect::OpenAiResponses, &call, dialect);
        assert!(paths(&losses).contains(&"system[2]"), "{dialect:?}: {:?}", paths(&losses));
        assert!(paths(&losses).contains(&"input[2].content[0]"), "{dialect:?}: {:?}", paths(&losses));
        assert!(losses.reject().is_err());
    }
}

#[test]
fn sources_of_an_answer_are_named_in_answers_and_in_streams() {
    let quote = json!([{"type": "url_citation", "url_citation": {"url": "http://x"}}]);
    let whole = json!({"choices": [{"message": {"content": "hi", "annotations": quote, "audio": {"data": "AA", "transcript": "t"}},
        "finish_reason": "stop"}]});
    let answer = CHAT.parse_answer(whole.to_string().as_bytes()).expect("an answer");
    assert_eq!(Unsaid::of_answer(&answer, Dialect::Anthropic).header(), "answer.annotations, answer.audio");
    let grounded = json!({"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP",
        "groundingMetadata": {"webSearchQueries": ["q"]}}]});
    let answer = Dialect::Gemini.parse_answer(grounded.to_string().as_bytes()).expect("an answer");
    assert_eq!(Unsaid::of_answer(&answer, CHAT).header(), "answer.groundingMetadata");
    assert!(Unsaid::of_answer(&answer, Dialect::Gemini).is_empty());
    let home: Value = serde_json::from_slice(&Dialect::Gemini.render_answer(&answer, &reply(false))).expect("JSON");
    assert_eq!(home["candidates"][0]["groundingMetadata"]["webSearchQueries"][0], "q");

    let cited = |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {"cited_text": text}}});
    let claude = [
        json!({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}),
        cited("a"),
        cited("b"),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ];
    let chat =
        [chat_chunk(json!({"content": "hi", "annotations": quote}), Value::Null), chat_chunk(json!({}), json!("stop"))];
    let streams: [(Dialect, &[Value], Dialect, &str); 3] = [
        (Dialect::Anthropic, &claude, CHAT, "citations"),
        (CHAT, &chat, Dialect::Bedrock, "annotations"),
        (Dialect::Gemini, std::slice::from_ref(&grounded), CHAT, "groundingMetadata"),
    ];
    for (from, stream, to, name) in streams {
        let mut unsaid = Unsaid::default();
        let events = decode(from, &on_the_wire(from, stream), 13);
        let told: Vec<String> = events.iter().filter_map(|event| unsaid.event(event, to).map(str::to_owned)).collect();
        assert_eq!(told, [name], "{from:?}");
        assert_eq!(answer_of(from, stream).text(), "hi");
        let home = events.iter().any(|event| matches!(event, Event::Error(error) if error.kind == Kind::BadStream));
        assert!(!home, "{events:?}");
    }
}
