//! A provider's own paths, passed as they are: files, batches, pictures, speech, whatever it has. Only what proves who calls
//! is exchanged for what proves who we are. Nothing is gathered, but for what AWS wants signed.

mod passing;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{Either, Full};
use hyper::body::Incoming as Received;
use tidegate_llm::Dialect;
use tidegate_policy::{Credential, Llm, Provider};
use tidegate_telemetry as telemetry;
use tidegate_upstream::{self as upstream, Call};

use self::passing::Ear;
use super::account::Account;
use super::door::{Door, Task};
use super::heard::Most;
use super::own::OwnKeys;
use super::told::No;
use super::{Visit, prove};
use crate::inbound::{Broken as BrokenBody, Inbound};
use crate::limits::Spoken;
use crate::ratelimit::Shown;
use crate::refusal::Refusal;
use crate::relay::Observer;
use crate::reply::Reply;
use crate::{forward, headers, rewrite};

/// Tokens of an answer that nobody bounded, as far as limits are concerned.
const USUAL_OUTPUT: u64 = 4_096;

pub(crate) use self::passing::Native;

/// Whose path it is, and which: `/openai/v1/files` of a route with `native: [openai]`.
pub(super) fn of<'a>(llm: &'a Llm, uri: &'a Uri) -> Option<(&'a Arc<Provider>, &'a str)> {
    let path = uri.path();
    let mut rest = path;
    while let Some(at) = rest.find('/') {
        rest = &rest[at + 1..];
        let (name, after) = rest.split_at(rest.find('/')?);
        if let Some(provider) = llm.native.iter().find(|provider| *provider.name == *name) {
            return (after.len() > 1).then_some((provider, after));
        }
    }
    None
}

