//! Counts tokens where nobody says how many they are: on threads that have nothing else to do, few at once, and only for
//! models whose way of counting is known. Who cannot wait has the estimate.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tidegate_llm::tokens::{self, Counted, Encoding, Said};
use tidegate_llm::{Dialect, Site};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::account::Account;
use crate::gate::Count;
use crate::relay::Observer;

/// At once, whoever wants it.
static TURNS: Semaphore = Semaphore::const_new(2);
/// Calls that have ended and wait to be counted; more are estimated.
static WAITING: LazyLock<Count> = LazyLock::new(Count::default);
const MOST_WAITING: usize = 1_024;
/// Bytes of prompts that are held until their provider says how many tokens they were.
static HELD: AtomicUsize = AtomicUsize::new(0);
const MOST_HELD: usize = 64 << 20;
/// A call that waits for its count goes on without it after this.
const PATIENCE: Duration = Duration::from_secs(1);

/// A call whose prompt may have to be counted.
#[derive(Debug)]
pub(super) struct Prompt {
    dialect: Dialect,
    embeds: bool,
    body: Bytes,
    /// Where the path names it.
    model: Option<Box<str>>,
}

impl Prompt {
    /// `None`: there is no room for one more.
    pub(super) fn hold(dialect: Dialect, embeds: bool, body: Bytes, model: Option<&str>) -> Option<Arc<Self>> {
        let before = HELD.fetch_add(body.len(), Relaxed);
        let prompt = Self { dialect, embeds, body, model: model.map(Into::into) };
        (before <= MOST_HELD).then(|| Arc::new(prompt))
    }

    /// Takes its time. `None`: it cannot be read.
    pub(super) fn count(&self, encoding: Encoding) -> Option<Counted> {
        if self.embeds {
            return tokens::embedded(&self.body, encoding).ok();
        }
        let site = Site { model: self.model.as_deref(), stream: false };
        tokens::prompt(self.dialect, &self.body, site, encoding).ok()
    }

    /// For who needs it to go on. `None`: it cannot be counted, or not soon.
    pub(super) async fn counted(self: Arc<Self>, encoding: Encoding) -> Option<Counted> {
        let counting = async {
            let turn = TURNS.acquire().await.ok()?;
            let count = tokio::task::spawn_blocking(move || {
                let counted = self.count(encoding);
                drop(turn);
                counted
            });
            count.await.ok()?
        };
        timeout(PATIENCE, counting).await.ok()?
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        HELD.fetch_sub(self.body.len(), Relaxed);
    }
}

/// What is counted of a call if nobody says how much it was.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) encoding: Encoding,
    prompt: Option<Arc<Prompt>>,
    pub(super) said: Said,
    pub(super) counted: Option<Sums>,
}

/// Tokens. `None`: of a prompt that could not be held, or read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    pub(super) prompt: Option<Counted>,
    pub(super) answer: u64,
}

impl Tally {
    pub(super) fn new(encoding: Encoding, prompt: Option<Arc<Prompt>>) -> Self {
        Self { encoding, prompt, said: Said::default(), counted: None }
    }

    /// Takes its time.
    fn count(&mut self) {
        let prompt = self.prompt.take().and_then(|prompt| prompt.count(self.encoding));
        self.counted = Some(Sums { prompt, answer: self.said.count(self.encoding) });
    }
}

/// An exchange that is over but for its count; until then its estimate stands.
pub(super) fn later(mut account: Account, mut observer: Box<Observer>) {
    let (Ok(runtime), Some(waits)) = (Handle::try_current(), WAITING.enter(MOST_WAITING)) else { return };
    let Some(mut tally) = account.uncounted() else { return };
    runtime.spawn(async move {
        let turn = TURNS.acquire().await;
        let count = tokio::task::spawn_blocking(move || {
            tally.count();
            account.recounted(tally);
            account.settle(&mut observer);
            drop((observer, turn, waits));
        });
        // It fails only when the node stops: the estimate was told then.
        let _stopped = count.await;
    });
}

/// A count that is under way.
pub(super) struct Counting(JoinHandle<Option<Box<Tally>>>);

/// Of a stream that ends without having told its usage: its last words wait for it. `None`: there is nothing to count, or
/// there is enough to do.
pub(super) fn soon(account: &mut Account) -> Option<Counting> {
    let (runtime, waits) = (Handle::try_current().ok()?, WAITING.enter(MOST_WAITING)?);
    let mut tally = account.uncounted()?;
    let counting = async move {
        let turn = TURNS.acquire().await;
        let count = tokio::task::spawn_blocking(move || {
            tally.count();
            drop((turn, waits));
            tally
        });
        count.await.ok()
    };
    Some(Counting(runtime.spawn(counting)))
}

impl Counting {
    pub(super) fn poll(&mut self, account: &mut Account, cx: &mut Context<'_>) -> Poll<()> {
        if let Ok(Some(tally)) = ready!(Pin::new(&mut self.0).poll(cx)) {
            account.recounted(tally);
        }
        Poll::Ready(())
    }

    /// Its caller left meanwhile.
    pub(super) fn settles(mut self, mut account: Account, mut observer: Box<Observer>) {
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                poll_fn(|cx| self.poll(&mut account, cx)).await;
                account.settle(&mut observer);
                drop(observer);
            });
        }
    }
}

/// An answer whose usage nobody told; who asked waits a moment longer.
pub(super) async fn now(account: &mut Account) {
    let Some(_waits) = WAITING.enter(MOST_WAITING) else { return };
    let Some(mut tally) = account.uncounted() else { return };
    let Ok(turn) = TURNS.acquire().await else { return };
    let count = tokio::task::spawn_blocking(move || {
        tally.count();
        drop(turn);
        tally
    });
    if let Ok(tally) = count.await {
        account.recounted(tally);
    }
}
