//! Facts about streams, answers and errors, by the number of their line.

use serde_json::{Value, json};
use tidegate_llm::Dialect;
use tidegate_llm::bounds::Bounds;
use tidegate_llm::meaning::{Answer, BlockKind, Body, Delta, Error, Event, Gist, Kind, Stop, Usage};
use tidegate_llm::unsaid::Unsaid;

use crate::support::{collect, decode, encode, on_the_wire, reply};
use crate::wire::{CHAT, answer_of, chat_chunk, text, translated};

#[test]
fn line_1_the_usage_chunk_comes_only_if_asked_for_and_is_always_asked_of_the_provider() {
    let silent = chat_chunk(json!({"content": "x"}), json!("stop"));
    let mut telling = silent.clone();
    telling["usage"] = json!({"prompt_tokens": 10, "completion_tokens": 4});
    // What nobody told is not made up here.
    for (include_usage, chunk, want) in [(true, &telling, 1), (false, &telling, 0), (true, &silent, 0)] {
        let events = decode(CHAT, &on_the_wire(CHAT, std::slice::from_ref(chunk)), 9);
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
fn line_14_streamed_thoughts_come_to_anthropics_sdk_as_thoughts() {
    let chunks = [
        chat_chunk(json!({"reasoning_content": "hm"}), Value::Null),
        chat_chunk(json!({"content": "x"}), json!("stop")),
    ];
    let events = decode(CHAT, &on_the_wire(CHAT, &chunks), 9);
    let out = encode(Dialect::Anthropic, &events, true);
    let out = text(&out);
    // Under the name of text the SDK leaves them out.
    assert!(out.contains(r#""delta":{"type":"thinking_delta","thinking":"hm"}"#), "{out}");
    assert!(out.contains(r#""delta":{"type":"text_delta","text":"x"}"#), "{out}");
}

#[test]
fn line_3_a_ping_is_nothing_to_googles_sdk_which_takes_each_line_for_json() {
    let mut out = Vec::new();
    Dialect::Gemini.encoder(reply(true)).push(Event::Ping, &mut out);
    assert_eq!(text(&out), "");
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
        (Stop::MalformedCall, Gist::Filtered),
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
    for reason in ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE"] {
        let body = json!({"candidates": [{"content": {"parts": []}, "finishReason": reason}]});
        let answer = Dialect::Gemini.parse_answer(body.to_string().as_bytes()).expect("an answer");
        assert_eq!(answer.stop, Stop::MalformedCall, "{reason}");
        let said = String::from_utf8(Dialect::OpenAiChat.render_answer(&answer, &reply(true))).expect("text");
        assert!(said.contains(r#""finish_reason":"content_filter""#), "{reason}: {said}");
        let said = String::from_utf8(Dialect::Anthropic.render_answer(&answer, &reply(true))).expect("text");
        assert!(said.contains(r#""stop_reason":"refusal""#), "{reason}: {said}");
    }
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
fn line_19_an_error_is_known_for_one_in_its_dialect() {
    for dialect in Dialect::ALL {
        let error = Error::new(Kind::Overloaded, "busy");
        assert!(dialect.is_error(&dialect.render_error(&error)), "{dialect:?}");
        for other in ["", "<html>", "{}", "[]", r#"{"detail":"busy"}"#, r#"{"error":"busy"}"#] {
            assert!(!dialect.is_error(other.as_bytes()), "{dialect:?} {other}");
        }
    }
    assert!(Dialect::Gemini.is_error(br#"[{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}]"#));
    assert!(!Dialect::OpenAiChat.is_error(br#"{"object":"error","message":"busy","code":503}"#), "Mistral's");
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
fn line_21_azures_first_chunk_without_choices_is_no_start() {
    let azure = json!({"id": "", "model": "", "choices": [], "prompt_filter_results": []});
    let events = decode(CHAT, &on_the_wire(CHAT, &[azure, chat_chunk(json!({"content": "x"}), json!("stop"))]), 5);
    assert!(matches!(&events[0], Event::Start(start) if start.id == "c" && start.model == "m"));
    assert!(matches!(&events[1], Event::Open { kind: BlockKind::Text, .. }));
}

#[test]
fn line_13_thoughts_in_anthropics_streams_are_thinking_deltas() {
    let chunk = |delta: Value| json!({"id": "c", "choices": [{"index": 0, "delta": delta}]});
    let chunks = [
        chunk(json!({"reasoning_content": "let me see"})),
        chunk(json!({"content": "yes"})),
        json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
    ];
    let events = decode(CHAT, &on_the_wire(CHAT, &chunks), 100);
    let out = String::from_utf8(encode(Dialect::Anthropic, &events, true)).expect("it is text");
    assert!(out.contains(r#""delta":{"type":"thinking_delta","thinking":"let me see"}"#), "{out}");
    assert!(out.contains(r#""delta":{"type":"text_delta","text":"yes"}"#), "{out}");
}

#[test]
fn line_21_pictures_are_streamed_to_who_can_show_them() {
    let part = json!({"inlineData": {"mimeType": "image/png", "data": "aGk="}});
    let chunk = json!({"responseId": "r", "candidates": [{"content": {"parts": [{"text": "Here:"}, part]},
        "finishReason": "STOP", "index": 0}]});
    let events = decode(Dialect::Gemini, &on_the_wire(Dialect::Gemini, &[chunk]), 10);
    for (to, shown) in [
        (CHAT, r#""images":[{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}]"#),
        (
            Dialect::OpenAiResponses,
            r#""type":"image_generation_call","status":"completed","output_format":"png","result":"aGk=""#,
        ),
        (Dialect::Gemini, r#""inlineData":{"mimeType":"image/png","data":"aGk="}"#),
    ] {
        let out = encode(to, &events, true);
        let text = String::from_utf8_lossy(&out);
        assert!(text.contains(shown), "{to:?}: {text}");
        let home = decode(to, &out, 10);
        let media = |event: &Event| matches!(event, Event::Open { kind: BlockKind::Media(_), .. });
        assert_eq!(home.iter().filter(|event| media(event)).count(), 1, "{to:?}");
    }
    let mut unsaid = Unsaid::default();
    let told: Vec<_> = events.iter().filter_map(|e| unsaid.event(e, Dialect::Anthropic).map(str::to_owned)).collect();
    assert_eq!((told, unsaid.header()), (vec!["image".to_owned()], "answer.image".to_owned()));
}

#[test]
fn a_plan_of_coheres_is_a_thought_and_a_call_without_arguments_has_an_empty_object() {
    let stream = include_bytes!("../golden/streams/plan.cohere.txt");
    let answer = collect(Dialect::Cohere, &decode(Dialect::Cohere, stream, 11)).expect("it ends").expect("in order");
    let thoughts: Vec<&str> = answer
        .parts
        .iter()
        .filter_map(|part| match &part.body {
            Body::Reasoning { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(thoughts, ["A sum.", "Check it."]);
    let calls: Vec<(&str, &str)> = answer
        .parts
        .iter()
        .filter_map(|part| match &part.body {
            Body::ToolCall(call) => Some((call.name.as_str(), call.arguments.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(calls, [("check", "{\"n\":4}"), ("now", "{}")]);
    assert_eq!((answer.text().as_str(), &answer.stop), ("It is 4.", &Stop::ToolUse));
    let failed = b"data: {\"type\":\"message-start\",\"id\":\"x\"}\n\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"ERROR\",\"error\":\"it broke\"}}\n\n";
    let events = decode(Dialect::Cohere, failed, 7);
    assert!(matches!(events.last(), Some(Event::Error(error)) if error.message == "it broke"), "{events:?}");
}
