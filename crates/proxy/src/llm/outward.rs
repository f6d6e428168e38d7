//! A call as one provider wants it: path and headers. What proves who we are comes last ([`super::prove`]).

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tidegate_llm::Dialect;
use tidegate_policy::{Deployment, ProviderKind, Route, Tongue};

use super::along;
use super::door::Task;
use super::heard::{Heard, Outgoing};
use crate::refusal::Refusal;
use crate::rewrite;

const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// Of a model's name in a path.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

/// `own`: the key is the caller's.
pub(super) fn request(
    parts: &Parts,
    heard: &Heard<'_>,
    (outgoing, body): (&Outgoing, &Bytes),
    deployment: &Deployment,
    route: &Route,
    own: bool,
) -> Result<Request<Bytes>, Refusal> {
    let provider = &*deployment.provider;
    let uri = uri(heard, outgoing.dialect, deployment)?;
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(HOST, provider.host.clone());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accepts = if heard.peek.stream { outgoing.dialect.stream_content_type(true) } else { "application/json" };
    headers.insert(ACCEPT, HeaderValue::from_static(accepts));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(agent) = parts.headers.get(USER_AGENT) {
        headers.insert(USER_AGENT, agent.clone());
    }
    let same = outgoing.dialect == heard.door.dialect;
    for (name, value) in &parts.headers {
        if along::goes(name, provider, same, own) {
            headers.append(name.clone(), value.clone());
        }
    }
    if outgoing.dialect == Dialect::Anthropic {
        headers.entry(VERSION).or_insert(HeaderValue::from_static("2023-06-01"));
    }
    rewrite::edit(&mut headers, &route.request_headers);
    let mut request = Request::new(body.clone());
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (Method::POST, uri, headers);
    Ok(request)
}

/// Of chats with most providers it is always the same.
fn uri(heard: &Heard<'_>, dialect: Dialect, deployment: &Deployment) -> Result<Uri, Refusal> {
    let provider = &*deployment.provider;
    let make = || {
        let path = path(heard, dialect, deployment);
        let mut uri = String::with_capacity(provider.base.len() + path.len());
        uri.push_str(&provider.base);
        uri.push_str(&path);
        Uri::from_maybe_shared(Bytes::from(uri)).map_err(|_| Refusal::Fault)
    };
    let fixed = heard.door.task == Task::Chat
        && provider.api_version.is_none()
        && matches!((dialect, provider.kind.tongue()), (Dialect::OpenAiChat, Tongue::OpenAi));
    if !fixed {
        return make();
    }
    if let Some(known) = provider.chat.get() {
        return Ok(known.clone());
    }
    make().map(|uri| provider.chat.get_or_init(|| uri).clone())
}

fn path(heard: &Heard<'_>, dialect: Dialect, deployment: &Deployment) -> String {
    let model = utf8_percent_encode(deployment.model(&heard.peek.model), NAME);
    let provider = &*deployment.provider;
    if let Some(version) = &provider.api_version {
        return match (dialect, &heard.door.task) {
            (Dialect::OpenAiResponses, _) => format!("/responses?api-version={version}"),
            (_, Task::Embed) => format!("/deployments/{model}/embeddings?api-version={version}"),
            _ => format!("/deployments/{model}/chat/completions?api-version={version}"),
        };
    }
    let own = dialect == heard.door.dialect;
    let stream = heard.peek.stream;
    match (dialect, &heard.door.task) {
        (Dialect::OpenAiChat | Dialect::OpenAiResponses, Task::Embed) => "/embeddings".to_owned(),
        (Dialect::OpenAiChat, _) => "/chat/completions".to_owned(),
        (Dialect::OpenAiResponses, Task::Count) => "/responses/input_tokens".to_owned(),
        (Dialect::OpenAiResponses, _) => "/responses".to_owned(),
        (Dialect::Anthropic, Task::Count) if provider.kind == ProviderKind::VertexAnthropic => {
            "/models/count-tokens:rawPredict".to_owned()
        }
        (Dialect::Anthropic, _) if provider.kind == ProviderKind::VertexAnthropic => {
            format!("/models/{model}:{}", if stream { "streamRawPredict" } else { "rawPredict" })
        }
        (Dialect::Anthropic, Task::Count) => "/messages/count_tokens".to_owned(),
        (Dialect::Anthropic, _) => "/messages".to_owned(),
        (Dialect::Gemini, Task::Embed) if provider.kind == ProviderKind::Vertex => format!("/models/{model}:predict"),
        (Dialect::Gemini, Task::Embed) => format!("/models/{model}:batchEmbedContents"),
        (Dialect::Gemini, Task::Count) => format!("/models/{model}:countTokens"),
        (Dialect::Gemini, _) if stream && own && !heard.door.sse => format!("/models/{model}:streamGenerateContent"),
        (Dialect::Gemini, _) if stream => format!("/models/{model}:streamGenerateContent?alt=sse"),
        (Dialect::Gemini, _) => format!("/models/{model}:generateContent"),
        (Dialect::Cohere, Task::Embed) => "/embed".to_owned(),
        (Dialect::Cohere, _) => "/chat".to_owned(),
        (Dialect::Bedrock, Task::Embed) => format!("/model/{model}/invoke"),
        (Dialect::Bedrock, Task::Count) => format!("/model/{model}/count-tokens"),
        (Dialect::Bedrock, _) => format!("/model/{model}/{}", if stream { "converse-stream" } else { "converse" }),
    }
}
