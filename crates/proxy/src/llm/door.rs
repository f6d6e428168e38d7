//! Which call a request is, and whose language it speaks: told by the end of its path, so that any prefix will do.

use std::borrow::Cow;

use http::Method;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use tidegate_llm::Dialect;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    Chat,
    Embed,
    /// How many tokens a prompt has.
    Count,
    /// Which models there are.
    List,
    /// Is there this one?
    Show(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Door<'a> {
    pub(super) dialect: Dialect,
    pub(super) task: Task,
    /// Where the path names it.
    pub(super) model: Option<Cow<'a, str>>,
    /// Where the path says so.
    pub(super) stream: bool,
    /// Gemini: a stream of events and not a JSON array.
    pub(super) sse: bool,
}

/// `None`: no call that is known here.
pub(super) fn door(parts: &Parts) -> Option<Door<'_>> {
    let path = parts.uri.path().trim_end_matches('/');
    let of = |dialect, task| Some(Door { dialect, task, model: None, stream: false, sse: false });
    let ends = |end: &str| path.ends_with(end);
    match () {
        () if ends("/chat/completions") => of(Dialect::OpenAiChat, Task::Chat),
        () if ends("/v2/chat") => of(Dialect::Cohere, Task::Chat),
        () if ends("/responses") => of(Dialect::OpenAiResponses, Task::Chat),
        () if ends("/embeddings") => of(Dialect::OpenAiChat, Task::Embed),
        () if ends("/messages") => of(Dialect::Anthropic, Task::Chat),
        () if ends("/messages/count_tokens") => of(Dialect::Anthropic, Task::Count),
        () if ends("/models") => of(lister(parts, path), Task::List),
        () => gemini(parts, path).or_else(|| bedrock(path)).or_else(|| {
            let (_, name) = path.split_once("/models/")?;
            let name = percent_decode_str(name).decode_utf8().ok()?.into_owned();
            of(lister(parts, path), Task::Show(name)).filter(|_| parts.method == Method::GET)
        }),
    }
}

/// All SDKs list models by the same path; they differ in what they send along.
fn lister(parts: &Parts, path: &str) -> Dialect {
    match () {
        () if parts.headers.contains_key("anthropic-version") => Dialect::Anthropic,
        () if path.contains("/v1beta") || parts.headers.contains_key("x-goog-api-key") => Dialect::Gemini,
        () => Dialect::OpenAiChat,
    }
}

/// `models/NAME:generateContent`
fn gemini<'a>(parts: &'a Parts, path: &'a str) -> Option<Door<'a>> {
    let (front, verb) = path.rsplit_once(':')?;
    let (task, stream) = match verb {
        "generateContent" => (Task::Chat, false),
        "streamGenerateContent" => (Task::Chat, true),
        "countTokens" => (Task::Count, false),
        _ => return None,
    };
    let (_, model) = front.split_once("/models/")?;
    let model = Some(percent_decode_str(model).decode_utf8().ok()?);
    let sse = parts
        .uri
        .query()
        .is_some_and(|query| query.split('&').any(|pair| matches!(pair, "alt=sse" | "$alt=sse" | "%24alt=sse")));
    Some(Door { dialect: Dialect::Gemini, task, model, stream, sse })
}

/// `model/NAME/converse`
fn bedrock(path: &str) -> Option<Door<'_>> {
    let (front, stream) = match (path.strip_suffix("/converse"), path.strip_suffix("/converse-stream")) {
        (Some(front), _) => (front, false),
        (None, Some(front)) => (front, true),
        (None, None) => return None,
    };
    let (_, model) = front.split_once("/model/")?;
    let model = Some(percent_decode_str(model).decode_utf8().ok()?);
    Some(Door { dialect: Dialect::Bedrock, task: Task::Chat, model, stream, sse: false })
}

/// In whose words a refusal is told: also for what is no call.
pub(super) fn dialect(parts: &Parts) -> Dialect {
    door(parts).map_or_else(|| lister(parts, parts.uri.path()), |door| door.dialect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str) -> Parts {
        http::Request::builder().uri(uri).body(()).expect("a request").into_parts().0
    }

    #[test]
    fn each_sdk_finds_its_door_behind_any_prefix() {
        for (uri, dialect, task, model, stream) in [
            ("/v1/chat/completions", Dialect::OpenAiChat, Task::Chat, None, false),
            ("/openai/v1/responses", Dialect::OpenAiResponses, Task::Chat, None, false),
            ("/v1/embeddings/", Dialect::OpenAiChat, Task::Embed, None, false),
            ("/anthropic/v1/messages", Dialect::Anthropic, Task::Chat, None, false),
            ("/v1/messages/count_tokens?beta=true", Dialect::Anthropic, Task::Count, None, false),
            ("/v1beta/models/gemini-2.5:generateContent", Dialect::Gemini, Task::Chat, Some("gemini-2.5"), false),
            ("/v1beta/models/a%2Fb:streamGenerateContent", Dialect::Gemini, Task::Chat, Some("a/b"), true),
            ("/v1beta/models/x:countTokens", Dialect::Gemini, Task::Count, Some("x"), false),
            ("/model/us.claude-v1%3A0/converse", Dialect::Bedrock, Task::Chat, Some("us.claude-v1:0"), false),
            ("/model/m/converse-stream", Dialect::Bedrock, Task::Chat, Some("m"), true),
            ("/cohere/v2/chat", Dialect::Cohere, Task::Chat, None, false),
            ("/v1/models", Dialect::OpenAiChat, Task::List, None, false),
            ("/v1/models/org/name", Dialect::OpenAiChat, Task::Show("org/name".into()), None, false),
        ] {
            let parts = parts(uri);
            let door = door(&parts).expect(uri);
            let found = (door.dialect, door.task, door.model.as_deref(), door.stream);
            assert_eq!(found, (dialect, task, model, stream), "{uri}");
        }
        for uri in ["/v1/files", "/", "/v1/audio/speech", "/model/x"] {
            assert_eq!(door(&parts(uri)), None, "{uri}");
        }
    }

    #[test]
    fn gemini_streams_events_where_they_are_asked_for() {
        for (uri, sse) in [
            ("/models/x:streamGenerateContent?alt=sse", true),
            ("/models/x:streamGenerateContent?key=k&$alt=sse", true),
            ("/models/x:streamGenerateContent", false),
        ] {
            assert_eq!(door(&parts(uri)).map(|door| door.sse), Some(sse), "{uri}");
        }
    }
}
