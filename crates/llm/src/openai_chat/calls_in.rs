//! Tool calls that arrive in pieces, keyed by `index`: it may start at 1 and skip, calls may interleave, the id and name
//! stand in the first piece only (some repeat them, some send the name later, some send no index or no id at all).

use serde_json::Value;

use crate::Dialect;
use crate::ids;
use crate::json::{self, string_of, text_of};
use crate::meaning::{BlockKind, Delta, Error, Flow};
use crate::signature::Signature;

#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Call {
    index: Option<u64>,
    id: String,
    /// `None` until a name came.
    block: Option<usize>,
    signature: Option<Signature>,
    /// Arguments that came before the name.
    early: String,
}

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn piece(&mut self, piece: &Value, answer: &str, flow: &mut Flow) {
        let function = &piece["function"];
        let at = self.find(piece).unwrap_or_else(|| {
            self.calls.push(Call {
                index: piece["index"].as_u64(),
                id: string_of(&piece["id"]),
                block: None,
                signature: None,
                early: String::new(),
            });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        if let (Some(signature), None) = (signature(piece), &call.signature) {
            call.signature = Some(signature.clone());
            if let Some(block) = call.block {
                flow.delta(block, Delta::Signature(signature));
            }
        }
        let arguments = arguments(&function["arguments"]);
        if call.block.is_none() {
            match text_of(&function["name"]) {
                Some(name) => call.open(name, at, answer, flow),
                None => return call.early.push_str(&arguments),
            }
        }
        if let (Some(block), false) = (call.block, arguments.is_empty())
            && !flow.delta(block, Delta::Arguments(arguments))
        {
            flow.fail(Error::bad_stream("arguments of a tool call arrived after it was closed"));
        }
    }

    /// Calls that never got a name are told without one: an error the caller can see.
    pub(super) fn finish(&mut self, answer: &str, flow: &mut Flow) {
        for (at, call) in self.calls.iter_mut().enumerate() {
            if call.block.is_none() {
                call.open("", at, answer, flow);
            }
        }
    }

    /// The call that a piece belongs to. A new id under an old index is a new call if it brings a name: Gemini's
    /// imitation of this dialect numbers all calls 0.
    fn find(&self, piece: &Value) -> Option<usize> {
        let id = text_of(&piece["id"]);
        let named = text_of(&piece["function"]["name"]).is_some();
        let same = |call: &Call| match id {
            Some(id) if named => call.id == id || call.id.is_empty(),
            _ => true,
        };
        match piece["index"].as_u64() {
            Some(index) => self.calls.iter().rposition(|call| call.index == Some(index) && same(call)),
            None if id.is_some() => self.calls.iter().rposition(|call| Some(call.id.as_str()) == id),
            None if named => None,
            None => self.calls.len().checked_sub(1),
        }
    }
}

impl Call {
    fn open(&mut self, name: &str, at: usize, answer: &str, flow: &mut Flow) {
        if self.id.is_empty() {
            self.id = ids::synthetic(answer, at);
        }
        let kind =
            BlockKind::ToolCall { id: self.id.clone(), name: name.to_owned(), signature: self.signature.clone() };
        self.block = flow.open(kind);
        if let (Some(block), false) = (self.block, self.early.is_empty()) {
            flow.delta(block, Delta::Arguments(std::mem::take(&mut self.early)));
        }
    }
}

/// Text everywhere but in some imitations, which send the object itself.
pub(super) fn arguments(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        object => json::text(object),
    }
}

/// Gemini's thought signature, as its imitation of this dialect sends it.
pub(super) fn signature(call: &Value) -> Option<Signature> {
    let value = text_of(&call["extra_content"]["google"]["thought_signature"])?;
    Some(Signature::open(value, Dialect::Gemini))
}
