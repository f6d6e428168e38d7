//! Calls of language models: start reading at [`serve`].
//!
//! Which call it is and whose words it speaks ([`door`]), what it asks for ([`heard`]) and needs ([`needs`]), whom to ask and
//! in what order ([`choose`]), one after the other ([`asking`]), each try ([`attempt`], [`outward`]), the stream on its way
//! back ([`stream`]), what it cost ([`account`]), and every "no" in the caller's own words ([`told`]). What is known of
//! deployments is in [`fleet`]. What formats mean is `tidegate-llm`'s to say.

mod account;
mod along;
mod answers;
mod asking;
mod attempt;
mod bodies;
mod choose;
mod coded;
mod counting;
mod door;
mod fleet;
mod heard;
mod left;
mod listing;
mod native;
mod needs;
mod outward;
mod own;
mod prove;
mod recorder;
mod stream;
mod tokens;
mod told;
mod trouble;
mod waiting;

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use tidegate_policy::path::normalize;
use tidegate_policy::{Llm, Model, Route, Snapshot};
use tidegate_telemetry as telemetry;

use self::account::Account;
use self::answers::{Found, Keep};
use self::asking::{Asking, Call};
use self::choose::Chooser;
use self::door::{Door, Task};
use self::heard::Heard;
use self::needs::Needs;
use self::own::OwnKeys;
use self::told::No;
use crate::charge::Charge;
use crate::connection::Client;
use crate::gate::Gate;
use crate::guest::Asker;
use crate::head::Host;
use crate::identify::Caller;
use crate::in_place::boxed;
use crate::inbound::{Broken, Inbound};
use crate::limits::Asked;
use crate::limits::{self, Further, Scope, Spoken};
use crate::origin::Origin;
use crate::ratelimit::Shown;
use crate::received::Received;
use crate::refusal::Refusal;
use crate::relay::Observer;
use crate::reply::Reply;
use crate::stays::Stays;
use crate::unpack;

pub use self::fleet::{DeploymentFacts, Fleet, Rest, Why};
pub(crate) use self::heard::Most;
pub(crate) use self::native::Native;
pub(crate) use self::stream::Told;
pub use self::tokens::Tokens;
pub(crate) use self::told::in_dialect;

/// Of a count of tokens that no provider made.
const ESTIMATED: HeaderName = HeaderName::from_static("x-tidegate-estimated");
/// Of one that this node counted: in which encoding.
const COUNTED: HeaderName = HeaderName::from_static("x-tidegate-counted");
/// A provider whose breaker is open: others are asked; when there are none, soon again.
const OPEN: Refusal = Refusal::BreakerOpen { retry_after: std::time::Duration::from_secs(1) };

/// Dollars.
const COST: HeaderName = HeaderName::from_static("x-tidegate-cost");

/// A request of a route of models, whose caller is known.
pub(crate) struct Visit<'a, 'b> {
    pub(crate) gate: &'a Gate,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) client: &'a Arc<Client>,
    pub(crate) origin: &'a Origin,
    pub(crate) host: &'b Host,
    pub(crate) route: &'a Route,
    pub(crate) llm: &'a Llm,
    pub(crate) caller: Option<&'b Caller<'a>>,
    pub(crate) stays: &'a Stays,
}

impl Visit<'_, '_> {
    pub(crate) fn asker(&self) -> Asker<'_> {
        Asker { snapshot: self.snapshot, route: self.route, caller: self.caller, origin: self.origin }
    }
}

