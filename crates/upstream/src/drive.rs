//! Who keeps an HTTP/1.1 connection going: the task of whoever uses it. Bytes go from the socket to the caller without
//! another turn of the scheduler, and all that has come is read before any of it is written. A connection that has to go
//! on by itself, for the rest of a request behind an early answer or a tunnel, is let go into a task of its own.
//!
//! ```text
//! socket, timer, hyper's channels ── ring the bell ──> wakes the user's task, unless he is right here
//!                                                      and knows by it whether there is anything to look at
//! ```

use std::pin::Pin;
use std::sync::atomic::{
    AtomicU8,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Handle;
use tracing::debug;

use crate::{Whom, lock};

/// Turns in a row before others have theirs.
const TURNS: usize = 64;

type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

pub(crate) struct Drive {
    /// `None`: it has ended, or has a task of its own.
    connection: Option<Connection>,
    /// Closing it takes a message to the peer.
    says_goodbye: bool,
    bell: Arc<Bell>,
    /// Rings the bell.
    rope: Waker,
    /// Whom the bell wakes.
    task: Option<Waker>,
    /// What is wanted next came with what was wanted before.
    has_more: bool,
    /// For whom the connection was made; `None`: for anybody.
    pub(crate) whom: Option<Arc<Whom>>,
}

/// Whatever a connection waits for rings it.
#[derive(Debug)]
struct Bell {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

/// Nothing happened since all of it was seen to be waiting.
const QUIET: u8 = 0;
/// There is something to look at.
const RANG: u8 = 1;
/// Its user is looking, and need not be woken.
const WITHIN: u8 = 2;

impl Drive {
    pub(crate) fn new<F>(connection: F, says_goodbye: bool) -> Self
    where
        F: Future<Output = hyper::Result<()>> + Send + 'static,
    {
        let bell = Arc::new(Bell { state: AtomicU8::new(RANG), task: Mutex::new(None) });
        let rope = Waker::from(Arc::clone(&bell));
        Self {
            connection: Some(Box::pin(connection)),
            says_goodbye,
            bell,
            rope,
            task: None,
            has_more: false,
            whom: None,
        }
    }

    /// Is there anything to poll for? If not, the task will be woken when there is. Whoever waits for something new says
    /// [`Drive::look_anew`] before.
    pub(crate) fn is_due(&mut self, cx: &Context<'_>) -> bool {
        if self.connection.is_none() {
            return true;
        }
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.wakes(Some(cx.waker().clone()));
        }
        self.bell.state.load(Acquire) != QUIET
    }

    pub(crate) fn look_anew(&self) {
        self.bell.state.fetch_or(RANG, Relaxed);
    }

    /// What is wanted next may be there already: it is asked for before the connection is.
    pub(crate) fn brings_more(&mut self) {
        self.has_more = self.connection.is_some();
    }

    /// Polls the connection and `wanted`, which comes out of it, until neither gets any further.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if std::mem::take(&mut self.has_more)
            && let Poll::Ready(more) = wanted(&mut Context::from_waker(&self.rope))
        {
            return Poll::Ready(more);
        }
        for _ in 0..TURNS {
            self.turn();
            if self.connection.is_none() {
                return wanted(cx);
            }
            let polled = wanted(&mut Context::from_waker(&self.rope));
            if polled.is_ready() {
                self.bell.state.store(RANG, Release); // There may be more of it.
                return polled;
            }
            if self.bell.state.compare_exchange(WITHIN, QUIET, AcqRel, Acquire).is_ok() {
                return Poll::Pending;
            }
        }
        self.bell.state.store(RANG, Release);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The connection alone; its user is within from here on.
    fn turn(&mut self) {
        self.bell.state.swap(WITHIN, AcqRel);
        if let Some(connection) = &mut self.connection
            && let Poll::Ready(ended) = connection.as_mut().poll(&mut Context::from_waker(&self.rope))
        {
            self.connection = None; // Those who wait for something of it hear so from hyper.
            told(ended);
        }
    }

    /// What else its user waits for, such as a timer, rings the bell too.
    pub(crate) fn waker<'a>(&'a self, own: &'a Waker) -> &'a Waker {
        if self.connection.is_some() { &self.rope } else { own }
    }

    /// Nobody uses it: a last look, and nobody is woken any more.
    pub(crate) fn rest(&mut self) {
        self.wakes(None);
        self.look();
    }

    /// Sees what happened while nobody used it.
    pub(crate) fn look(&mut self) {
        if self.connection.is_some() && self.bell.state.load(Acquire) != QUIET {
            self.turn();
            self.bell.state.fetch_and(!WITHIN, AcqRel);
        }
    }

    /// It goes on by itself.
    pub(crate) fn let_go(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.wakes(None);
            tokio::spawn(async move { told(connection.await) });
        }
    }

    fn wakes(&mut self, task: Option<Waker>) {
        lock(&self.bell.task).clone_from(&task);
        self.task = task;
    }
}