impl<'a> Visit<'a, '_> {
    pub(super) async fn native(
        &self,
        (provider, path): (&Arc<Provider>, &str),
        door: Option<Door<'_>>,
        parts: &Parts,
        body: &mut Option<Received>,
        observer: &mut Observer,
        shown: &mut Shown,
    ) -> Result<Response<Reply>, No> {
        let task = door.as_ref().map(|door| door.task.clone());
        let dialect = door.as_ref().map(|door| door.dialect).filter(|_| matches!(task, Some(Task::Chat | Task::Embed)));
        observer.record.spoken = Some(Box::new(telemetry::Spoken {
            model: Arc::clone(&provider.name),
            provider: Some(Arc::clone(&provider.name)),
            operation: dialect.map_or("native", |dialect| dialect.operation()),
            dialects: (dialect.map_or("native", |dialect| dialect.name()), ""),
            ..telemetry::Spoken::default()
        }));
        observer.record.towards = self.llm.place(provider);
        // Which model is asked for stands somewhere in there: who may use only some may not come this way.
        if self.is_restricted() {
            return Err(Refusal::ModelNotAllowed.into());
        }
        let own = OwnKeys::alone(parts, self.route, provider)?;
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let speaks = dialect.is_some() && parts.method == Method::POST;
        let prompt = if speaks { length.unwrap_or(self.route.max_body) } else { 0 };
        let output = if speaks { USUAL_OUTPUT } else { 0 };
        let most = || Most { tokens: prompt.saturating_add(output), money: None };
        let (charge, _) =
            self.admit(parts, Some(Spoken { model: &provider.name, most: &most }), false, observer, shown).await?;
        observer.charge = charge;

        let mut account = Account::new(usize::try_from(prompt).unwrap_or(usize::MAX), false);
        // Which model it is stands unread in the body: what is used is told as unpriced.
        account.at(dialect.unwrap_or(Dialect::OpenAiChat), None);
        if !speaks {
            account.free();
        }
        let mut request = self.outgoing(provider, path, own.as_deref(), parts, body, observer).await?;
        observer.record.asks(request.headers_mut(), forward::draw);
        account.sent(observer);
        let timeouts = self.route.timeouts;
        let call =
            Call { upstream: &provider.upstream, request, timeouts, upgrade: false, admitted: true, again: None };
        let answer = match self.gate.upstreams.call(call).await {
            Ok(answer) => answer,
            Err(why) => {
                observer.record.detail = Some(why.to_string().into());
                account.failed(
                    !matches!(why, upstream::CallFailed::Timeout(_) | upstream::CallFailed::Reset(_)),
                    observer,
                );
                return Err(forward::failed(&why).into());
            }
        };
        let record = &mut observer.record;
        record.endpoint = Some(answer.endpoint.clone());
        record.attempts += answer.attempts;
        (record.connect, record.first_byte) = (answer.connect, Some(answer.first_byte));
        let (head, source) = forward::without_hops(answer.response).into_parts();
        let listens = speaks && head.status.is_success();
        if speaks && !listens {
            account.free(); // An error bills nothing.
        }
        let ear = Ear::new(dialect.filter(|_| listens), task, &head.headers);
        let native = Native::new(source, ear, account);
        Ok(Response::from_parts(head, Reply::Native(Box::new(native))))
    }

    /// Has the caller a list of models?
    fn is_restricted(&self) -> bool {
        let plan = self.caller.map_or(self.route.limits.anonymous_plan, super::Caller::plan);
        let plan = plan.and_then(|at| self.snapshot.plans.get(at)).is_some_and(|plan| plan.models.is_some());
        let consumer = self.caller.and_then(|caller| caller.consumer);
        plan || consumer.is_some_and(|consumer| consumer.models.is_some())
    }

    async fn outgoing(
        &self,
        provider: &Provider,
        path: &str,
        own: Option<&str>,
        parts: &Parts,
        body: &mut Option<Received>,
        observer: &mut Observer,
    ) -> Result<Request<Either<Inbound, Full<Bytes>>>, No> {
        let query = parts.uri.query().map(|query| match self.route.auth.is_empty() && own.is_none() {
            true => query.to_owned(),
            false => tidegate_auth::strip_query(query).unwrap_or_else(|| query.to_owned()),
        });
        let query = query.filter(|query| !query.is_empty()).map(|query| format!("?{query}")).unwrap_or_default();
        let uri: Uri = format!("{path}{query}").parse().map_err(|_| Refusal::InvalidPath)?;
        let mut inbound = Inbound::new(
            body.take().ok_or(Refusal::Fault)?,
            self.route.max_body,
            self.gate.bounds.body_timeout,
            Arc::clone(self.client),
        );
        observer.tally = inbound.tally();
        let signs = own.is_none() && matches!(provider.credential, Some(Credential::Aws(_)));
        let whole = match signs {
            true => {
                let read = inbound.read_ahead(self.route.max_body).await.map_err(BrokenBody::refusal)?;
                Some(read.ok_or(Refusal::BodyBroken)?)
            }
            false => None,
        };
        let mut kept = self.kept(parts);
        kept.insert(HOST, provider.host.clone());
        if whole.is_some() {
            kept.remove(CONTENT_LENGTH);
        }
        rewrite::edit(&mut kept, &self.route.request_headers);
        let sent = whole.clone().unwrap_or_default();
        let body = whole.map_or(Either::Left(inbound), |whole| Either::Right(Full::new(whole)));
        let mut request = Request::new(body);
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (parts.method.clone(), uri, kept);
        if let Err(why) =
            prove::show(&self.gate.tokens, provider, provider.credential.as_ref(), own, &mut request, &sent).await
        {
            observer.record.detail = Some(why.into());
            return Err(Refusal::UpstreamConnect.into());
        }
        Ok(request)
    }

    /// All that the caller says, but who calls.
    fn kept(&self, parts: &Parts) -> HeaderMap {
        let mut kept = parts.headers.clone();
        headers::strip_hop_by_hop(&mut kept, headers::survey(&parts.headers));
        headers::strip_internal(&mut kept);
        tidegate_auth::strip_headers(&mut kept);
        if let Some(caller) = self.caller {
            caller.shed(&mut kept);
        }
        for name in [http::header::AUTHORIZATION, COOKIE, EXPECT] {
            kept.remove(name);
        }
        headers::strip_where(&mut kept, |name| {
            name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip")
        });
        kept
    }
}
