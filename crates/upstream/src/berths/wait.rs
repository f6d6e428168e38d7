//! Standing in line for a berth. Who is dropped while he stands, because his client left, leaves the line; who was given a
//! berth at that very moment gives it back.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use tidegate_overload::{Pushed, Ticket};
use tidegate_policy::Overload;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Berth, Berths, Guest, Shed, Verdict};
use crate::endpoint::age;
use crate::lock;

/// A place in line.
struct Place<'a> {
    of: &'a Arc<Berths>,
    guest: Guest,
    ticket: Ticket,
    /// `None`: what came of it was heard.
    verdict: Option<oneshot::Receiver<Verdict>>,
}

impl Berths {
    /// Waits for a berth, until `until` at most.
    pub(crate) async fn enter(self: &Arc<Self>, guest: Guest, rules: &Overload, until: Instant) -> Result<Berth, Shed> {
        let now = Instant::now();
        let mut place = self.join(guest, rules, now)?;
        self.waited[guest.class as usize].fetch_add(1, Relaxed);
        place.wait(until.min(now + rules.queue.deadline)).await?;
        Ok(self.berth(Instant::now()))
    }

    fn join(self: &Arc<Self>, guest: Guest, rules: &Overload, now: Instant) -> Result<Place<'_>, Shed> {
        let Guest { class, who } = guest;
        self.window.was_full();
        let (tell, verdict) = oneshot::channel();
        let now = age(now);
        let mut line = lock(&self.line);
        let ticket = match line.push(class, who, tell, &rules.queue, now) {
            Pushed::Waits(ticket) => ticket,
            Pushed::Instead(ticket, out, of) => {
                self.refuse(out, of, Shed::Displaced);
                ticket
            }
            Pushed::Full { of_one } => {
                drop(line);
                let why = if of_one { Shed::ConsumerFull } else { Shed::QueueFull };
                self.count(class, why);
                return Err(why);
            }
        };
        self.waiting.store(u32::try_from(line.len()).unwrap_or(u32::MAX), SeqCst);
        // One may have come free before we stood here.
        self.let_in(&mut line, now);
        drop(line);
        Ok(Place { of: self, guest, ticket, verdict: Some(verdict) })
    }
}

impl Place<'_> {
    async fn wait(&mut self, until: Instant) -> Verdict {
        let Some(verdict) = &mut self.verdict else { return Err(Shed::Deadline) };
        let heard = timeout_at(until, verdict).await;
        match heard {
            Ok(told) => {
                self.verdict = None;
                told.unwrap_or(Err(Shed::Deadline))
            }
            Err(_) if self.leave() => {
                self.verdict = None;
                self.of.count(self.guest.class, Shed::Deadline);
                Err(Shed::Deadline)
            }
            // It was told while the time ran out.
            Err(_) => {
                self.verdict.take().and_then(|mut verdict| verdict.try_recv().ok()).unwrap_or(Err(Shed::Deadline))
            }
        }
    }

    /// False: somebody decided already.
    fn leave(&self) -> bool {
        let mut line = lock(&self.of.line);
        let left = line.leave(self.ticket).is_some();
        self.of.waiting.store(u32::try_from(line.len()).unwrap_or(u32::MAX), SeqCst);
        left
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(mut verdict) = self.verdict.take() else { return };
        if !self.leave() && verdict.try_recv() == Ok(Ok(())) {
            self.of.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_policy::{Class, Concurrency, Waiting};

    use super::*;

    fn rules(limit: u32, deadline: Duration) -> Overload {
        let queue = Waiting { max: 64, per_consumer: 16, deadline };
        Overload { concurrency: Concurrency::Fixed(limit), queue, class_header: None }
    }

    fn berths(rules: &Overload) -> Arc<Berths> {
        let berths = Arc::<Berths>::default();
        berths.rule(Some(rules));
        berths
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_berth_is_lost_whoever_leaves_and_whenever() {
        let rules = Arc::new(rules(3, Duration::from_millis(3)));
        let berths = berths(&rules);
        let guests: Vec<_> = (0..600_u64)
            .map(|i| {
                let (berths, rules) = (Arc::clone(&berths), Arc::clone(&rules));
                tokio::spawn(async move {
                    let guest = Guest { class: Class::ALL[(i % 4) as usize], who: i % 7 };
                    let work = async {
                        let now = Instant::now();
                        let berth = match berths.try_enter(now) {
                            Some(berth) => Ok(berth),
                            None => berths.enter(guest, &rules, soon()).await,
                        };
                        assert!(berths.running.load(SeqCst) <= 3);
                        tokio::time::sleep(Duration::from_micros(i * 37 % 900)).await;
                        berth.is_ok()
                    };
                    // Some clients are gone before their turn, some at it, some during their request.
                    tokio::time::timeout(Duration::from_micros(100 + i * 61 % 5_000), work).await.is_ok_and(|done| done)
                })
            })
            .collect();
        let mut done = 0;
        for guest in guests {
            done += u32::from(guest.await.expect("no guest panics"));
        }
        assert!(done > 0);
        let facts = berths.facts();
        assert_eq!((facts.running, berths.waiting.load(SeqCst)), (0, 0));
        assert!(facts.queued.iter().all(|(_, waits)| *waits == 0));
        let all: Vec<_> = (0..3).filter_map(|_| berths.try_enter(Instant::now())).collect();
        assert_eq!(all.len(), 3);
        assert!(berths.try_enter(Instant::now()).is_none());
    }

    #[tokio::test]
    async fn who_waits_is_let_in_when_the_document_gives_more_room() {
        let few = rules(1, Duration::from_secs(20));
        let berths = berths(&few);
        let first = berths.try_enter(Instant::now());
        assert!(first.is_some());
        let second = tokio::spawn({
            let berths = Arc::clone(&berths);
            async move { berths.enter(Guest::default(), &few, soon()).await.is_ok() }
        });
        while berths.waiting.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        berths.rule(Some(&rules(2, Duration::from_secs(20))));
        assert!(second.await.expect("it does not panic"));
    }

    #[tokio::test]
    async fn who_waits_too_long_is_refused_and_counted() {
        let rules = rules(1, Duration::from_millis(20));
        let berths = berths(&rules);
        let _first = berths.try_enter(Instant::now());
        let refused = berths.enter(Guest { class: Class::Low, who: 1 }, &rules, soon()).await;
        assert_eq!(refused.err(), Some(Shed::Deadline));
        let shed: Vec<_> = berths.facts().shed.into_iter().filter(|(_, _, count)| *count > 0).collect();
        assert_eq!(shed, [(Shed::Deadline, Class::Low, 1)]);
    }
}
