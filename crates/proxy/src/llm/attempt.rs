//! One try at one deployment, and what came of it. It touches nothing of the call's: another may run beside it.

mod failed;
mod reading;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tidegate_llm::bounds::Bounds;
use tidegate_llm::kept::{self, Tag};
use tidegate_llm::meaning::{Error, Gist, Kind};
use tidegate_llm::replay;
use tidegate_llm::tap::Tap;
use tidegate_llm::unsaid::Unsaid;
use tidegate_llm::{Dialect, Glance, Reply as Spoken};
use tidegate_llm::{count, embed};
use tidegate_policy::{Deployment, ProviderKind};
use tidegate_telemetry::Trace;
use tidegate_upstream::{self as upstream, Answer, Call};
use tokio::time::{Instant, timeout_at};

pub(super) use self::failed::Failed;
use self::failed::Verbatim;
pub(super) use self::reading::read;
use self::reading::{in_time, opening};
use super::Visit;
use super::account::Account;
use super::coded::Source;
use super::counting;
use super::door::Task;
use super::fleet::Going;
use super::heard::{Beside, Heard, Outgoing};
use super::recorder::Recorder;
use super::stream::{Told, Translation, Way};
use super::trouble::Trouble;
use super::{bodies, outward, prove};
use crate::limits::Further;
use crate::reply::Reply;

/// Bytes of a whole answer: images come in it.
const LONGEST_ANSWER: usize = 128 << 20;
pub(super) const LONGEST_ERROR: usize = 1 << 20;
/// Calls for texts that a provider takes one by one.
const AT_ONCE: usize = 8;
pub(super) const DROPPED: HeaderName = HeaderName::from_static("x-tidegate-dropped");
pub(super) const INPUT_TOKENS: HeaderName = HeaderName::from_static("x-amzn-bedrock-input-token-count");

/// What a try is made with. Boxed by who makes it: it is handed on from step to step, and each would keep room for it.
pub(super) struct Attempt<'v, 'a, 'b> {
    pub(super) visit: &'v Visit<'a, 'b>,
    pub(super) parts: &'v http::request::Parts,
    pub(super) heard: &'v Heard<'v>,
    /// The caller's own key of this provider.
    pub(super) own: Option<&'v str>,
    pub(super) further: &'v Further<'a>,
    pub(super) deployment: &'a Deployment,
    pub(super) outgoing: Outgoing,
    pub(super) account: Box<Account>,
    pub(super) going: Going,
    /// An answer that a filter left nothing of is a failure: somebody else may answer.
    pub(super) filtered_fails: bool,
    /// Somebody wants a streamed answer whole.
    pub(super) records: bool,
    /// The try's span, if somebody follows the request.
    pub(super) span: Option<(Trace, u64)>,
}

/// What came of a try.
pub(super) struct Tried {
    pub(super) outcome: Result<Box<Won>, Box<Failed>>,
    /// Who answered, and after how long.
    pub(super) answer: Option<(Arc<str>, u32, Option<Duration>, Duration)>,
    /// For the record.
    pub(super) detail: Option<Box<str>>,
}

impl Tried {
    /// Without an answer.
    pub(super) fn failed(failed: Failed) -> Self {
        Self { outcome: Err(Box::new(failed)), answer: None, detail: None }
    }
}

pub(super) struct Won {
    pub(super) response: Response<Reply>,
    pub(super) rest: Rest,
    /// What could not be said in the caller's dialect.
    pub(super) dropped: Option<Box<str>>,
}

/// What the answer's body is, and where it is counted.
pub(super) enum Rest {
    /// It is in the response.
    Whole(Box<Account>),
    Stream(Box<Told>),
}

/// One of several calls.
type Calling<'c> = Pin<Box<dyn Future<Output = Result<Bytes, Box<Failed>>> + Send + 'c>>;

/// What is known of an answer once its head came.
type Heads = (HeaderMap, Source);

