//! What single providers insist on, beside their dialect.

use serde_json::{Value, json};
use tidegate_llm::{Dialect, Site, Switch, Target};

use crate::support::{encode, reply};
use crate::wire::{CHAT, paths, translated, translated_for};

fn asked(schema: &Value) -> [(Dialect, Value, &'static str); 3] {
    let messages = json!([{"role": "user", "content": "x"}]);
    let chat = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
    let responses = json!({"format": {"type": "json_schema", "name": "a", "schema": schema}});
    let gemini = json!({"responseMimeType": "application/json", "responseJsonSchema": schema});
    [
        (
            CHAT,
            json!({"model": "m", "messages": messages, "response_format": chat}),
            "response_format.json_schema.schema",
        ),
        (Dialect::OpenAiResponses, json!({"model": "m", "input": "x", "text": responses}), "text.format.schema"),
        (
            Dialect::Gemini,
            json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}], "generationConfig": gemini}),
            "generationConfig.responseSchema",
        ),
    ]
}

#[test]
fn line_12_claude_gets_closed_objects_and_bounds_in_words() {
    let schema =
        json!({"type": "object", "properties": {"age": {"type": "integer", "minimum": 1}}, "required": ["age"]});
    let want = json!({"type": "object", "required": ["age"], "additionalProperties": false,
        "properties": {"age": {"type": "integer", "description": "{minimum: 1}"}}});
    for (from, call, path) in asked(&schema) {
        for to in [Dialect::Anthropic, Dialect::Bedrock] {
            let (body, losses) = translated(from, &call, to);
            let told = match to {
                Dialect::Anthropic => body["output_config"]["format"]["schema"].clone(),
                _ => {
                    let text = &body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"];
                    serde_json::from_str(text.as_str().expect("a text")).expect("JSON")
                }
            };
            assert_eq!(told, want, "{from:?} {to:?}");
            assert_eq!(paths(&losses), [format!("{path}.properties.age.minimum")], "{from:?} {to:?}");
            assert!(losses.reject().is_err());
        }
    }
}

#[test]
fn line_12_tools_that_are_strict_at_claude_have_closed_schemas_too() {
    let parameters = json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}});
    let call = |strict: bool| {
        json!({"model": "m", "messages": [{"role": "user", "content": "x"}],
            "tools": [{"type": "function", "function": {"name": "f", "strict": strict, "parameters": parameters}}]})
    };
    for to in [Dialect::Anthropic, Dialect::Bedrock] {
        let schema = |body: &Value| match to {
            Dialect::Anthropic => body["tools"][0]["input_schema"].clone(),
            _ => body["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"].clone(),
        };
        let (body, losses) = translated(CHAT, &call(true), to);
        assert_eq!(schema(&body)["additionalProperties"], false, "{body}");
        assert_eq!(paths(&losses), ["tools[0].parameters.properties.a.maxLength"]);
        let (body, losses) = translated(CHAT, &call(false), to);
        assert_eq!((schema(&body), losses.is_empty()), (parameters.clone(), true), "{body}");
    }
}

