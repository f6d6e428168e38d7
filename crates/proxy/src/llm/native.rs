//! A provider's own paths, passed as they are: files, batches, pictures, speech, whatever it has. Only what proves who calls
//! is exchanged for what proves who we are. Gathered are calls that are known (they are counted and priced like others), what
//! AWS wants signed, and what is logged.

mod passing;
mod refused;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{Either, Full};
use percent_encoding::percent_decode_str;
use tidegate_llm::kept;
use tidegate_policy::{Bodies, Credential, Deployment, Llm, Model, Provider};
use tidegate_telemetry as telemetry;
use tidegate_upstream::{self as upstream, Call};

use self::passing::Ear;
use super::account::Account;
use super::along;
use super::door::{self, Door, Task};
use super::heard::{Heard, Most};
use super::own::OwnKeys;
use super::told::No;
use super::{Visit, bodies, prove};
use crate::inbound::{Broken as BrokenBody, Inbound};
use crate::limits::Spoken;
use crate::ratelimit::Shown;
use crate::received::Received;
use crate::refusal::Refusal;
use crate::relay::Observer;
use crate::reply::Reply;
use crate::{forward, headers, rewrite};

/// Tokens of an answer that nobody bounded, as far as limits are concerned.
const USUAL_OUTPUT: u64 = 4_096;
/// Longer bodies of calls that nobody knows are not logged.
const LONGEST_LOGGED: u64 = 1 << 20;

pub(crate) use self::passing::Native;

/// Whose path it is, and which: `/openai/v1/files` of a route with `native: [openai]`.
pub(super) fn of<'a>(llm: &'a Llm, uri: &'a Uri) -> Option<(&'a Arc<Model>, &'a str)> {
    if llm.native.is_empty() {
        return None;
    }
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

/// A call on its way in.
struct Coming<'d> {
    inbound: Inbound,
    /// All of it, where it was gathered.
    whole: Option<Bytes>,
    /// A chat, or texts that are embedded.
    door: Option<Door<'d>>,
    /// What it asks for, where it could be read.
    heard: Option<Box<Heard<'d>>>,
}

