//! A request on its way to the origin on the cache's behalf: what it asks, and what is made of the answer.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tidegate_model::Millis;
use tidegate_policy::Cache as Policy;
use tokio::time::Instant;

use crate::answer::{self, Answer, Asker, Kind};
use crate::ask::Place;
use crate::cache::Cache;
use crate::counters::bump;
use crate::flight::{Lead, Watch};
use crate::peers::desk;
use crate::peers::seat::Seat;
use crate::peers::{Fill, LARGEST, Turn as Given, Wanted};
use crate::purge::{About, Epoch};
use crate::remote::{Remote, Token, Turn};
use crate::rules::conditional::{self, Outcome};
use crate::rules::control::RequestControl;
use crate::rules::freshen;
use crate::rules::key::Key;
use crate::rules::lifetime::Times;
use crate::rules::status::{Forward, Report};
use crate::rules::store::{self, Exchange, Refused};
use crate::rules::targeted::SURROGATE_CAPABILITY;
use crate::stored::{Fields, Stored};
use crate::tee::{Held, Tee};

/// Hand it the origin's answer, or tell it that there is none; dropped, it failed and others go on without it.
#[derive(Debug)]
pub struct Fetch {
    pub(crate) cache: Arc<Cache>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) place: Place,
    pub(crate) tenant: Box<str>,
    pub(crate) url: Box<str>,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) control: RequestControl,
    /// What may still hold.
    pub(crate) held: Option<Arc<Stored>>,
    /// The client's own conditions go to the origin as they are.
    pub(crate) as_sent: bool,
    pub(crate) why: Forward,
    pub(crate) begun: Epoch,
    pub(crate) asked: Millis,
    /// So long beyond its lifetime what is held may stand in for the upstream that was chosen.
    pub(crate) stand_in: Millis,
    pub(crate) watch: Watch,
    pub(crate) lead: Option<Lead>,
    pub(crate) duty: Option<Duty>,
}

/// Other nodes wait for this one. Dropped without a word, the fetch failed.
#[derive(Debug)]
pub(crate) enum Duty {
    /// In Redis.
    Lock(Lock),
    /// At the key's owner.
    Seat(Seat),
}

/// Keeps other nodes waiting. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    pub(crate) remote: Arc<Remote>,
    pub(crate) key: Key,
    pub(crate) token: Token,
    pub(crate) not_shared: bool,
}

/// How to go on once the origin answered.
#[derive(Debug)]
pub enum Next {
    /// Pass the body on, through [`crate::TeeBody`] when there is a tee.
    Relay(Option<Box<Tee>>),
    /// This instead; the origin's body is not wanted.
    Answer(Box<Answer>),
    /// The origin's word was about something else: ask once more, with [`Fetch::prepare`] anew.
    Again(Box<Fetch>),
}

impl Fetch {
    /// Edits the request that goes to the origin.
    pub fn prepare(&self, request: &mut HeaderMap) {
        request.insert(SURROGATE_CAPABILITY, HeaderValue::from_static("tidegate=\"Surrogate/1.0\""));
        if self.as_sent {
            return;
        }
        match &self.held {
            Some(held) if self.method != Method::POST && conditional::has_validator(&held.headers) => {
                conditional::ask_with(request, &held.headers)
            }
            _ => conditional::ask_for_all(request),
        }
    }

    /// Does it ask whether what is stored still holds? Then it may have to ask once more.
    #[must_use]
    pub fn asks_to_confirm(&self) -> bool {
        !self.as_sent && self.held.is_some() && self.method != Method::POST
    }

    /// The chosen upstream's breaker lets what is stored stand in, so long beyond its lifetime.
    pub fn may_stand_in(&mut self, beyond: Option<Duration>) {
        self.stand_in = store::millis(beyond.unwrap_or_default());
    }

    /// Why the origin is asked.
    #[must_use]
    pub fn why(&self) -> Forward {
        self.why
    }