#[test]
fn line_12_openai_is_given_no_schema_but_that_of_an_object() {
    let list = json!({"type": "array", "items": {"type": "string"}});
    let [_, _, (_, call, _)] = asked(&list);
    for to in [CHAT, Dialect::OpenAiResponses] {
        let target = Target::guess(to, "gpt-4o");
        let (body, losses) = translated_for(Dialect::Gemini, &call, to, &target);
        assert_eq!((&body["response_format"], &body["text"]["format"]), (&Value::Null, &Value::Null), "{body}");
        assert_eq!(paths(&losses), ["generationConfig.responseSchema"]);
        let (body, losses) = translated_for(Dialect::Gemini, &call, to, &Target { any_schema: true, ..target });
        assert!(body.to_string().contains(r#""type":"array""#) && losses.is_empty(), "{body}");
    }
}

#[test]
fn line_21_pictures_in_odd_urls_are_pictures() {
    const PNG: &str = "iVBORw0KGgoAAAANSUhEUg==";
    for (url, kind, data) in [
        (format!("data:image/jpg;base64,{PNG}"), "image/jpeg", PNG),
        (format!("data:IMAGE/PNG;charset=utf-8;base64,{PNG}"), "image/png", PNG),
        (format!("data:;base64,{PNG}"), "image/png", PNG),
        ("data:image/svg+xml;utf8,%3Csvg/>%".to_owned(), "image/svg+xml", "PHN2Zy8+JQ=="),
    ] {
        let image = json!({"type": "image_url", "image_url": {"url": url}});
        let call = json!({"model": "m", "messages": [{"role": "user", "content": [image]}]});
        let (body, _) = translated(CHAT, &call, Dialect::Anthropic);
        let source = json!({"type": "base64", "media_type": kind, "data": data});
        assert_eq!(body["messages"][0]["content"][0]["source"], source, "{url}");
    }
}

#[test]
fn line_12_googles_numbers_in_texts_are_numbers_and_one_content_is_a_list() {
    let schema = json!({"type": "OBJECT", "properties": {"a": {"type": "ARRAY", "minItems": "1", "maxItems": "3",
        "items": {"type": "STRING"}}}});
    let call = json!({"contents": {"role": "user", "parts": {"text": "x"}},
        "generationConfig": {"responseMimeType": "application/json", "responseSchema": schema}});
    let (body, losses) = translated_for(Dialect::Gemini, &call, CHAT, &Target::guess(CHAT, "gpt-4o"));
    let list = &body["response_format"]["json_schema"]["schema"]["properties"]["a"];
    assert_eq!((&list["minItems"], &list["maxItems"]), (&json!(1), &json!(3)), "{body}");
    assert_eq!(body["messages"], json!([{"role": "user", "content": "x"}]));
    assert!(losses.is_empty(), "{losses:?}");
}

#[test]
fn a_field_that_is_wrong_is_named_by_its_whole_path() {
    let site = Site { model: Some("m"), stream: false };
    for (dialect, more, path) in [
        (Dialect::OpenAiResponses, json!({"text": 1}), "text"),
        (Dialect::OpenAiResponses, json!({"text": {"format": {"type": "x"}}}), "text.format.type"),
        (Dialect::OpenAiResponses, json!({"reasoning": "high"}), "reasoning"),
        (Dialect::OpenAiResponses, json!({"reasoning": {"effort": "so"}}), "reasoning.effort"),
        (Dialect::Anthropic, json!({"output_config": {"format": {"type": "x"}}}), "output_config.format.type"),
        (
            Dialect::Gemini,
            json!({"toolConfig": {"functionCallingConfig": {"allowedFunctionNames": 1}}}),
            "toolConfig.functionCallingConfig.allowedFunctionNames",
        ),
        (Dialect::Bedrock, json!({"toolConfig": {"tools": [{"toolSpec": {}}]}}), "toolConfig.tools[0].toolSpec.name"),
        (Dialect::Bedrock, json!({"requestMetadata": {"a": 1}}), "requestMetadata.a"),
        (
            Dialect::Bedrock,
            json!({"additionalModelRequestFields": {"output_config": {"effort": 1}}}),
            "additionalModelRequestFields.output_config.effort",
        ),
    ] {
        let mut body = json!({"model": "m", "max_tokens": 9, "messages": [], "contents": [], "input": "x"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let told = dialect.parse_call(body.to_string().as_bytes(), site).expect_err("it is wrong");
        assert_eq!(told.path, path, "{body}");
    }
}

#[test]
fn what_is_left_of_a_group_of_fields_is_named_field_by_field() {
    let call = json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}],
        "generationConfig": {"responseMimeType": "text/x.enum", "speechConfig": {}, "audioTimestamp": true}});
    let (_, losses) = translated_for(Dialect::Gemini, &call, CHAT, &Target::guess(CHAT, "gpt-4o"));
    let mut paths = paths(&losses);
    paths.sort_unstable();
    let want = ["audioTimestamp", "responseMimeType", "speechConfig"].map(|name| format!("generationConfig.{name}"));
    assert_eq!(paths, want);
}

#[test]
fn line_5_what_an_answer_ends_in_the_middle_of_is_incomplete() {
    let body = json!({"id": "c", "model": "m", "choices": [{"index": 0, "finish_reason": "length",
        "message": {"role": "assistant", "content": "so far"}}]});
    let answer = CHAT.parse_answer(body.to_string().as_bytes()).expect("an answer");
    let told: Value =
        serde_json::from_slice(&Dialect::OpenAiResponses.render_answer(&answer, &reply(true))).expect("JSON");
    assert_eq!((&told["status"], &told["output"][0]["status"]), (&json!("incomplete"), &json!("incomplete")));
    let streamed = String::from_utf8(encode(Dialect::OpenAiResponses, &answer.events(), true)).expect("text");
    let data = streamed.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let done: Vec<Value> = data.filter(|event| event["type"] == "response.output_item.done").collect();
    assert_eq!((done.len(), &done[0]["item"]["status"]), (1, &json!("incomplete")));
}

#[test]
fn line_17_openrouter_with_a_key_of_ours_costs_what_the_provider_behind_it_bills_too() {
    for (byok, cost) in [(true, 1_050_000), (false, 50_000)] {
        let body = json!({"id": "c", "model": "m", "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "x"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1,
            "cost": 0.00005, "is_byok": byok, "cost_details": {"upstream_inference_cost": 0.001}}});
        let usage = CHAT.parse_answer(body.to_string().as_bytes()).expect("an answer").usage.expect("usage");
        assert_eq!(usage.cost.map(|cost| cost.0), Some(cost), "{byok}");
    }
}