/// Each line may say no. Boxed by who calls: other routes never come here.
pub(crate) async fn serve(
    visit: Visit<'_, '_>,
    parts: &Parts,
    body: &mut Option<Received>,
    observer: &mut Observer,
    shown: &mut Shown,
) -> Result<Response<Reply>, Refusal> {
    // Pinned where it is made: an `await` of the future itself would move it first, twice. So with all that is long here.
    let answer = pin!(visit.answer(parts, body, observer, shown)).await;
    match answer {
        Ok(response) => Ok(response),
        Err(No { refusal, error: None }) => Err(refusal),
        Err(No { refusal, error: Some(error) }) => {
            observer.record.refusal = Some(refusal.code());
            observer.record.detail = Some(error.message.as_str().into());
            let plain = refusal.render(visit.origin.request_id.as_str());
            Ok(told::dressed(plain, &refusal, &error, parts))
        }
    }
}

/// With the path as it was matched, so that no spelling of it is another call, or outside of what a provider has. `None`: it
/// is that already.
fn normalised(parts: &Parts) -> Option<Box<Parts>> {
    let Cow::Owned(path) = normalize(parts.uri.path()) else { return None };
    let target = parts.uri.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    let uri = target.parse().ok()?;
    let mut parts = Box::new(parts.clone());
    parts.uri = uri;
    Some(parts)
}

/// The call of a provider's own path, if we know it. Refused: a provider that takes an escaped slash for a slash would see a call
/// that we did not.
fn door_or_none(parts: &Parts) -> Result<Option<Door<'_>>, Refusal> {
    let (door, path) = (door::door(parts), parts.uri.path());
    let hides_a_call = door.is_none()
        && path.contains("%2F")
        && path.replace("%2F", "/").parse().is_ok_and(|uri| {
            let mut parts = parts.clone();
            parts.uri = uri;
            door::door(&parts).is_some()
        });
    if hides_a_call { Err(Refusal::InvalidPath) } else { Ok(door) }
}

