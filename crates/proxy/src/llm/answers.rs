//! Answers that are given again: looked up by what is asked, whatever its spelling, and told as a whole or as a stream,
//! however they came the first time. What is kept, for how long and on which nodes is `tidegate-cache`'s to say.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, PRAGMA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use memchr::memmem;
use tidegate_cache::{Ask, Fetch, Forward, Glance, Next, Report};
use tidegate_llm::bounds::Bounds;
use tidegate_llm::canonical::{canonical, is_deterministic};
use tidegate_llm::openai_responses::relabelled;
use tidegate_llm::{Dialect, Reply as Spoken};
use tidegate_policy::{Answers, Model};
use tidegate_telemetry::Cached;

use super::door::Task;
use super::heard::Heard;
use super::own::OwnKeys;
use super::{COST, No, Visit};
use crate::cached::{self, Kept, Way};
use crate::refusal::Refusal;
use crate::relay::Observer;
use crate::reply::Reply;

/// What purges find answers by.
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// Kept beside an answer: the tokens that it took.
const TOKENS: HeaderName = HeaderName::from_static("x-tidegate-tokens");
/// What callers say to their dialect's provider that changes what it answers.
const SAID: [HeaderName; 3] = [
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("openai-beta"),
];
/// What a stream does not carry over into a whole answer, nor the other way round. As a call asks for it.
const WHOLE_ONLY: [&[u8]; 4] = [b"\"logprobs\"", b"ogprobs\"", b"odalities\"", b"\"web_search_options\""];

/// A call's place among the answers that are there.
pub(super) struct Look {
    glance: Glance,
    rules: Arc<Answers>,
}

/// Where an answer goes when it is whole. Dropped, others go on without it.
pub(crate) struct Keep {
    fetch: Box<Fetch>,
    rules: Arc<Answers>,
    tags: HeaderValue,
}

/// What came of looking.
pub(super) enum Found {
    Answer(Box<Response<Reply>>),
    /// Somebody is asked; the answer may be kept. Goes with what is told of it.
    Nothing(Option<Keep>, Option<Box<Report>>),
}

impl Look {
    /// Is it answered already, so that limits that do not count hits need not be asked?
    pub(super) fn is_hit(&self) -> bool {
        cached::is_hit_now(&self.glance)
    }
}

