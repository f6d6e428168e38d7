//! Which models there are, as each SDK reads it.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde_json::{Value, json};
use tidegate_llm::Dialect;

use crate::reply::Reply;

/// 2024-01-01: documents do not say when a model came.
const SINCE: u64 = 1_704_067_200;

pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>, dialect: Dialect) -> Response<Reply> {
    let models: Vec<Value> = names.map(|name| one(name, dialect)).collect();
    answer(&match dialect {
        Dialect::Anthropic => {
            let ends = |model: Option<&Value>| model.map_or(Value::Null, |model| model["id"].clone());
            json!({"first_id": ends(models.first()), "last_id": ends(models.last()), "has_more": false, "data": models})
        }
        Dialect::Gemini => json!({"models": models}),
        _ => json!({"object": "list", "data": models}),
    })
}

pub(super) fn show(name: &str, dialect: Dialect) -> Response<Reply> {
    answer(&one(name, dialect))
}

fn one(name: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::Anthropic => {
            json!({"type": "model", "id": name, "display_name": name, "created_at": "2024-01-01T00:00:00Z"})
        }
        Dialect::Gemini => {
            let methods = ["generateContent", "countTokens"];
            json!({"name": format!("models/{name}"), "displayName": name, "supportedGenerationMethods": methods})
        }
        _ => json!({"id": name, "object": "model", "created": SINCE, "owned_by": "tidegate"}),
    }
}

fn answer(value: &Value) -> Response<Reply> {
    let mut response = Response::new(Reply::full(Bytes::from(value.to_string())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