impl<'a> Visit<'a, '_> {
    async fn answer(
        &self,
        parts: &Parts,
        body: &mut Option<Received>,
        observer: &mut Observer,
        shown: &mut Shown,
    ) -> Result<Response<Reply>, No> {
        let normal = normalised(parts);
        let parts = normal.as_deref().unwrap_or(parts);
        if let Some(native) = native::of(self.llm, &parts.uri) {
            return Box::pin(self.native(native, door_or_none(parts)?, parts, body, observer, shown)).await;
        }
        let door = door::door(parts).ok_or(Refusal::CallUnknown)?;
        if let Task::List | Task::Show(_) = &door.task {
            allow(parts, &Method::GET)?;
            let (charge, _) = Box::pin(self.admit(parts, None, false, observer, shown)).await?;
            observer.charge = charge;
            return self.listed(&door);
        }
        allow(parts, &Method::POST)?;
        pin!(self.may_begin(parts, observer, shown)).await?;
        let bytes = pin!(self.read(parts, body, observer)).await?;
        let mut heard = Heard::new(door, bytes)?;
        let model = self.llm.model(&heard.peek.model).ok_or_else(|| unknown(&heard.peek.model))?;
        heard.cap = model.max_output;
        observer.record.spoken = Some(boxed(|| begun(model, &heard)));
        self.log_call(&heard, observer);
        if !self.may(&model.name) {
            return Err(Refusal::ModelNotAllowed.into());
        }
        let own = OwnKeys::of(parts, self.route, model)?;
        let most = || heard.most(model);
        let spoken = Spoken { model: &model.name, most: &most };
        let look = self.look(parts, &heard, model, &own);
        let is_hit = look.as_ref().is_some_and(answers::Look::is_hit);
        let admitted = pin!(self.admit(parts, Some(spoken), is_hit, observer, shown)).await;
        let (charge, asks) = match admitted {
            // The bound would not fit: perhaps what it truly is does.
            Err(no) if self.could_fit(&no, &heard, model, observer) && Box::pin(heard.counted_for(model)).await => {
                Box::pin(self.admit(parts, Some(spoken), is_hit, observer, shown)).await?
            }
            other => other?,
        };
        observer.charge = charge;
        let (keep, report) = match look {
            None => (None, None),
            Some(look) => match Box::pin(self.find(look, &heard, model, observer)).await? {
                Found::Answer(response) => {
                    self.log_answer(&response, observer);
                    return Ok(*response);
                }
                Found::Nothing(keep, report) => (keep, report),
            },
        };
        let mut response = pin!(self.ask(parts, &heard, &own, model, asks, observer, keep)).await?;
        if let Some(report) = report {
            report.put(response.headers_mut());
        }
        Ok(response)
    }

    fn listed(&self, door: &Door<'_>) -> Result<Response<Reply>, No> {
        match &door.task {
            Task::Show(name) if self.llm.model(name).is_none_or(|model| !self.may(&model.name)) => Err(unknown(name)),
            Task::Show(name) => Ok(listing::show(name, door.dialect)),
            _ => {
                // A pattern is nothing that anybody could ask for.
                let names = self.llm.models.iter().filter(|model| model.stem().is_none()).map(|model| &*model.name);
                let names = names.filter(|name| self.may(name));
                Ok(listing::list(names, door.dialect))
            }
        }
    }

    /// May the caller use this model, as its consumer and its plan say?
    fn may(&self, model: &str) -> bool {
        let lists = |list: Option<&Vec<Arc<str>>>| list.is_none_or(|list| list.iter().any(|name| &**name == model));
        let plan = self.caller.map_or(self.route.limits.anonymous_plan, Caller::plan);
        let plan = plan.and_then(|at| self.snapshot.plans.get(at)).and_then(|plan| plan.models.as_ref());
        let consumer = self.caller.and_then(|caller| caller.consumer).and_then(|consumer| consumer.models.as_ref());
        lists(plan) && lists(consumer)
    }

    /// Limits that need nothing of the body are asked before it is read: who has used one up is told at once. What they give
    /// goes back, and is taken with all others.
    async fn may_begin(&self, parts: &Parts, observer: &mut Observer, shown: &mut Shown) -> Result<(), No> {
        let (gate, snapshot, scope) = (self.gate, self.snapshot, self.scope(parts, None));
        let mut asked = limits::of(snapshot, self.route, self.caller);
        asked.retain(|held| snapshot.limits.get(held.limit).is_some_and(|limit| limits::needs_no_body(limit)));
        if gate.blocks.any() {
            limits::unblocked(&gate.blocks, &gate.limiter, snapshot, &asked, &scope)?;
        }
        if asked.is_empty() || !limits::is_scarce(&gate.limiter, snapshot, &asked, &scope) {
            return Ok(());
        }
        let counters = (&*gate.limiter, &*gate.seen);
        let (verdict, decided, _) = Box::pin(limits::admit(counters, snapshot, &asked, &scope)).await;
        if let Err(refusal) = verdict {
            observer.record.limits = decided.standings;
            *shown = decided.shown.with(left::headers(snapshot, &observer.record.limits));
            return Err(refusal.into());
        }
        Ok(())
    }

    /// The whole body: where a call goes stands in it.
    async fn read(&self, parts: &Parts, body: &mut Option<Received>, observer: &mut Observer) -> Result<Bytes, No> {
        let coding = unpack::coding(&parts.headers).map_err(|()| Refusal::CodingUnknown)?;
        let body = body.take().ok_or(Refusal::Fault)?;
        let mut inbound = Inbound::new(body, self.route, Arc::clone(self.client));
        observer.tally = inbound.tally();
        if let Some(coding) = coding {
            inbound.unpack(coding);
        }
        let read = pin!(inbound.whole()).await.map_err(Broken::refusal)?;
        Ok(read.ok_or(Refusal::BodyBroken)?) // Trailers are nothing that a call has.
    }

    /// All limits at once: those of requests and those of tokens.
    async fn admit(
        &self,
        parts: &Parts,
        spoken: Option<Spoken<'_>>,
        is_hit: bool,
        observer: &mut Observer,
        shown: &mut Shown,
    ) -> Result<(Option<Box<Charge>>, Asked<'a>), No> {
        let (gate, snapshot) = (self.gate, self.snapshot);
        let scope = self.scope(parts, spoken);
        let mut asked = limits::of(snapshot, self.route, self.caller);
        if gate.blocks.any() {
            limits::unblocked(&gate.blocks, &gate.limiter, snapshot, &asked, &scope)?;
        }
        if is_hit {
            asked.retain(|held| snapshot.limits.get(held.limit).is_none_or(|limit| limit.count_hits));
        }
        if asked.is_empty() {
            return Ok((None, Asked::new()));
        }
        let counters = (&*gate.limiter, &*gate.seen);
        let (verdict, decided, asks) = pin!(limits::admit(counters, snapshot, &asked, &scope)).await;
        observer.record.limits = decided.standings;
        *shown = decided.shown.with(left::headers(snapshot, &observer.record.limits));
        let permit = verdict?;
        let mut charge = Charge::of(permit.commit(self.origin.request_id.as_str().as_bytes()), &asks);
        if let Some(charge) = &mut charge {
            // Until somebody is asked.
            charge.tokens(0);
            charge.money(0);
        }
        Ok((charge, asks))
    }

    /// A limit of tokens or money refused what a call may come to at the most; is there room for what it may truly be?
    fn could_fit(&self, no: &No, heard: &Heard<'_>, model: &Model, observer: &Observer) -> bool {
        limits::could_fit(&no.refusal, self.snapshot, &observer.record.limits, &|| heard.least(model))
    }

    /// Of an answer that is whole; a stream's cost is known when it has ended.
    fn tell_cost(&self, response: &mut Response<Reply>, observer: &Observer) {
        let spoken = observer.record.spoken.as_ref().filter(|_| self.llm.tells_cost);
        if let Some(telemetry::Cost::Nanos(nanos)) = spoken.filter(|spoken| !spoken.stream).map(|spoken| spoken.cost) {
            response.headers_mut().insert(COST, left::dollars(nanos));
        }
    }

    fn log_call(&self, heard: &Heard<'_>, observer: &mut Observer) {
        let rules = self.llm.bodies.as_ref().filter(|rules| rules.calls && observer.record.is_logged());
        if let (Some(rules), Some(spoken)) = (rules, &mut observer.record.spoken) {
            spoken.bodies.call = Some(bodies::loggable(rules, &heard.body));
        }
    }

    /// Of an answer that is whole; a stream's is logged when it has ended.
    fn log_answer(&self, response: &Response<Reply>, observer: &mut Observer) {
        let rules = self.llm.bodies.as_ref().filter(|rules| rules.answers && observer.record.is_logged());
        if let (Some(rules), Some(spoken), Reply::Ours(Some(body), _)) =
            (rules, &mut observer.record.spoken, response.body())
        {
            spoken.bodies.answer = Some(bodies::loggable(rules, body));
        }
    }

    /// The answer goes to its caller, and to where it is kept.
    fn keeps(&self, keep: Option<Keep>, response: &mut Response<Reply>, heard: &Heard<'_>, observer: &mut Observer) {
        self.log_answer(response, observer);
        let Some(keep) = keep else { return };
        let (head, body) = (response.headers().clone(), response.body_mut());
        match (body, &observer.record.spoken) {
            (Reply::Ours(Some(body), _), Some(spoken)) => {
                keep.whole(&head, body, spoken.finish, spoken.tokens.total(), heard.door.task == Task::Chat);
            }
            (Reply::Told(told), _) => {
                if let Some(recorder) = &mut told.recorder {
                    recorder.keeps(keep, &head);
                }
            }
            _ => {}
        }
    }

    /// One deployment after the other, until one begins to answer.
    #[expect(clippy::too_many_arguments, reason = "what a call comes to")]
    async fn ask(
        &self,
        parts: &Parts,
        heard: &Heard<'_>,
        own: &OwnKeys<'_>,
        model: &'a Model,
        asks: Asked<'a>,
        observer: &mut Observer,
        keep: Option<Keep>,
    ) -> Result<Response<Reply>, No> {
        let records = keep.is_some() || (self.llm.bodies.is_some() && observer.record.is_logged());
        let further = Further::new(&self.gate.limiter, asks, self.origin.request_id.as_str().as_bytes());
        let plan = self.caller.map_or(self.route.limits.anonymous_plan, Caller::plan);
        let plan = plan.and_then(|at| self.snapshot.plans.get(at)).and_then(|plan| plan.residency.as_ref());
        let consumer = self.caller.and_then(|caller| caller.consumer).and_then(|consumer| consumer.residency.as_ref());
        let mut needs = Needs::of(&heard.peek, heard.door.task == Task::Chat, &parts.headers, [plan, consumer]);
        if needs.may_be_near(heard, model) {
            Box::pin(needs.count(heard, model)).await;
        }
        let (fleet, headers, caller, snapshot) = (&*self.gate.fleet, &parts.headers, self.caller, self.snapshot);
        let chooser = Chooser { fleet, heard, headers, caller, snapshot, needs: &needs };
        let call = Call { visit: self, parts, heard, own, further: &further, chooser, model, records };
        let mut asking = Asking::new(call)?;
        let staying = self.llm.drains.then(|| self.stays.stay());
        let outcome = pin!(asking.run(observer)).await;
        drop(staying);
        if self.stays.has_left() {
            observer.record.cut.get_or_insert(telemetry::Cut::Client);
        }
        let mut response = outcome?;
        self.tell_cost(&mut response, observer);
        let keep = keep.filter(|_| response.status() == StatusCode::OK);
        self.keeps(keep, &mut response, heard, observer);
        Ok(response)
    }

    /// What limits may count by.
    fn scope<'s>(&'s self, parts: &'s Parts, spoken: Option<Spoken<'s>>) -> Scope<'s> {
        Scope {
            route: self.route,
            caller: self.caller,
            address: self.origin.address,
            host: self.host,
            method: &parts.method,
            headers: &parts.headers,
            spoken,
        }
    }
}