    /// Before a refresh in the background: is it this node's to do?
    pub async fn claim(&mut self) -> bool {
        if let Some(remote) = self.cache.remote() {
            let token = self.cache.token();
            match remote.lock(&self.place.main, token, LOCK).await {
                Turn::Ours(token) => {
                    let key = self.place.main;
                    self.duty = Some(Duty::Lock(Lock { remote, key, token, not_shared: false }));
                    return true;
                }
                Turn::Nobodys => return true,
                Turn::Theirs => return false,
                Turn::Unknown => {}
            }
        }
        self.claim_from_peers().await
    }

    /// `false`: another node fetches it, or has: it is here by now.
    async fn claim_from_peers(&mut self) -> bool {
        let Some(fills) = self.cache.fills().cloned() else { return true };
        let until = Instant::now() + self.cache.wait;
        let variant = self.held.as_ref().map_or(0, |held| crate::remote::variant_of(&held.selector));
        match fills.turn(&self.cache, self.wanted(variant), until).await {
            Given::Ours(seat) => {
                self.duty = Some(Duty::Seat(seat));
                true
            }
            Given::Stored { response, .. } => {
                let stored = self.take_in(&response, variant);
                if let (Some(stored), Some(lead)) = (&stored, self.lead.take()) {
                    lead.stored(Arc::clone(stored));
                }
                stored.is_none()
            }
            Given::Varies(_) | Given::Alone { .. } | Given::Nobodys | Given::Late => true,
        }
    }

    /// What is of use to this fetch: newer than what it has, and than what made it void.
    pub(crate) fn wanted(&self, variant: u64) -> Wanted {
        let held = self.held.as_ref().map(|held| held.asked);
        let after = held.max(self.cache.flights.voided(self.place.main.url)).unwrap_or_default();
        Wanted { fill: Fill::of(&self.place.main, variant), epoch: self.cache.purges().epoch(), after }
    }

    /// From another node into memory, if nothing made it void.
    pub(crate) fn take_in(&self, response: &[u8], variant: u64) -> Option<Arc<Stored>> {
        let stored = desk::unpacked(response, &Fill::of(&self.place.main, variant))?;
        let stored = self.cache.adopt(stored, self.policy.vary_limit)?;
        bump(&self.cache.counters.from_peers);
        Some(stored)
    }

    /// The origin's head is there. Adds `Cache-Status` to it where it is passed on.
    #[must_use]
    pub fn answered(mut self, status: StatusCode, headers: &mut HeaderMap) -> Next {
        let now = self.cache.now();
        if self.stands_in(status, now)
            && let Some(held) = self.held.take()
        {
            return Next::Answer(Box::new(self.stand_in(&held, Some(status), now)));
        }
        if let Some(held) = self.held.take().filter(|_| !self.as_sent && self.method != Method::POST) {
            if status == StatusCode::NOT_MODIFIED {
                return self.confirmed(&held, headers, now);
            }
            if self.method == Method::HEAD {
                return self.told(&held, status, headers, now);
            }
        }
        self.fill(status, headers, now)
    }

    /// There is no answer. A stored one may stand in.
    #[must_use]
    pub fn failed(mut self) -> Option<Answer> {
        let now = self.cache.now();
        let held = self.held.take().filter(|held| held.terms.stands_in(&self.control, self.stand_in, now))?;
        if !self.cache.still_holds(&held) {
            return None;
        }
        Some(self.stand_in(&held, None, now))
    }

    fn stands_in(&self, status: StatusCode, now: Millis) -> bool {
        let good = |held: &Arc<Stored>| {
            held.terms.stands_in(&self.control, self.stand_in, now) && self.cache.still_holds(held)
        };
        matches!(status.as_u16(), 500 | 502..=504) && self.held.as_ref().is_some_and(good)
    }

    fn stand_in(&mut self, held: &Arc<Stored>, status: Option<StatusCode>, now: Millis) -> Answer {
        if let Some(lead) = self.lead.take() {
            lead.stand_in(Arc::clone(held));
        }
        let report = Report {
            forward_status: status.map(|s| s.as_u16()),
            ttl: Some(held.terms.ttl_seconds(now)),
            detail: Some("stale-if-error"),
            ..Report::forward(self.why)
        };
        self.cache.counters.stood_in();
        self.answer(held, Kind::StandIn, &report, now)
    }

