//! How a prompt begins, for who wants calls that begin alike at one place: providers keep what they computed of a prompt's
//! beginning. Chunks of bytes, as they stand in the call; no tokens are counted.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::spans::{self, Member};

/// What begins alike for so many bytes is alike.
const CHUNK: usize = 1_024;
/// What comes later decides nothing.
const MOST: usize = 8 * CHUNK;

/// The beginning of a prompt: system prompt and tools, then the messages up to the first that is no instruction. Whole chunks
/// of it, so that what differs only at the end of a long beginning is alike; all of it where that is less than one.
/// Empty: the call has none.
#[must_use]
pub fn prefix(body: &[u8]) -> Vec<u8> {
    let Ok(members) = spans::members(body) else { return Vec::new() };
    let find = |names: &[&str]| members.iter().find(|member| names.contains(&&*member.name)).map(|member| member.value);
    let mut all = Vec::with_capacity(MOST);
    let system = find(&["system", "systemInstruction", "system_instruction", "instructions"]);
    let tools = find(&["tools", "toolConfig", "functions"]);
    let messages = find(&["messages", "contents", "input"]).map(first).unwrap_or_default();
    for part in [tools, system].into_iter().flatten().chain(messages) {
        let room = MOST.saturating_sub(all.len());
        all.extend(part.bytes().take(room));
    }
    let whole = all.len() / CHUNK * CHUNK;
    if whole > 0 {
        all.truncate(whole);
    }
    all
}

/// OpenAI's `prompt_cache_key`: calls that share one shall be served by one place.
#[must_use]
pub fn cache_key(body: &[u8]) -> Option<String> {
    let members = spans::members(body).ok()?;
    let named = |member: &&Member<'_>| member.name == "prompt_cache_key";
    serde_json::from_str(members.iter().find(named)?.value).ok()
}

/// Instructions, and the first message behind them.
fn first(messages: &str) -> Vec<&str> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow, default)]
        role: Option<std::borrow::Cow<'a, str>>,
    }
    let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(messages) else { return vec![messages] };
    let mut found = Vec::new();
    for message in list.into_iter().map(RawValue::get) {
        found.push(message);
        let role = serde_json::from_str::<Message<'_>>(message).ok().and_then(|message| message.role);
        if !role.is_some_and(|role| role == "system" || role == "developer") {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(system: &str, first: &str, rest: &str) -> Vec<u8> {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{first}"}}{rest}]}}"#
        );
        prefix(body.as_bytes())
    }

    #[test]
    fn a_conversation_begins_alike_however_long_it_becomes() {
        let rest = r#",{"role":"assistant","content":"a"},{"role":"user","content":"more"}"#;
        assert_eq!(chat("be kind", "hello", ""), chat("be kind", "hello", rest));
        assert_ne!(chat("be kind", "hello", ""), chat("be kind", "goodbye", ""));
        assert_ne!(chat("be kind", "hello", ""), chat("be rude", "hello", ""));
    }

    #[test]
    fn behind_a_long_beginning_the_first_message_makes_no_difference() {
        let long = "word ".repeat(600);
        assert_eq!(chat(&long, "hello", ""), chat(&long, "goodbye", ""));
        assert_ne!(chat(&long, "hello", ""), chat(&format!("x{long}"), "hello", ""));
        assert_eq!(chat(&"word ".repeat(9_000), "hello", "").len(), MOST);
    }

    #[test]
    fn every_dialect_has_a_beginning_and_torn_bodies_have_none() {
        for body in [
            r#"{"system":"s","messages":[{"role":"user","content":"u"}]}"#,
            r#"{"contents":[{"parts":[{"text":"u"}]}],"systemInstruction":{"parts":[{"text":"s"}]}}"#,
            r#"{"input":"u","instructions":"s"}"#,
            r#"{"system":[{"text":"s"}],"messages":[{"role":"user","content":[{"text":"u"}]}]}"#,
        ] {
            let all = prefix(body.as_bytes());
            let text = String::from_utf8(all).unwrap();
            assert!(text.contains('s') && text.contains('u'), "{body}: {text}");
        }
        assert!(prefix(b"{").is_empty());
        assert_eq!(cache_key(br#"{"prompt_cache_key":"k"}"#).as_deref(), Some("k"));
        assert_eq!(cache_key(br#"{"prompt_cache_key":null}"#), None);
    }
}