fn told(ended: hyper::Result<()>) {
    if let Err(why) = ended {
        debug!(%why, "upstream connection ended");
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        if self.says_goodbye && Handle::try_current().is_ok() {
            self.let_go(); // It sees that nobody is left to send anything, and closes.
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(RANG, AcqRel) == QUIET
            && let Some(task) = &*lock(&self.task)
        {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// A connection that makes one thing of each that came in.
    #[derive(Clone, Default)]
    struct Line(Arc<Mutex<(usize, usize, Option<Waker>)>>);

    impl Line {
        fn drive(&self) -> Drive {
            let line = self.clone();
            let connection = std::future::poll_fn(move |cx| {
                let mut line = lock(&line.0);
                line.2 = Some(cx.waker().clone());
                if line.0 > 0 {
                    *line = (line.0 - 1, line.1 + 1, line.2.take());
                    cx.waker().wake_by_ref(); // As hyper's channels do.
                }
                if line.1 == 9 { Poll::Ready(Ok(())) } else { Poll::Pending }
            });
            Drive::new(connection, false)
        }

        fn comes(&self, things: usize) {
            let waker = {
                let mut line = lock(&self.0);
                line.0 += things;
                line.2.clone()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }

        fn take(&self) -> Poll<usize> {
            match std::mem::take(&mut lock(&self.0).1) {
                0 => Poll::Pending,
                made => Poll::Ready(made),
            }
        }
    }

    #[test]
    fn its_user_is_woken_by_what_comes_and_not_by_what_he_does_himself() {
        let (line, task) = (Line::default(), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&task));
        let mut cx = Context::from_waker(&waker);
        let mut drive = line.drive();
        assert!(drive.is_due(&cx) && drive.poll(&mut cx, |_| line.take()).is_pending());
        assert!(!drive.is_due(&cx), "nothing has come");
        line.comes(2);
        assert_eq!((drive.is_due(&cx), task.0.load(Relaxed)), (true, 1));
        for _ in 0..2 {
            assert!(drive.is_due(&cx) && drive.poll(&mut cx, |_| line.take()) == Poll::Ready(1));
        }
        assert!(drive.is_due(&cx) && drive.poll(&mut cx, |_| line.take()).is_pending());
        assert_eq!((drive.is_due(&cx), task.0.load(Relaxed)), (false, 1));
        drive.look_anew();
        assert!(drive.is_due(&cx), "another waits");
    }

    #[test]
    fn one_that_rests_wakes_nobody_and_tells_when_it_is_looked_at() {
        let (line, task) = (Line::default(), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&task));
        let mut drive = line.drive();
        assert!(drive.is_due(&Context::from_waker(&waker)));
        drive.rest();
        line.comes(1);
        assert_eq!((task.0.load(Relaxed), line.take()), (0, Poll::Pending));
        drive.look();
        assert_eq!(line.take(), Poll::Ready(1));
    }

    #[test]
    fn what_comes_with_its_end_is_not_lost() {
        let (line, waker) = (Line::default(), Waker::noop());
        let mut cx = Context::from_waker(waker);
        let mut drive = line.drive();
        lock(&line.0).1 = 8;
        line.comes(1);
        assert_eq!(drive.poll(&mut cx, |_| line.take()), Poll::Ready(9));
        assert!(drive.connection.is_none() && drive.is_due(&cx));
        assert!(drive.poll(&mut cx, |_| line.take()).is_pending());
    }
}
