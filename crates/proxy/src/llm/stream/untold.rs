//! A stream that ends without having told its usage, for a caller of another dialect: its last events wait until what it is
//! charged is counted, or estimated, and tell that. Nothing is made up where bytes pass as they came.

use tidegate_llm::meaning::Event;

use super::{Told, Way};
use crate::llm::counting;

impl Told {
    /// From where the answer stops: what it used is told before that.
    pub(super) fn hold_back(&mut self) {
        if !self.last.is_empty() {
            return self.last.append(&mut self.events);
        }
        let stops = |event: &Event| matches!(event, Event::Stop(_));
        let Some(at) = self.events.iter().position(stops).filter(|_| matches!(self.way, Way::Other(_))) else { return };
        if self.account.untold().is_none() {
            return;
        }
        self.last.extend(self.events.drain(at..));
        self.counting = counting::soon(&mut self.account);
        if self.counting.is_none() {
            self.tell();
        }
    }

    /// The count is there, or will not be.
    pub(super) fn counted(&mut self) {
        self.counting = None;
        self.tell();
        if let Way::Other(translation) = &mut self.way {
            let out = translation.encoded(&mut self.events);
            self.hand_on(out);
        }
        if self.ended {
            self.recorded(true);
        }
    }

    /// What is charged comes before the last events.
    fn tell(&mut self) {
        let usage = self.account.untold().map(Event::Usage);
        if let (Some(usage), Some(recorder)) = (&usage, &mut self.recorder) {
            recorder.event(usage);
        }
        self.events.extend(usage);
        self.events.append(&mut self.last);
    }
}
