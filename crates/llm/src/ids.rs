//! Ids that carry something along, stateless and reversible.

use crate::Dialect;
use crate::meaning::ToolCall;
use crate::signature::Signature;

/// Gemini refuses a call that comes back without its thought signature, and most SDKs drop fields they do not know: the
/// id is the one thing that every caller sends back.
const THOUGHT: &str = "__thought__";

/// The id of a call as the caller sees it.
pub(crate) fn call_id(id: &str, signature: Option<&Signature>, dialect: Dialect) -> String {
    match signature {
        Some(signature) if signature.maker != dialect => {
            format!("{id}{THOUGHT}{}", url_safe(&signature.seal(dialect)))
        }
        _ => id.to_owned(),
    }
}

/// And back. A signature that stands beside the call is worth more than the one in its id.
pub(crate) fn open(id: &mut String, signature: &mut Option<Signature>) {
    let Some((plain, value)) = id.split_once(THOUGHT) else { return };
    let Some(found) = Signature::marked(&standard(value)) else { return };
    let plain = plain.to_owned();
    signature.get_or_insert(found);
    *id = plain;
}

pub(crate) fn open_call(call: &mut ToolCall) {
    open(&mut call.id, &mut call.signature);
}

/// The id of a result names the call without what it carried.
pub(crate) fn plain(id: String) -> String {
    match id.split_once(THOUGHT) {
        Some((plain, _)) => plain.to_owned(),
        None => id,
    }
}

/// Anthropic's SDKs allow `[a-zA-Z0-9_-]` in ids.
fn url_safe(base64: &str) -> String {
    base64
        .chars()
        .filter(|c| *c != '=')
        .map(|c| match c {
            '+' => '-',
            '/' => '_',
            c => c,
        })
        .collect()
}

fn standard(url_safe: &str) -> String {
    let mut value: String = url_safe
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    while !value.len().is_multiple_of(4) {
        value.push('=');
    }
    value
}

/// An id for a call of a dialect that gives none (Gemini): its place among the calls of its answer, and the answer's id,
/// so that ids of one conversation do not meet.
pub(crate) fn synthetic(answer: &str, index: usize) -> String {
    let tail: String = answer.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    if tail.is_empty() { format!("call_{index}") } else { format!("call_{tail}_{index}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_13_a_thought_signature_travels_in_the_id_of_its_call() {
        let signature = Signature::new(Dialect::Gemini, "Ck+/AY==");
        for carrier in [Dialect::OpenAiChat, Dialect::Anthropic, Dialect::Bedrock, Dialect::OpenAiResponses] {
            let id = call_id("call_7", Some(&signature), carrier);
            assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{id}");
            let mut call = ToolCall { id: id.clone(), name: String::new(), arguments: String::new(), signature: None };
            open_call(&mut call);
            assert_eq!((call.id.as_str(), call.signature.as_ref()), ("call_7", Some(&signature)));
            assert_eq!(plain(id), "call_7");
        }
    }
}