impl Visit<'_, '_> {
    /// The first look, which never waits. `None`: nothing is kept of calls like this.
    pub(super) fn look(&self, parts: &Parts, heard: &Heard<'_>, model: &Model, own: &OwnKeys<'_>) -> Option<Look> {
        let rules = self.llm.answers(model)?;
        let cache = self.gate.cache.as_ref()?;
        let task = match heard.door.task {
            Task::Chat => "chat",
            Task::Embed => "embed",
            Task::Count | Task::List | Task::Show(_) => return None,
        };
        // Who pays himself has nothing to do with what others got.
        if own.are_there() || (rules.deterministic && task == "chat" && !is_deterministic(&heard.body)) {
            return None;
        }
        let whole_only = heard.peek.n > 1 || WHOLE_ONLY.iter().any(|word| memmem::find(&heard.body, word).is_some());
        if whole_only && heard.peek.stream {
            return None;
        }
        let asked = asked(parts, heard, model, task)?;
        let mut headers = HeaderMap::new();
        for name in [CACHE_CONTROL, PRAGMA] {
            for value in parts.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        let glance = cache.glance(&Ask {
            policy: &rules.store,
            tenant: &self.route.tenant,
            route: &self.route.id,
            // By whichever way it comes in, it is one call.
            secure: false,
            host: "llm",
            authority: "",
            own_port: true,
            path: &format!("/{}/{}", self.route.id, model.name),
            query: None,
            method: &Method::POST,
            headers: &headers,
            body: Some(&asked),
            consumer: self.caller.map(|caller| caller.home()),
            credentials: None,
        });
        Some(Look { glance, rules: Arc::clone(rules) })
    }

    /// The wait, if there is something to wait for.
    pub(super) async fn find(
        &self,
        look: Look,
        heard: &Heard<'_>,
        model: &Model,
        observer: &mut Observer,
    ) -> Result<Found, No> {
        let Look { glance, rules } = look;
        let kept = match cached::settle(glance).await {
            Way::Kept(kept) | Way::Refresh(kept, _) => kept,
            Way::Fetch(fetch) => {
                observer.record.cache = Some(cached::reason(Some(&fetch)));
                let report = Box::new(Report::forward(fetch.why()));
                let tags = format!("model:{},route:{}", model.name, self.route.id);
                let tags = HeaderValue::try_from(tags).map_err(|_| Refusal::Fault)?;
                return Ok(Found::Nothing(Some(Keep { fetch, rules, tags }), Some(report)));
            }
            Way::Pass(report) => {
                observer.record.cache = Some(cached::reason(None));
                return Ok(Found::Nothing(None, Some(report)));
            }
        };
        if kept.kind == Cached::OnlyIfCached {
            observer.record.cache = Some(kept.kind);
            return Err(Refusal::OnlyIfCached.into());
        }
        let longest = usize::try_from(rules.store.max_object).unwrap_or(usize::MAX);
        match self.told_again(kept, heard, observer, longest).await {
            Some(response) => Ok(Found::Answer(Box::new(response))),
            // It is whole, and no stream can tell it.
            None => {
                observer.record.cache = Some(Cached::Bypass);
                Ok(Found::Nothing(None, Some(Box::new(Report::forward(Forward::Bypass)))))
            }
        }
    }

    async fn told_again(
        &self,
        kept: Kept,
        heard: &Heard<'_>,
        observer: &mut Observer,
        longest: usize,
    ) -> Option<Response<Reply>> {
        let (head, body) = kept.response.into_parts();
        let whole = Limited::new(body, longest).collect().await.ok()?.to_bytes();
        let mut headers = head.headers;
        headers.remove(CACHE_TAG);
        let tokens = headers.remove(&TOKENS).and_then(|value| value.to_str().ok()?.parse().ok());
        let dialect = heard.door.dialect;
        let reply = if heard.peek.stream {
            let answer = dialect.parse_answer(&whole).ok().filter(tidegate_llm::meaning::Answer::is_streamable)?;
            let content_type = dialect.stream_content_type(heard.door.sse);
            headers.remove(CONTENT_LENGTH);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            Reply::pieces(answer.replayed(dialect, self.again(heard)))
        } else if dialect == Dialect::OpenAiResponses {
            headers.remove(CONTENT_LENGTH);
            Reply::full(relabelled(&whole, &heard.body).map_or(whole, Bytes::from))
        } else {
            Reply::full(whole)
        };
        observer.record.cache = Some(kept.kind);
        if let Some(spoken) = &mut observer.record.spoken {
            spoken.saved = tokens.unwrap_or(0);
        }
        if self.llm.tells_cost && !heard.peek.stream {
            headers.insert(COST, HeaderValue::from_static("0"));
        }
        let mut response = Response::new(reply);
        *response.headers_mut() = headers;
        Some(response)
    }

    /// As the answer is, under its own name and id.
    fn again(&self, heard: &Heard<'_>) -> Spoken {
        Spoken {
            model: None,
            id: self.origin.request_id.as_str().replace('-', ""),
            now: tidegate_clock::wall().0 / 1_000_000_000,
            include_usage: heard.peek.include_usage,
            sse: heard.door.sse,
            bounds: Bounds::default(),
            echo: heard.echo(),
        }
    }
}

/// All that an answer depends on beside tenant and route: each part on a line of its own, the call itself last.
fn asked(parts: &Parts, heard: &Heard<'_>, model: &Model, task: &str) -> Option<Vec<u8>> {
    let mut text = format!("1 {task} {} {}\n{}\n", heard.door.dialect.name(), heard.peek.model, model.name);
    // Whoever edits who answers does not want what others answered.
    for to in &model.deployments {
        writeln!(text, "{} {}", to.provider.name, to.model(&heard.peek.model)).ok()?;
    }
    writeln!(text, "{:?} {}", model.max_output, model.drops).ok()?;
    let mut text = text.into_bytes();
    for name in &SAID {
        for value in parts.headers.get_all(name) {
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(b' ');
            text.extend_from_slice(value.as_bytes());
            text.push(b'\n');
        }
    }
    text.extend_from_slice(&canonical(heard.door.dialect, &heard.body)?);
    Some(text)
}

impl Keep {
    /// Bytes of an answer that may be kept.
    pub(crate) fn longest(&self) -> usize {
        usize::try_from(self.rules.store.max_object).unwrap_or(usize::MAX)
    }

    /// An answer as its caller would get it whole. `finish`: how it ended; `None`: not at all, or it is no chat.
    pub(crate) fn whole(
        self,
        headers: &HeaderMap,
        body: &Bytes,
        finish: Option<&'static str>,
        tokens: u64,
        chat: bool,
    ) {
        let ended = finish.map_or(!chat, |finish| self.rules.finish.contains(&finish));
        if !ended {
            return;
        }
        let mut kept = HeaderMap::with_capacity(4);
        for name in [CONTENT_TYPE, super::attempt::DROPPED, super::attempt::INPUT_TOKENS] {
            if let Some(value) = headers.get(&name) {
                kept.insert(name, value.clone());
            }
        }
        kept.insert(CACHE_TAG, self.tags);
        kept.insert(TOKENS, tokens.into());
        if let Next::Relay(Some(tee)) = self.fetch.answered(StatusCode::OK, &mut kept) {
            tee.whole(body);
        }
    }
}

/// Does this piece of a provider's stream tell what a whole answer of ours would not?
pub(super) fn is_whole_only(piece: &[u8]) -> bool {
    const WORDS: [&[u8]; 6] =
        [b"citations_delta", b"url_citation", b"groundingMetadata", b"inlineData", b"\"audio\":{", b"code_execution"];
    WORDS.iter().any(|word| memmem::find(piece, word).is_some())
}