impl Attempt<'_, '_, '_> {
    pub(super) async fn make(self: Box<Self>) -> Tried {
        let until =
            self.deployment.provider.first_event.filter(|_| self.heard.peek.stream).map(|most| Instant::now() + most);
        let (mut answered, mut detail) = (None, None);
        let called = pin!(self.call(&self.outgoing.body, until)).await;
        let outcome = match called {
            Ok(answer) => {
                answered = Some((answer.endpoint.clone(), answer.attempts, answer.connect, answer.first_byte));
                let (head, body) = answer.response.into_parts();
                let source = Source::new(&head.headers, body);
                match source {
                    Ok(source) if head.status.is_success() => pin!(self.hear((head.headers, source), until)).await,
                    Err(error) if head.status.is_success() => Err(Box::new(Failed::lost(error))),
                    // Boxed, as all that a whole answer does without: what it needs is moved about.
                    source => Err(Box::new(Box::pin(self.refused(head.status, &head.headers, source.ok())).await)),
                }
            }
            Err((failed, why)) => {
                detail = why;
                Err(failed)
            }
        };
        Tried { outcome: outcome.map(Box::new), answer: answered, detail }
    }

    async fn hear(self: Box<Self>, (headers, body): Heads, until: Option<Instant>) -> Result<Won, Box<Failed>> {
        if self.heard.peek.stream && self.heard.door.task == Task::Chat {
            return Box::pin(self.streamed(&headers, body, until)).await;
        }
        let mut whole =
            read(Bytes::new(), body, LONGEST_ANSWER).await.map_err(|error| Box::new(Failed::lost(error)))?;
        if !self.outgoing.further.is_empty() {
            whole = Box::pin(self.further(whole)).await?;
        }
        self.whole(&headers, whole).await
    }

    /// One call for each further text, a few at a time.
    async fn further(&self, first: Bytes) -> Result<Bytes, Box<Failed>> {
        let calls: Vec<Calling<'_>> =
            self.outgoing.further.iter().map(|body| Box::pin(self.one(body)) as Calling<'_>).collect();
        let rest: Result<Vec<Bytes>, _> = stream::iter(calls).buffered(AT_ONCE).try_collect().await;
        // The others were answered, and are billed.
        let rest = rest.map_err(|failed| Box::new(Failed { answered: false, ..*failed }))?;
        let all = std::iter::once(&first).chain(&rest).map(|body| &**body);
        embed::joined(all).map(Bytes::from).map_err(|error| Box::new(Failed::lost(error)))
    }

    async fn one(&self, body: &Bytes) -> Result<Bytes, Box<Failed>> {
        let answer = self.call(body, None).await.map_err(|(failed, _)| failed)?;
        let (head, body) = answer.response.into_parts();
        let source = Source::new(&head.headers, body);
        if !head.status.is_success() {
            return Err(Box::new(self.refused(head.status, &head.headers, source.ok()).await));
        }
        let source = source.map_err(|error| Box::new(Failed::lost(error)))?;
        read(Bytes::new(), source, LONGEST_ANSWER).await.map_err(|error| Box::new(Failed::lost(error)))
    }

    async fn call(&self, body: &Bytes, until: Option<Instant>) -> Result<Answer, (Box<Failed>, Option<Box<str>>)> {
        let Visit { gate, route, .. } = self.visit;
        let provider = &*self.deployment.provider;
        let mut request = outward::request(
            self.parts,
            self.heard,
            (&self.outgoing, body),
            self.deployment,
            route,
            self.own.is_some(),
        )
        .map_err(|refusal| (Box::new(Failed::ours(refusal)), None))?;
        if let Some((trace, span)) = &self.span {
            trace.put(*span, request.headers_mut());
        }
        prove::show(&gate.tokens, provider, self.deployment.credential(), self.own, &mut request, body)
            .await
            .map_err(|why| (Box::new(Failed::unproven(&provider.name)), Some(why.into())))?;
        let (timeouts, again) = (*route.timeouts, Some(self.further as &dyn upstream::Again));
        let (upstream, guest) = (&provider.upstream, self.visit.asker().guest(&provider.upstream, request.headers()));
        let call = Call {
            upstream,
            request,
            timeouts,
            upgrade: false,
            interim: false,
            eager: true,
            admitted: true,
            guest,
            again,
        };
        let outcome = match until {
            // Pinned where it is made: an `await` of the future itself would move it first, twice.
            None => {
                let sent = pin!(gate.upstreams.send(call));
                sent.await
            }
            Some(until) => match Box::pin(timeout_at(until, gate.upstreams.send(call))).await {
                Ok(outcome) => outcome,
                Err(_) => return Err((Box::new(Failed::late()), None)),
            },
        };
        outcome.map_err(|why| (Box::new(Failed::of(&why)), Some(why.to_string().into())))
    }

    /// The provider says no. `body`: why, where that can be read.
    async fn refused(&self, status: StatusCode, headers: &HeaderMap, body: Option<Source>) -> Failed {
        let body = match body {
            Some(body) => read(Bytes::new(), body, LONGEST_ERROR).await.unwrap_or_default(),
            None => Bytes::new(),
        };
        // Where a provider names a moment and not what time it is, ours will do.
        let now = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_nanos(tidegate_clock::wall().0));
        let find = |name: &str| {
            let told = headers.get(name).and_then(|value| value.to_str().ok());
            told.or((name == "date").then_some(&*now))
        };
        let mut error = self.outgoing.dialect.parse_error(status.as_u16(), &find, &body);
        // The gateway's own credentials are wrong: nothing that the caller could mend, nor his to read.
        let ours = self.own.is_none()
            && (matches!(error.kind, Kind::Unauthenticated | Kind::Billing)
                || prove::is_refused(&error)
                || (error.kind == Kind::Forbidden && names_accounts(self.deployment.provider.kind)));
        if ours {
            let name = &self.deployment.provider.name;
            let message = prove::off(headers, &error)
                .map(|off| format!("the provider `{name}` does not accept the gateway's signature: {off}"))
                .unwrap_or_else(|| format!("the provider `{name}` does not accept the gateway's key"));
            prove::refused(&self.visit.gate.tokens, name, self.deployment.credential(), &message);
            error = Error { status: 502, ..Error::new(Kind::Server, message) };
        }
        // Where it leads is nothing that a caller could follow.
        let leads_elsewhere = !status.is_client_error() && !status.is_server_error();
        if leads_elsewhere {
            let message = format!("the provider answers with {}, and no answer is there", status.as_u16());
            error = Error { status: 502, ..Error::new(Kind::Server, message) };
        }
        // Some repeat the key that they do not take: it stands in no log, and in nobody's answer.
        let clean = bodies::keys(&error.message).into_owned();
        let as_told = !ours && !leads_elsewhere && clean == error.message;
        let dialect = self.heard.door.dialect;
        let same = self.outgoing.dialect == dialect && as_told && dialect.is_error(&body);
        error.message = clean;
        let verbatim = same.then(|| Verbatim { status, headers: along(headers), body });
        let trouble = if ours { Some(Trouble::Auth) } else { Trouble::of(&error) };
        Failed { error, verbatim, trouble, answered: true, refusal: None }
    }

    /// A stream was asked for; what comes tells whether it is one, whatever its head says.
    async fn streamed(
        self: Box<Self>,
        headers: &HeaderMap,
        mut body: Source,
        until: Option<Instant>,
    ) -> Result<Won, Box<Failed>> {
        let mut begun = in_time(until, opening(&mut body)).await?;
        if self.outgoing.dialect != Dialect::Gemini && replay::is_object(&begun) {
            let whole = in_time(until, read(begun, body.take(), LONGEST_ANSWER)).await?;
            begun = self.as_stream(&whole).map_err(|error| Box::new(Failed::lost(error)))?;
        }
        self.stream(headers, (begun, body), until).await
    }

    /// Some answer whole whatever they are asked: so their provider would have streamed it.
    fn as_stream(&self, whole: &[u8]) -> Result<Bytes, Error> {
        let from = self.outgoing.dialect;
        let answer = from.parse_answer(whole)?;
        let reply = Spoken { model: None, include_usage: true, ..self.reply() };
        Ok(answer.replayed(from, reply).concat().into())
    }

    /// `begun`: what was read of the body.
    async fn stream(
        self: Box<Self>,
        headers: &HeaderMap,
        (begun, body): (Bytes, Source),
        until: Option<Instant>,
    ) -> Result<Won, Box<Failed>> {
        let (from, to) = (self.outgoing.dialect, self.heard.door.dialect);
        let reply = self.reply();
        let tag = self.tag();
        let encoder = Box::new(to.encoder(reply.clone()));
        let way = match from == to {
            true => {
                let strips = self.outgoing.strips_usage.then(|| Tap::new(from, false, reply.bounds));
                let strip = tag.map(|tag| Tap::tagging(tag, reply.bounds)).or(strips).map(Box::new);
                Way::Same { strip, encoder }
            }
            false => Way::Other(Box::new(Translation {
                encoder: *encoder,
                to,
                comments: to != Dialect::Bedrock && (to != Dialect::Gemini || self.heard.door.sse),
                names: self.outgoing.names.clone(),
                dropped: self.outgoing.dropped.clone(),
                unsaid: Unsaid::default(),
            })),
        };
        let mut response = Response::new(Reply::full(Bytes::new()));
        let content_type = HeaderValue::from_static(to.stream_content_type(self.heard.door.sse));
        let told = headers.get(CONTENT_TYPE).filter(|told| from == to && is_of_streams(to, told)).cloned();
        response.headers_mut().insert(CONTENT_TYPE, told.unwrap_or(content_type));
        response.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        name_losses(self.outgoing.dropped.as_deref(), &mut response);
        let mut told = Box::new(Told::new(body, from, way, &reply, (*self.account, self.going)));
        told.drains = self.visit.llm.drains;
        if self.records {
            // A provider's own name for the model is told as it is.
            let reply = Spoken { model: reply.model.filter(|_| from != to), ..reply };
            let log = self.visit.llm.bodies.clone();
            let mut recorder = Recorder::new(to, reply, log, self.outgoing.names.clone());
            recorder.tag = tag;
            told.recorder = Some(Box::new(recorder));
        }
        in_time(until, told.begins(begun)).await?;
        Ok(Won { response, rest: Rest::Stream(told), dropped: None })
    }

    /// Of ids in answers that the provider keeps, where they pass.
    fn tag(&self) -> Option<Tag> {
        let keeps = |dialect| dialect == Dialect::OpenAiResponses;
        let passes = keeps(self.outgoing.dialect) && keeps(self.heard.door.dialect);
        (passes && self.heard.door.task == Task::Chat).then(|| self.deployment.tag())
    }

    async fn whole(mut self: Box<Self>, headers: &HeaderMap, body: Bytes) -> Result<Won, Box<Failed>> {
        let (from, to) = (self.outgoing.dialect, self.heard.door.dialect);
        if let Some(beside) = self.outgoing.beside.take() {
            let mut account = self.account.fork(from, None);
            std::mem::swap(&mut account, &mut self.account);
            let response = self.beside(&beside, headers, &body, &mut account);
            let response = response.map_err(|error| Box::new(Failed::lost(error)))?;
            self.going.whole();
            return Ok(Won { response, rest: Rest::Whole(account), dropped: None });
        }
        let lost = |error| Box::new(Failed::lost(error));
        let (mut answer, mut filtered) = (None, false);
        match self.heard.door.task {
            Task::Chat => {
                // Some stream whatever they are asked.
                let gathered = if replay::is_object(&body) { None } else { from.gathered(&body, Bounds::default()) };
                let glance = match gathered {
                    Some(gathered) => Glance::of(answer.insert(gathered.map_err(lost)?)),
                    None if from == to => from.glance(&body).map_err(lost)?,
                    None => Glance::of(answer.insert(from.parse_answer(&body).map_err(lost)?)),
                };
                filtered = self.filtered_fails && glance.gist == Gist::Filtered && !glance.speaks;
                let unsaid = glance.usage.is_none() && answer.is_none();
                let read = unsaid.then(|| from.parse_answer(&body).ok()).flatten();
                self.account.answer(glance, read.as_ref().or(answer.as_ref()));
            }
            Task::Embed => self.account.counted(&body),
            Task::Count | Task::List | Task::Show(_) => self.account.free(),
        }
        if filtered {
            let error = Error::new(Kind::ContentFiltered, "the provider's filter left nothing of the answer");
            let verbatim = answer.is_none().then(|| Verbatim { status: StatusCode::OK, headers: along(headers), body });
            return Err(Box::new(Failed { verbatim, answered: false, ..Failed::lost(error) }));
        }
        let mut dropped = self.outgoing.dropped.clone();
        let mut response = match &mut answer {
            Some(answer) => {
                if answer.usage.is_none() {
                    Box::pin(counting::now(&mut self.account)).await;
                    answer.usage = self.account.untold();
                }
                if let Some(names) = &self.outgoing.names {
                    names.restore_answer(answer);
                }
                let unsaid = Unsaid::of_answer(answer, to);
                if !unsaid.is_empty() {
                    let both: Vec<String> = dropped.into_iter().chain([unsaid.header()]).collect();
                    dropped = Some(both.join(", "));
                }
                // A provider's own name for the model is told as it is where its dialect is.
                let reply = self.reply();
                let reply = Spoken { model: reply.model.filter(|_| from != to), ..reply };
                let told = to.render_answer(answer, &reply);
                let told = self.tag().and_then(|tag| kept::tagged(&told, tag)).unwrap_or(told);
                let mut response = Response::new(Reply::full(told));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            None => {
                let tagged = self.tag().and_then(|tag| kept::tagged(&body, tag)).map(Bytes::from);
                let mut response = Response::new(Reply::full(tagged.unwrap_or(body)));
                *response.headers_mut() = along(headers);
                response
            }
        };
        name_losses(dropped.as_deref(), &mut response);
        self.going.whole();
        Ok(Won { response, rest: Rest::Whole(self.account), dropped: dropped.map(Into::into) })
    }

    /// An answer that is no chat, in the caller's dialect.
    fn beside(
        &self,
        beside: &Beside,
        headers: &HeaderMap,
        body: &[u8],
        account: &mut Account,
    ) -> Result<Response<Reply>, Error> {
        let told = match beside {
            Beside::Embed(from, embed) => {
                let estimate = (embed.bytes() as u64).div_ceil(4);
                // Bedrock tells it there for models that do not.
                let counted = headers.get(INPUT_TOKENS).and_then(|count| count.to_str().ok()?.parse().ok());
                let model = &self.heard.peek.model;
                let (told, tokens) = embed.answer(*from, body, model, counted.unwrap_or(estimate))?;
                if tokens.or(counted).is_some() {
                    account.counted(&told);
                }
                told
            }
            Beside::Count(_) | Beside::Estimate(_) => {
                account.free();
                count::answer(count::parse(self.outgoing.dialect, body)?, self.heard.door.dialect)
            }
        };
        let mut response = Response::new(Reply::full(told));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    fn reply(&self) -> Spoken {
        Spoken {
            model: Some(self.heard.peek.model.clone()),
            id: self.visit.origin.request_id.as_str().replace('-', ""),
            now: tidegate_clock::wall().0 / 1_000_000_000,
            include_usage: self.heard.peek.include_usage,
            sse: self.heard.door.sse,
            bounds: Bounds::default(),
            echo: (self.records || self.outgoing.dialect != self.heard.door.dialect)
                .then(|| self.heard.echo())
                .flatten(),
        }
    }
}

/// What an answer is called that is a stream in this dialect; all else that providers call it helps nobody.
fn is_of_streams(dialect: Dialect, told: &HeaderValue) -> bool {
    let kinds = [dialect.stream_content_type(false), dialect.stream_content_type(true)];
    let told = told.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kinds.iter().any(|kind| told.eq_ignore_ascii_case(kind.as_bytes()))
}

/// Amazon's and Google's 403 is of the account, which it names; elsewhere it may be of what was said.
pub(super) fn names_accounts(kind: ProviderKind) -> bool {
    matches!(kind, ProviderKind::Bedrock | ProviderKind::Gemini | ProviderKind::Vertex | ProviderKind::VertexAnthropic)
}

fn name_losses(dropped: Option<&str>, response: &mut Response<Reply>) {
    if let Some(dropped) = dropped.and_then(|names| HeaderValue::from_str(names).ok()) {
        response.headers_mut().insert(DROPPED, dropped);
    }
}

/// What a caller learns of a provider's head: the rest is between us and them.
fn along(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(4);
    const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
    // Bedrock's SDKs tell errors apart by the last one alone.
    const TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
    let wanted = [CONTENT_TYPE, RETRY_AFTER, RETRY_AFTER_MS, TYPE];
    for (name, value) in headers {
        // The first of each: fewer are compared than would be hashed.
        if wanted.contains(name) && !kept.contains_key(name) {
            kept.insert(name, value.clone());
        }
    }
    kept
}
