//! Which of the figures that the project wants to reach this run reached.

use super::measure::{Measured, Round};
use super::subject::Kind;
use crate::figure::Figure;

pub(super) fn figures(all: &Measured) -> Vec<Figure> {
    let ratio = |kind, of: fn(&Round) -> f64| Some(all.middle(kind, of)? / all.middle(Kind::Nginx, of)?);
    let added = all.middle(Kind::Passing, |round| round.added_p99_ms);
    let beyond = added.zip(all.middle(Kind::Nginx, |round| round.added_p99_ms)).map(|(ours, theirs)| ours - theirs);
    let chat = |round: &Round| round.chat;
    vec![
        Figure::most("chat, passing on", 1.4, " × nginx", ratio(Kind::Passing, chat)),
        Figure::most("chat, translating", 2.0, " × nginx", ratio(Kind::Translating, chat)),
        Figure::most("chat, full policy", 1.8, " × nginx", ratio(Kind::Full, chat)),
        Figure::most("an event each 5 ms, passing on", 1.3, " × nginx", ratio(Kind::Passing, |round| round.event)),
        Figure::most("64 events at once, passing on", 1.5, " × nginx", ratio(Kind::Passing, |round| round.burst)),
        Figure::most("first bytes, p99, beyond nginx's", 0.3, " ms", beyond),
        Figure::most(
            "an open slow stream, passing on",
            60.0,
            " KB",
            all.open(Kind::Passing).map(|bytes| bytes / 1024.0),
        ),
    ]
}
