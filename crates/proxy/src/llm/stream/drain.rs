//! A stream whose caller is gone, heard to its end: what it costs is known then, and an answer that is kept is whole.

use std::future::poll_fn;

use tidegate_llm::Reply;
use tidegate_llm::bounds::Bounds;
use tidegate_telemetry::Cut;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::held::Held;
use super::{Told, Waiting, Way};
use crate::llm::account::Account;
use crate::stays::{LONGEST, alone};

impl Told {
    /// True: the caller left, and somebody else hears the rest.
    pub(super) fn goes_on(&mut self) -> bool {
        if !self.drains || self.ended || self.counting.is_some() || self.decoder.is_over() || self.observer.is_none() {
            return false;
        }
        let (Ok(runtime), Some(one)) = (Handle::try_current(), alone()) else { return false };
        let rest = self.rest();
        runtime.spawn(async move {
            // Its drop settles what was used, however it ends.
            let _late = timeout(LONGEST, rest.drain()).await;
            drop(one);
        });
        true
    }

    fn rest(&mut self) -> Box<Self> {
        let encoder = Box::new(self.from.encoder(Reply::default()));
        let way = std::mem::replace(&mut self.way, Way::Same { strip: None, encoder });
        let decoder = std::mem::replace(&mut self.decoder, self.from.decoder(Bounds::default()));
        let account = std::mem::replace(&mut self.account, Account::new(0, false));
        let mut observer = self.observer.take();
        if let Some(observer) = &mut observer {
            observer.record.cut.get_or_insert(Cut::Client);
        }
        Box::new(Self {
            source: self.source.take(),
            from: self.from,
            decoder,
            way,
            account,
            going: self.going.again(),
            recorder: self.recorder.take(),
            drains: false,
            ready: Waiting::default(),
            held: Held::default(),
            ended: false,
            linger: None,
            torn: None,
            is_cut: false,
            events: Vec::new(),
            last: Vec::new(),
            counting: None,
            observer,
            noted: None,
            loan: None,
        })
    }

    async fn drain(mut self: Box<Self>) {
        loop {
            match poll_fn(|cx| self.source.poll_data(cx)).await {
                Some(Ok(data)) => {
                    self.take(data);
                    self.ready = Waiting::default(); // For nobody.
                }
                Some(Err(_)) => return,
                None => return self.finish(),
            }
        }
    }
}