impl<'a> Visit<'a, '_> {
    pub(super) async fn native(
        &self,
        (model, path): (&Arc<Model>, &str),
        door: Option<Door<'_>>,
        parts: &Parts,
        body: &mut Option<Received>,
        observer: &mut Observer,
        shown: &mut Shown,
    ) -> Result<Response<Reply>, No> {
        let deployment = model.deployments.first().ok_or(Refusal::Fault)?;
        let provider = &deployment.provider;
        let speaks = |door: &Door<'_>| matches!(door.task, Task::Chat | Task::Embed) && parts.method == Method::POST;
        let door = door.filter(speaks).map(|door| named(door, path));
        let operation = door.as_ref().map_or("native", |door| operation(door));
        observer.record.spoken = Some(Box::new(telemetry::Spoken {
            model: Arc::clone(&provider.name),
            provider: Some(Arc::clone(&provider.name)),
            operation,
            dialects: (door.as_ref().map_or("native", |door| door.dialect.name()), ""),
            ..telemetry::Spoken::default()
        }));
        observer.record.towards = self.llm.place(provider);
        // Which model is asked for stands somewhere in there: who may use only some may not come this way.
        if self.is_restricted() {
            return Err(Refusal::ModelNotAllowed.into());
        }
        let own = OwnKeys::alone(parts, self.route, provider)?;
        if door.is_some() {
            self.may_begin(parts, observer, shown).await?;
        }
        let coming = self.coming(door, parts, body, observer).await?;
        let charge = self.charged(&coming, model, parts, observer, shown).await?;
        observer.charge = charge;
        let path = &*kept::plain_path(path, deployment.tag());
        let account = coming.account(deployment, parts, self.route.max_body);
        self.pass((model, deployment, path), (own, coming, account), parts, observer).await
    }

    /// What is known of the call before it goes out.
    async fn coming<'d>(
        &self,
        door: Option<Door<'d>>,
        parts: &Parts,
        body: &mut Option<Received>,
        observer: &mut Observer,
    ) -> Result<Coming<'d>, No> {
        let body = body.take().ok_or(Refusal::Fault)?;
        let mut inbound = Inbound::new(body, self.route, Arc::clone(self.client));
        observer.tally = inbound.tally();
        let plain = parts.headers.get(CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
        let rules = self.llm.bodies.as_ref().filter(|rules| rules.calls && observer.record.is_logged());
        let most = match (&door, rules) {
            (Some(_), _) if plain => Some(self.route.max_body),
            (None, Some(_)) if plain && is_json(&parts.headers) => Some(LONGEST_LOGGED.min(self.route.max_body)),
            _ => None,
        };
        let whole = match most {
            Some(most) => inbound.read_ahead(most).await.map_err(BrokenBody::refusal)?,
            None => None,
        };
        // What cannot be read here goes on as it is: its provider says what is wrong.
        let heard = door.clone().zip(whole.clone()).and_then(|(door, whole)| Heard::new(door, whole).ok());
        if let (Some(spoken), Some(heard)) = (&mut observer.record.spoken, &heard) {
            (spoken.deployed, spoken.stream) = (Some(heard.peek.model.as_str().into()), heard.peek.stream);
        }
        if let (Some(rules), Some(whole), Some(spoken)) = (rules, &whole, &mut observer.record.spoken) {
            spoken.bodies.call = Some(bodies::loggable(rules, whole));
        }
        Ok(Coming { inbound, whole, door, heard })
    }

    /// All limits, by what was read of the call or else by its length.
    async fn charged(
        &self,
        coming: &Coming<'_>,
        model: &Model,
        parts: &Parts,
        observer: &mut Observer,
        shown: &mut Shown,
    ) -> Result<Option<Box<crate::charge::Charge>>, No> {
        let Some(heard) = &coming.heard else {
            let tokens = match &coming.door {
                Some(_) => length(parts, self.route.max_body).saturating_add(USUAL_OUTPUT),
                None => 0,
            };
            let most = || Most { tokens, money: None };
            let spoken = Spoken { model: &model.name, most: &most };
            return Ok(self.admit(parts, Some(spoken), false, observer, shown).await?.0);
        };
        let most = || heard.most(model);
        let spoken = Spoken { model: &model.name, most: &most };
        match self.admit(parts, Some(spoken), false, observer, shown).await {
            Err(no) if self.could_fit(&no, heard, model, observer) && Box::pin(heard.counted_for(model)).await => {
                Ok(self.admit(parts, Some(spoken), false, observer, shown).await?.0)
            }
            other => Ok(other?.0),
        }
    }

    async fn pass(
        &self,
        (model, deployment, path): (&Arc<Model>, &Deployment, &str),
        (own, coming, mut account): (Option<String>, Coming<'_>, Account),
        parts: &Parts,
        observer: &mut Observer,
    ) -> Result<Response<Reply>, No> {
        let Coming { inbound, whole, door, heard } = coming;
        let named = heard.and_then(|heard| heard.named).filter(|named| named.tag == deployment.tag());
        let whole = named.map(|named| named.body.into()).or(whole);
        let provider = &deployment.provider;
        let mut request = self.outgoing(provider, path, own.as_deref(), parts, (inbound, whole), observer).await?;
        observer.record.asks(request.headers_mut(), forward::draw);
        account.sent(observer);
        let guest = self.asker().guest(&provider.upstream, request.headers());
        let call = Call::alone(&provider.upstream, request, *self.route.timeouts);
        let call = Call { eager: false, admitted: true, guest, ..call };
        let answer = match self.gate.upstreams.call(call).await {
            Ok(answer) => {
                if let Some(sent) = &observer.tally {
                    sent.is_answered();
                }
                answer
            }
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
        let (mut head, mut source) = forward::without_hops(answer.response).into_parts();
        if door.is_some() && !head.status.is_success() {
            account.free(); // An error bills nothing.
        }
        let log: Option<Arc<Bodies>> = self.llm.bodies.clone().filter(|rules| rules.answers && record.is_logged());
        let call = door.filter(|_| head.status.is_success()).map(|door| (door.dialect, door.task == Task::Embed));
        let ear = Ear::new(call, &head.headers, log, account.listens());
        let no = match head.status.is_client_error() || head.status.is_server_error() {
            true if own.is_none() => {
                let to = (&**provider, door::dialect(parts));
                Some(refused::told(to, &self.gate.tokens, &mut head, source.take()).await)
            }
            _ => None,
        };
        let native = Native::new(source, ear, account, Arc::clone(model)).instead(no);
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
        (mut inbound, whole): (Inbound, Option<Bytes>),
        observer: &mut Observer,
    ) -> Result<Request<Either<Inbound, Full<Bytes>>>, No> {
        let query = parts.uri.query().map(|query| match self.route.auth.is_empty() && own.is_none() {
            true => query.to_owned(),
            false => tidegate_auth::strip_query(query).unwrap_or_else(|| query.to_owned()),
        });
        let query = query.filter(|query| !query.is_empty()).map(|query| format!("?{query}")).unwrap_or_default();
        let uri: Uri = format!("{path}{query}").parse().map_err(|_| Refusal::InvalidPath)?;
        let signs = own.is_none() && matches!(provider.credential, Some(Credential::Aws(_)));
        let whole = match whole {
            None if signs => {
                let read = inbound.read_ahead(self.route.max_body).await.map_err(BrokenBody::refusal)?;
                Some(read.ok_or(Refusal::BodyBroken)?)
            }
            whole => whole,
        };
        let mut kept = self.kept(parts);
        if own.is_none() {
            along::strip(&mut kept, provider);
        }
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
        headers::strip_claims(&mut kept);
        kept
    }
}

impl Coming<'_> {
    /// Priced as its model is, where that stands in the catalogue.
    fn account(&self, deployment: &Deployment, parts: &Parts, longest: u64) -> Account {
        let Some(door) = &self.door else {
            let mut account = Account::new(0, false);
            account.free();
            return account;
        };
        let Some(heard) = &self.heard else {
            let mut account = Account::new(usize::try_from(length(parts, longest)).unwrap_or(usize::MAX), false);
            account.at(door.dialect, None);
            return account;
        };
        let asked = &heard.peek.model;
        let mut account = Account::new(heard.peek.prompt_bytes, heard.peek.has_tools);
        account.at(door.dialect, deployment.tariff(asked));
        account.at_most(heard.longest(None, deployment));
        account.counting(deployment.encoding(asked), || heard.prompt());
        account
    }
}

/// Azure's older paths name the model.
fn named<'d>(door: Door<'d>, path: &str) -> Door<'d> {
    let name = path.split_once("/deployments/").and_then(|(_, rest)| rest.split('/').next());
    let name = name.filter(|_| door.model.is_none()).and_then(|name| percent_decode_str(name).decode_utf8().ok());
    Door { model: name.map(|name| name.into_owned().into()).or(door.model), ..door }
}

fn operation(door: &Door<'_>) -> &'static str {
    if door.task == Task::Embed { "embeddings" } else { door.dialect.operation() }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/json")
}

/// As the call announces it; else the most that it may be.
fn length(parts: &Parts, most: u64) -> u64 {
    parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(most)
}
