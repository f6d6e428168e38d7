use serde_json::{Value, json};

use super::*;
use crate::{Dialect, Site};

fn counted(dialect: Dialect, call: &Value) -> Counted {
    prompt(dialect, call.to_string().as_bytes(), Site { model: Some("m"), stream: false }, Encoding::O200k)
        .expect("a call")
}

#[test]
fn texts_have_as_many_tokens_as_tiktoken_says() {
    // By tiktoken 0.12: cl100k_base, o200k_base.
    for (text, cl100k, o200k) in [
        ("", 0, 0),
        ("hello world", 2, 2),
        ("tiktoken is great!", 6, 6),
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 9, 8),
    ] {
        assert_eq!((Encoding::Cl100k.count(text), Encoding::O200k.count(text)), (cl100k, o200k), "{text}");
    }
    // No text is a special token, and no text is dear.
    assert!(Encoding::O200k.count("<|endoftext|>") > 1);
    assert!(Encoding::O200k.count(&"a".repeat(1 << 20)) > 10_000);
}

/// OpenAI's cookbook, "How to count tokens with tiktoken": the API says 129 for gpt-3.5-turbo and gpt-4, 124 for gpt-4o.
#[test]
fn messages_are_framed_as_openai_says() {
    let system = "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.";
    let call = json!({"model": "m", "messages": [
        {"role": "system", "content": system},
        {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
        {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
        {"role": "system", "name": "example_user",
         "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
        {"role": "system", "name": "example_assistant",
         "content": "Let's talk later when we're less busy about how to do better."},
        {"role": "user",
         "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."}]});
    let body = call.to_string();
    let of = |encoding| prompt(Dialect::OpenAiChat, body.as_bytes(), Site::default(), encoding).unwrap();
    let (old, new) = (of(Encoding::Cl100k), of(Encoding::O200k));
    // Names of leading system messages are not kept: a token each, and two of `example_user`, three of `example_assistant`.
    const NAMES: u64 = 2 * (1 + 2) + 2 * (1 + 3);
    assert_eq!((old.tokens + NAMES, new.tokens + NAMES), (129, 124));
    assert!(old.most >= 129 && new.most >= 124 && old.surely);
    let hi = counted(Dialect::OpenAiChat, &json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}));
    assert_eq!(hi.tokens, 8, "as every answer of gpt-4o says");
}

#[test]
fn the_same_call_counts_alike_in_every_dialect() {
    let chat = json!({"model": "m", "messages": [{"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the weather in Paris?"}]});
    let anthropic = json!({"model": "m", "max_tokens": 9, "system": "Be brief.",
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}]});
    let gemini = json!({"systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "What is the weather in Paris?"}]}]});
    let chat = counted(Dialect::OpenAiChat, &chat);
    assert_eq!(chat, counted(Dialect::Anthropic, &anthropic));
    assert_eq!(chat, counted(Dialect::Gemini, &gemini));
    assert_eq!(chat.tokens, 3 + 4 + 3 + 4 + 7);
}

#[test]
fn tools_count_pictures_do_not_and_the_bound_holds_for_both() {
    let function = json!({"name": "get_weather", "description": "Get the current weather in a place",
        "parameters": {"type": "object", "required": ["place"], "properties": {
            "place": {"type": "string", "description": "City and country"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "array", "items": {"type": "object", "properties": {"day": {"type": "integer"}}}}}}});
    let ask = json!({"role": "user", "content": "How warm is it in Paris?"});
    let plain = counted(Dialect::OpenAiChat, &json!({"model": "m", "messages": [ask]}));
    let tools = json!({"model": "m", "messages": [ask], "tools": [{"type": "function", "function": function}]});
    let tools = counted(Dialect::OpenAiChat, &tools);
    assert!((50..110).contains(&(tools.tokens - plain.tokens)), "{tools:?}");
    assert!(tools.surely && tools.most >= tools.tokens);
    let picture = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", "A".repeat(100_000))}}]}]});
    let picture = counted(Dialect::OpenAiChat, &picture);
    assert!(!picture.surely && (1_000..1_100).contains(&picture.tokens), "{picture:?}");
}

#[test]
fn embeddings_count_their_texts_or_the_tokens_they_are() {
    let count = |input: Value| embedded(json!({"model": "m", "input": input}).to_string().as_bytes(), Encoding::Cl100k);
    assert_eq!(count(json!("hello world")).unwrap().tokens, 2);
    assert_eq!(count(json!(["hello world", "hello"])).unwrap().tokens, 3);
    assert_eq!(count(json!([1, 2, 3])).unwrap().tokens, 3);
    assert_eq!(count(json!([[1, 2], [3]])).unwrap().tokens, 3);
    assert!(count(json!({})).is_err());
}

/// Whoever writes a prompt wants it to look smaller than it is: its bound is of what the model reads, not of how it is
/// written.
#[test]
fn no_way_of_writing_makes_a_prompt_smaller_than_it_is() {
    let text = "\nu\nabla\nu\new\t\"quoted\" \\ \u{1f600} ünï".repeat(50);
    let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    let plain = json!({"model": "m", "messages": [{"role": "user", "content": text}]}).to_string();
    let hidden = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{escaped}"}}]}}"#);
    let of = |body: &str| prompt(Dialect::OpenAiChat, body.as_bytes(), Site::default(), Encoding::O200k).unwrap();
    assert_eq!(of(&plain), of(&hidden));
    assert!(of(&plain).most >= Encoding::O200k.count(&text) + 7);
}
