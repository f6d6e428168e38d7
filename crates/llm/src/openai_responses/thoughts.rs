//! Reasoning items. One of OpenAI's own is kept as its envelope (id and encrypted content), to go back as it came; one
//! that carries another maker's signature has it, marked, as its encrypted content.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Dialect;
use crate::json::text_of;
use crate::meaning::{Body, Part};
use crate::signature::Signature;

pub(super) fn read(item: &Value) -> Option<Part> {
    let text = text(item);
    let body = match (text.is_empty(), signature(item)) {
        (true, Some(signature)) => Body::Redacted(signature),
        (true, None) => return None,
        (false, signature) => Body::Reasoning { text, signature },
    };
    Some(body.into())
}

/// The thoughts themselves where a provider shows them, else what sums them up.
pub(super) fn text(item: &Value) -> String {
    let join = |list: &Value| {
        let texts: Vec<&str> =
            list.as_array().into_iter().flatten().filter_map(|part| text_of(&part["text"])).collect();
        texts.join("\n\n")
    };
    let open = join(&item["content"]);
    if open.is_empty() { join(&item["summary"]) } else { open }
}

pub(super) fn signature(item: &Value) -> Option<Signature> {
    let sealed = text_of(&item["encrypted_content"]);
    if let Some(sealed) = sealed {
        let signature = Signature::open(sealed, Dialect::OpenAiResponses);
        if signature.maker != Dialect::OpenAiResponses {
            return Some(signature);
        }
    }
    let id = text_of(&item["id"]);
    (sealed.is_some() || id.is_some()).then(|| {
        let envelope = json!([id, sealed]).to_string();
        Signature::new(Dialect::OpenAiResponses, STANDARD.encode(envelope))
    })
}

/// The item for a caller: `id` is used where the signature is another maker's.
pub(super) fn write(text: &str, signature: Option<&Signature>, id: &str) -> Value {
    let mut item = json!({"id": id, "type": "reasoning", "summary": summary(text)});
    if let Some(signature) = signature {
        match own(signature) {
            Some((own_id, sealed)) => {
                if let Some(own_id) = own_id {
                    item["id"] = own_id.into();
                }
                if let Some(sealed) = sealed {
                    item["encrypted_content"] = sealed.into();
                }
            }
            None => item["encrypted_content"] = signature.seal(Dialect::OpenAiResponses).into(),
        }
    }
    item
}

/// The item for the provider: only its own goes back.
pub(super) fn replay(text: &str, signature: &Signature) -> Option<Value> {
    own(signature)?;
    let mut item = write(text, Some(signature), "");
    if item["id"] == "" {
        item.as_object_mut()?.remove("id");
    }
    Some(item)
}

fn summary(text: &str) -> Value {
    if text.is_empty() { json!([]) } else { json!([{"type": "summary_text", "text": text}]) }
}

fn own(signature: &Signature) -> Option<(Option<String>, Option<String>)> {
    let value = signature.replayable(Dialect::OpenAiResponses)?;
    let bytes = STANDARD.decode(value).ok()?;
    serde_json::from_slice(&bytes).ok()
}