/// A count that is ours, and says so. `by`: the encoding, where it is no estimate.
fn estimated(
    tokens: u64,
    by: Option<&'static str>,
    heard: &Heard<'_>,
    mut account: Account,
    observer: &mut Observer,
) -> Response<Reply> {
    account.free();
    account.settle(observer);
    let mut response = Response::new(Reply::full(tidegate_llm::count::answer(tokens, heard.door.dialect)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (name, value) = by.map_or((ESTIMATED, "true"), |encoding| (COUNTED, encoding));
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

fn allow(parts: &Parts, method: &Method) -> Result<(), Refusal> {
    let is_it = parts.method == *method || (*method == Method::GET && parts.method == Method::HEAD);
    let allow = HeaderValue::from_str(method.as_str());
    match (is_it, allow) {
        (true, _) => Ok(()),
        (false, Ok(allow)) => Err(Refusal::MethodNotAllowed { allow }),
        (false, Err(_)) => Err(Refusal::Fault),
    }
}

fn unknown(asked: &str) -> No {
    let short: String = asked.chars().take(128).filter(|c| !c.is_control()).collect();
    let message = format!("The model `{short}` does not exist or is not served here.");
    No::told(Refusal::ModelUnknown, message, Some("model".to_owned()))
}

fn begun(model: &Model, heard: &Heard<'_>) -> telemetry::Spoken {
    let asked = (*heard.peek.model != *model.name).then(|| heard.peek.model.as_str().into());
    telemetry::Spoken {
        model: Arc::clone(&model.name),
        asked,
        operation: if heard.door.task == Task::Embed { "embeddings" } else { heard.door.dialect.operation() },
        dialects: (heard.door.dialect.name(), ""),
        stream: heard.peek.stream,
        ..telemetry::Spoken::default()
    }
}
