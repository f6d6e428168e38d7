//! Names of tools that a provider would refuse, shortened there and back (llm-wire line 10).
//!
//! Deterministic: the same name becomes the same short one on every node and in every turn, so prompt caches hit. The way
//! back is the table of the call at hand.

use std::collections::HashMap;

use crate::meaning::{Answer, BlockKind, Body, Call, Event, Message, Tool, ToolChoice};

/// What a dialect allows: all of them take 64 of these characters; Gemini adds dots and colons, which nobody misses.
const LONGEST: usize = 64;

#[derive(Clone, Debug, Default)]
pub struct Names {
    /// From the provider's name to the caller's.
    back: HashMap<String, String>,
}

impl Names {
    /// Renames what a provider would refuse, everywhere in the call.
    pub fn shorten(call: &mut Call) -> Self {
        let mut names = Self::default();
        for tool in &mut call.tools {
            if let Tool::Function(function) = tool {
                names.fit(&mut function.name);
            }
        }
        match &mut call.tool_choice {
            Some(ToolChoice::Named(name)) => names.fit(name),
            Some(ToolChoice::OneOf(list)) => list.iter_mut().for_each(|name| names.fit(name)),
            _ => {}
        }
        for part in call.messages.iter_mut().flat_map(|Message { parts, .. }| parts) {
            match &mut part.body {
                Body::ToolCall(call) => names.fit(&mut call.name),
                Body::ToolResult(result) => {
                    if let Some(name) = &mut result.name {
                        names.fit(name);
                    }
                }
                _ => {}
            }
        }
        names
    }

    /// Nothing was renamed: nothing need be renamed back.
    pub fn is_empty(&self) -> bool {
        self.back.is_empty()
    }

    pub fn restore_event(&self, event: &mut Event) {
        if let Event::Open { kind: BlockKind::ToolCall { name, .. }, .. } = event {
            self.restore(name);
        }
    }

    pub fn restore_answer(&self, answer: &mut Answer) {
        for part in &mut answer.parts {
            if let Body::ToolCall(call) = &mut part.body {
                self.restore(&mut call.name);
            }
        }
    }

    pub fn restore(&self, name: &mut String) {
        if let Some(long) = self.back.get(name) {
            name.clone_from(long);
        }
    }

    fn fit(&mut self, name: &mut String) {
        if is_fine(name) {
            return;
        }
        let short = shortened(name);
        let long = std::mem::replace(name, short.clone());
        self.back.insert(short, long);
    }
}

fn is_fine(name: &str) -> bool {
    name.len() <= LONGEST && name.bytes().all(allowed)
}

fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The beginning, legible to the model, and a hash of the whole. Bedrock wants a letter first.
fn shortened(name: &str) -> String {
    let hash = format!("{:016x}", fnv(name.as_bytes()));
    let kept: String =
        name.bytes().map(|b| if allowed(b) { char::from(b) } else { '_' }).take(LONGEST - hash.len() - 1).collect();
    let first = if kept.starts_with(|c: char| c.is_ascii_alphabetic()) { "" } else { "t" };
    let mut short = format!("{first}{kept}");
    short.truncate(LONGEST - hash.len() - 1);
    format!("{short}_{hash}")
}

/// FNV-1a, 64 bits: stable for ever, which is all that is asked of it.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;
    use crate::meaning::Function;

    #[test]
    fn line_10_long_and_strange_names_are_shortened_and_come_back() {
        let long = "mcp__server.example.com__".to_owned() + &"x".repeat(80);
        let other = "mcp__server.example.com__".to_owned() + &"x".repeat(81);
        let mut call = Call::new(Dialect::Anthropic);
        for name in [&long, &other, &"fine_name-1".to_owned(), &"größe".to_owned()] {
            call.tools.push(Tool::Function(Function { name: name.clone(), ..Function::default() }));
        }
        call.tool_choice = Some(ToolChoice::Named(long.clone()));
        let names = Names::shorten(&mut call);
        let sent: Vec<&str> = call.tools.iter().map(|tool| tool.function().unwrap().name.as_str()).collect();
        assert!(sent.iter().all(|name| is_fine(name)), "{sent:?}");
        assert_ne!(sent[0], sent[1]);
        assert_eq!(sent[2], "fine_name-1");
        assert_eq!(call.tool_choice, Some(ToolChoice::Named(sent[0].to_owned())));
        let kind = BlockKind::ToolCall { id: "1".into(), name: sent[1].to_owned(), signature: None };
        let mut event = Event::Open { block: 0, kind };
        names.restore_event(&mut event);
        assert!(matches!(event, Event::Open { kind: BlockKind::ToolCall { name, .. }, .. } if name == other));
    }
}