#[test]
fn line_14_each_provider_is_told_to_think_or_not_by_its_own_switch() {
    let thinking =
        [json!({"type": "disabled"}), json!({"type": "adaptive"}), json!({"type": "enabled", "budget_tokens": 3_000})];
    let effort = json!({"type": "adaptive"});
    let call = |thinking: &Value| {
        json!({"model": "m", "max_tokens": 9_000, "thinking": thinking,
            "messages": [{"role": "user", "content": "x"}]})
    };
    let told = |switch: Switch, model: &str, call: &Value| {
        let target = Target { switch, ..Target::guess(CHAT, model) };
        let (body, losses) = translated_for(Dialect::Anthropic, call, CHAT, &target);
        let told = ["reasoning", "reasoning_effort", "thinking", "enable_thinking", "thinking_budget"];
        let told =
            told.into_iter().filter(|name| !body[*name].is_null()).map(|name| (name.to_owned(), body[name].clone()));
        (told.collect::<Value>(), paths(&losses).iter().map(|path| (*path).to_owned()).collect::<Vec<_>>())
    };
    let table = [
        (
            Switch::Reasoning,
            "anthropic/claude-sonnet-4.5",
            [
                json!({"reasoning": {"effort": "none"}}),
                json!({"reasoning": {"enabled": true}}),
                json!({"reasoning": {"max_tokens": 3_000}}),
            ],
        ),
        (
            Switch::Thinking,
            "deepseek-chat",
            [
                json!({"thinking": {"type": "disabled"}}),
                json!({"thinking": {"type": "enabled"}}),
                json!({"thinking": {"type": "enabled"}, "reasoning_effort": "medium"}),
            ],
        ),
        (
            Switch::EnableThinking,
            "qwen-plus",
            [
                json!({"enable_thinking": false}),
                json!({"enable_thinking": true}),
                json!({"enable_thinking": true, "thinking_budget": 3_000}),
            ],
        ),
    ];
    for (switch, model, want) in table {
        for (thinking, want) in thinking.iter().zip(want) {
            assert_eq!(told(switch, model, &call(thinking)), (want, vec![]), "{switch:?} {thinking}");
        }
    }
    let mut high = call(&effort);
    high["output_config"] = json!({"effort": "high"});
    assert_eq!(told(Switch::Reasoning, "x/y", &high).0, json!({"reasoning": {"effort": "high"}}));
    // Where nobody knows the switch, it is said that it is lost.
    assert_eq!(told(Switch::Effort, "glm-4.6", &call(&thinking[0])), (json!({}), vec!["thinking".to_owned()]));
    assert_eq!(told(Switch::Effort, "gpt-4o", &call(&thinking[0])), (json!({}), vec![]));
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}],
        "generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}});
    let target = Target { switch: Switch::EnableThinking, ..Target::guess(CHAT, "qwen3-32b") };
    assert_eq!(translated_for(Dialect::Gemini, &gemini, CHAT, &target).0["enable_thinking"], false);
}

#[test]
fn line_13_what_claude_signed_is_good_at_anthropic_and_on_bedrock_both_ways() {
    let anthropic = json!({"id": "m1", "type": "message", "stop_reason": "end_turn", "usage": {}, "content": [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "text", "text": "x"}]});
    let bedrock = json!({"output": {"message": {"role": "assistant", "content": [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}}, {"text": "x"}]}}, "stopReason": "end_turn"});
    for (maker, body) in [(Dialect::Anthropic, &anthropic), (Dialect::Bedrock, &bedrock)] {
        let answer = maker.parse_answer(body.to_string().as_bytes()).expect("an answer");
        for caller in [Dialect::Anthropic, Dialect::Bedrock, CHAT] {
            let told: Value = serde_json::from_slice(&caller.render_answer(&answer, &reply(true))).expect("JSON");
            let (message, question) = match caller {
                Dialect::Anthropic => (json!({"role": "assistant", "content": told["content"]}), json!("y")),
                Dialect::Bedrock => (told["output"]["message"].clone(), json!([{"text": "y"}])),
                _ => (told["choices"][0]["message"].clone(), json!("y")),
            };
            if caller != CHAT {
                assert!(message.to_string().contains(r#""c2ln""#), "no mark between Claude's places: {message}");
            }
            let user = json!({"role": "user", "content": question});
            let messages = json!([user, message, user]);
            let call = match caller {
                Dialect::Bedrock => json!({"messages": messages}),
                _ => json!({"model": "m", "max_tokens": 9, "messages": messages}),
            };
            for to in [Dialect::Anthropic, Dialect::Bedrock] {
                let (body, losses) = translated(caller, &call, to);
                assert!(body.to_string().contains(r#""c2ln""#), "{maker:?} by {caller:?} to {to:?}: {body}");
                assert!(losses.is_empty(), "{maker:?} by {caller:?} to {to:?}: {losses:?}");
            }
        }
    }
}