    /// 304: what is stored still holds, with newer headers.
    fn confirmed(mut self, held: &Arc<Stored>, fresh: &HeaderMap, now: Millis) -> Next {
        // A purge while the origin was asked concerns the body that is held, whatever the origin thinks of it.
        if !freshen::is_about(&held.headers, fresh) || !self.cache.still_holds(held) {
            self.cache.memory().remove_stored(held);
            (self.begun, self.asked) = (self.cache.purges().epoch(), now);
            return Next::Again(Box::new(self));
        }
        let times = Times { asked: self.asked, answered: now };
        let mut merged = freshen::merge(&held.headers, fresh, now);
        // Its age is that of the 304, told below and not kept.
        if let Some(age) = fresh.get(http::header::AGE) {
            merged.insert(http::header::AGE, age.clone());
        }
        let exchange = Exchange { request: &self.headers, status: held.status, response: &merged, times };
        let verdict = store::judge(&self.policy, &exchange, self.place.authorized, self.place.own.is_some());
        merged.remove(http::header::AGE);
        let stored = verdict.is_ok();
        let renewed = Arc::new(renew(held, merged, verdict.ok().as_ref(), self.begun, times));
        if stored {
            self.keep(&renewed);
        } else {
            self.cache.memory().remove_stored(held);
        }
        let report = Report {
            forward_status: Some(304),
            ttl: Some(renewed.terms.ttl_seconds(now)),
            stored,
            ..Report::forward(self.why)
        };
        self.cache.counters.revalidated();
        Next::Answer(Box::new(self.answer(&renewed, Kind::Revalidated, &report, now)))
    }

    /// The answer to HEAD: what is stored is as fresh as it says, or outdated.
    fn told(self, held: &Arc<Stored>, status: StatusCode, headers: &mut HeaderMap, now: Millis) -> Next {
        let mut stored = false;
        if freshen::is_unchanged(&held.headers, held.body.len(), status, headers) {
            let times = Times { asked: self.asked, answered: now };
            let merged = freshen::merge(&held.headers, headers, now);
            let exchange = Exchange { request: &self.headers, status: held.status, response: &merged, times };
            let verdict = store::judge(&self.policy, &exchange, self.place.authorized, self.place.own.is_some());
            if let Ok(verdict) = verdict {
                stored = true;
                self.keep_only(&Arc::new(renew(held, merged, Some(&verdict), self.begun, times)));
            }
        } else if status == StatusCode::OK {
            self.cache.memory().remove_stored(held);
        }
        Report { stored, ..Report::forward(self.why) }.put(headers);
        Next::Relay(None)
    }

    fn fill(mut self, status: StatusCode, headers: &mut HeaderMap, now: Millis) -> Next {
        let times = Times { asked: self.asked, answered: now };
        let exchange = Exchange { request: &self.headers, status, response: headers, times };
        let verdict = match self.method {
            Method::HEAD => Err(Refused::Useless),
            _ => store::judge(&self.policy, &exchange, self.place.authorized, self.place.own.is_some()),
        };
        // RFC 9110 § 9.3.3: an answer to POST must say that it may be reused.
        let verdict = verdict.and_then(|verdict| match self.method {
            Method::POST if verdict.guessed => Err(Refused::Useless),
            _ => Ok(verdict),
        });
        let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let verdict = verdict.and_then(|verdict| match announced {
            Some(length) if length > self.policy.max_object => Err(Refused::Useless),
            _ => Ok(verdict),
        });
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(why) => {
                self.release(why, status, now);
                Report::forward(self.why).put(headers);
                return Next::Relay(None);
            }
        };
        let key = match self.place.own {
            Some(own) if !verdict.terms.for_all => own,
            _ => self.place.main,
        };
        let head = Stored::new(Fields {
            key,
            tenant: self.tenant.clone(),
            url: self.url.clone(),
            status,
            headers: crate::rules::fields::stored(headers, &verdict.unlisted, verdict.without_cookies),
            body: bytes::Bytes::new(),
            terms: verdict.terms,
            selector: verdict.selector,
            tags: verdict.tags,
            epoch: self.begun,
            asked: self.asked,
            answered: now,
        });
        Report { stored: true, ..Report::forward(self.why) }.put(headers);
        let shared_home = key == self.place.main;
        let Self { cache, policy, watch, mut lead, mut duty, .. } = self;
        // What is for this caller alone is for no other waiter.
        if !shared_home {
            if let Some(lead) = lead.take() {
                lead.not_shared(Some(now));
            }
            if let Some(duty) = duty.take() {
                duty.alone(true);
            }
        }
        Next::Relay(Some(Box::new(Tee::new(cache, policy, head, announced, Held { watch, lead, duty }))))
    }

    /// Nobody needs to wait for what is not stored.
    fn release(&mut self, why: Refused, status: StatusCode, now: Millis) {
        self.cache.counters.refused(why);
        // An answer to a part or a failure says nothing of the next; the rest will be as unshared next time.
        let lasting = !matches!(why, Refused::Partial | Refused::Request) && !status.is_server_error();
        if let Some(lead) = self.lead.take() {
            lead.not_shared(lasting.then_some(now));
        }
        if let Some(duty) = self.duty.take() {
            duty.alone(lasting);
        }
    }

    fn keep(&mut self, stored: &Arc<Stored>) {
        let kept = self.keep_only(stored);
        if let Some(lead) = self.lead.take() {
            lead.stored(Arc::clone(stored));
        }
        if let Some(duty) = self.duty.take().filter(|_| kept) {
            duty.stored(stored, self.policy.vary_limit);
        }
    }

    fn keep_only(&self, stored: &Arc<Stored>) -> bool {
        self.cache.keep(stored, &self.policy, &self.watch)
    }

    fn answer(&self, stored: &Stored, kind: Kind, report: &Report, now: Millis) -> Answer {
        let asker = Asker { method: &self.method, headers: &self.headers };
        let outcome = conditional::evaluate(&self.headers, stored.status, &stored.headers, stored.answered);
        answer::of(stored, asker, outcome == Outcome::NotModified, kind, report, now)
    }
}

/// How long others wait for a node that does not say how its fetch went.
pub(crate) const LOCK: Duration = Duration::from_secs(5);

fn renew(held: &Stored, headers: HeaderMap, verdict: Option<&store::Verdict>, epoch: Epoch, times: Times) -> Stored {
    // The body is the old fetch's; a purge between the two voids it all the same.
    let epoch = epoch.min(held.epoch);
    let Times { asked, answered } = times;
    let before = Fields { epoch, asked, answered, ..Fields::clone(held) };
    Stored::new(match verdict {
        Some(verdict) => Fields {
            headers: crate::rules::fields::stored(&headers, &verdict.unlisted, verdict.without_cookies),
            terms: verdict.terms,
            selector: verdict.selector.clone(),
            tags: verdict.tags.clone(),
            ..before
        },
        None => Fields { headers, ..before },
    })
}

impl Duty {
    pub(crate) fn stored(self, stored: &Stored, variants: usize) {
        match self {
            Self::Lock(lock) => drop(lock), // It is in the queue for Redis.
            Self::Seat(seat) => seat.stored(stored, variants),
        }
    }

    /// Each for himself. `lasting`: for a while.
    pub(crate) fn alone(self, lasting: bool) {
        match self {
            Self::Lock(mut lock) => lock.not_shared = lasting,
            Self::Seat(seat) => seat.alone(lasting),
        }
    }

    /// So long a body does not go this way.
    pub(crate) fn is_too_much(&self, length: u64) -> bool {
        matches!(self, Self::Seat(_)) && length > LARGEST as u64
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.remote.unlock(&self.key, self.token, self.not_shared);
    }
}

/// What purges of a response look at.
pub(crate) fn about(stored: &Stored) -> About<'_> {
    About { tenant: &stored.tenant, digest: stored.key.url, url: &stored.url, tags: &stored.tags }
}
