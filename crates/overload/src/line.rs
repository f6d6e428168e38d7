//! Those who wait for room at an upstream, and who of them is next: the better class first, within a class each consumer in
//! turn, of a consumer the one who came first; or, once the line has stood for as long as anybody may wait, the one who came
//! last, since the others' clients have all but given up (adaptive LIFO).
//!
//! Bounded: in all, by consumer, by time. Who comes when it is full pushes out one of a lesser class, or of the consumer who
//! has most in the line.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::RandomState;
use tidegate_policy::{Class, Waiting};

/// Of so many that are let in from the line, one is of the lowest class that waits: nobody starves.
const MERCY: u32 = 16;
const CLASSES: usize = Class::ALL.len();

/// Whom a place in the line belongs to: to leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    class: Class,
    who: u64,
    number: u64,
}

#[derive(Debug)]
pub enum Pushed<T> {
    Waits(Ticket),
    /// In the place of another, who is refused.
    Instead(Ticket, T, Class),
    /// The line is full; or, `of_one`, this consumer has as many in it as one may.
    Full {
        of_one: bool,
    },
}

/// Who leaves the line by its front.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    Goes(T),
    /// Waited too long.
    Late(T, Class),
}

#[derive(Debug)]
struct Guest<T> {
    number: u64,
    came: Duration,
    item: T,
}

/// The guests of one class.
#[derive(Debug)]
struct Rank<T> {
    /// Consumers with somebody here, the next one first.
    turns: VecDeque<u64>,
    by: HashMap<u64, VecDeque<Guest<T>>, RandomState>,
    len: usize,
}

#[derive(Debug)]
pub struct Line<T> {
    ranks: [Rank<T>; CLASSES],
    len: usize,
    numbers: u64,
    /// Let in since the last act of mercy.
    served: u32,
    /// Since when it has not been empty.
    stands_since: Option<Duration>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        let rank = || Rank { turns: VecDeque::new(), by: HashMap::default(), len: 0 };
        Self { ranks: [rank(), rank(), rank(), rank()], len: 0, numbers: 0, served: 0, stands_since: None }
    }
}

impl<T> Line<T> {
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[must_use]
    pub fn of(&self, class: Class) -> usize {
        self.ranks[class as usize].len
    }

    /// Somebody of the consumer `who` comes.
    pub fn push(&mut self, class: Class, who: u64, item: T, bounds: &Waiting, now: Duration) -> Pushed<T> {
        let own = self.ranks[class as usize].by.get(&who).map_or(0, VecDeque::len);
        if own >= bounds.per_consumer {
            return Pushed::Full { of_one: true };
        }
        let mut out = None;
        if self.len >= bounds.max {
            match self.make_room(class, own) {
                Some(gone) => out = Some(gone),
                None => return Pushed::Full { of_one: false },
            }
        }
        self.numbers += 1;
        let number = self.numbers;
        let rank = &mut self.ranks[class as usize];
        let guests = rank.by.entry(who).or_default();
        if guests.is_empty() {
            rank.turns.push_back(who);
        }
        guests.push_back(Guest { number, came: now, item });
        rank.len += 1;
        self.len += 1;
        self.stands_since.get_or_insert(now);
        let ticket = Ticket { class, who, number };
        match out {
            Some((item, class)) => Pushed::Instead(ticket, item, class),
            None => Pushed::Waits(ticket),
        }
    }

    /// Somebody of a lesser class goes, or of a consumer of this class who has more in the line than `own`.
    fn make_room(&mut self, class: Class, own: usize) -> Option<(T, Class)> {
        let least = Class::ALL.into_iter().rev().find(|class| self.of(*class) > 0)?;
        if least < class {
            return None;
        }
        let rank = &self.ranks[least as usize];
        let (who, most) = rank.by.iter().map(|(who, guests)| (*who, guests.len())).max_by_key(|(_, len)| *len)?;
        if least == class && most <= own + 1 {
            return None;
        }
        // His oldest: it is the nearest to being too late.
        self.take(least, who, VecDeque::pop_front).map(|guest| (guest.item, least))
    }

    /// Who is next, if anybody is. Say it again until somebody goes.
    pub fn next(&mut self, deadline: Duration, now: Duration) -> Option<Next<T>> {
        let mercy = self.served + 1 >= MERCY;
        let mut ranks = Class::ALL.into_iter();
        let waits = |class: &Class| self.of(*class) > 0;
        let class = if mercy { ranks.rfind(waits) } else { ranks.find(waits) }?;
        let newest = self.stands_since.is_some_and(|since| now.saturating_sub(since) > deadline);
        let who = *self.ranks[class as usize].turns.front()?;
        let take = if newest { VecDeque::pop_back } else { VecDeque::pop_front };
        let guest = self.take(class, who, take)?;
        if now.saturating_sub(guest.came) > deadline {
            return Some(Next::Late(guest.item, class));
        }
        self.served = if mercy { 0 } else { self.served + 1 };
        // The next turn is another's.
        let turns = &mut self.ranks[class as usize].turns;
        if turns.front() == Some(&who) {
            turns.rotate_left(1);
        }
        Some(Next::Goes(guest.item))
    }

    /// Leaves the line: its client is gone, or it waited too long. `None`: it is not in it any more.
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        let Ticket { class, who, number } = ticket;
        // Numbers rise along the line.
        let at = self.ranks[class as usize].by.get(&who)?.binary_search_by_key(&number, |guest| guest.number).ok()?;
        self.take(class, who, |guests| guests.remove(at)).map(|guest| guest.item)
    }

    fn take(
        &mut self,
        class: Class,
        who: u64,
        take: impl FnOnce(&mut VecDeque<Guest<T>>) -> Option<Guest<T>>,
    ) -> Option<Guest<T>> {
        let rank = &mut self.ranks[class as usize];
        let guests = rank.by.get_mut(&who)?;
        let guest = take(guests)?;
        if guests.is_empty() {
            rank.by.remove(&who);
            rank.turns.retain(|turn| *turn != who);
        }
        rank.len -= 1;
        self.len -= 1;
        if self.len == 0 {
            self.stands_since = None;
        }
        Some(guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Waiting = Waiting { max: 4, per_consumer: 3, deadline: Duration::from_secs(1) };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn push(line: &mut Line<&'static str>, class: Class, who: u64, item: &'static str) -> Option<Ticket> {
        match line.push(class, who, item, &BOUNDS, at(0)) {
            Pushed::Waits(ticket) | Pushed::Instead(ticket, ..) => Some(ticket),
            Pushed::Full { .. } => None,
        }
    }

    fn all(line: &mut Line<&'static str>, now: u64) -> Vec<&'static str> {
        let goes = |next| match next {
            Next::Goes(item) => item,
            Next::Late(..) => "late",
        };
        std::iter::from_fn(|| line.next(BOUNDS.deadline, at(now)).map(goes)).collect()
    }

    #[test]
    fn the_better_class_is_first_and_consumers_take_turns() {
        let mut line = Line::default();
        for (class, who, item) in
            [(Class::Normal, 1, "a1"), (Class::Normal, 1, "a2"), (Class::Normal, 2, "b1"), (Class::High, 3, "c")]
        {
            assert!(push(&mut line, class, who, item).is_some());
        }
        assert_eq!(all(&mut line, 10), ["c", "a1", "b1", "a2"]);
        assert!(line.is_empty());
    }

    #[test]
    fn who_comes_to_a_full_line_pushes_out_the_one_who_has_most_in_it() {
        let mut line = Line::default();
        for item in ["a1", "a2", "a3"] {
            assert!(push(&mut line, Class::Normal, 1, item).is_some());
        }
        assert!(push(&mut line, Class::Normal, 1, "a4").is_none(), "of one");
        assert!(push(&mut line, Class::Normal, 2, "b1").is_some());
        assert!(matches!(line.push(Class::Normal, 3, "c1", &BOUNDS, at(0)), Pushed::Instead(_, "a1", Class::Normal)));
        assert!(matches!(line.push(Class::Low, 4, "d1", &BOUNDS, at(0)), Pushed::Full { of_one: false }));
        assert!(matches!(line.push(Class::High, 5, "e1", &BOUNDS, at(0)), Pushed::Instead(_, "a2", _)));
        assert_eq!(all(&mut line, 10), ["e1", "a3", "b1", "c1"]);
    }

    #[test]
    fn a_line_that_stands_lets_the_newest_in_and_says_who_is_late() {
        let mut line = Line::default();
        push(&mut line, Class::Normal, 1, "old");
        for (item, came) in [("mid", 600), ("new", 1_100)] {
            assert!(matches!(line.push(Class::Normal, 1, item, &BOUNDS, at(came)), Pushed::Waits(_)));
        }
        assert_eq!(all(&mut line, 1_101), ["new", "mid", "late"]);
    }

    #[test]
    fn the_lowest_class_does_not_starve() {
        let mut line = Line::default();
        push(&mut line, Class::Low, 9, "low");
        let mut before = 0;
        loop {
            push(&mut line, Class::Critical, 1, "high");
            match line.next(BOUNDS.deadline, at(1)) {
                Some(Next::Goes("low")) => break,
                _ => before += 1,
            }
            assert!(before < MERCY);
        }
    }

    #[test]
    fn who_leaves_is_gone_and_leaves_once() {
        let mut line = Line::default();
        let first = push(&mut line, Class::Low, 1, "a").expect("there is room");
        let second = push(&mut line, Class::Low, 1, "b").expect("there is room");
        assert_eq!(line.leave(first), Some("a"));
        assert_eq!(line.leave(first), None);
        assert_eq!(all(&mut line, 1), ["b"]);
        assert_eq!(line.leave(second), None);
        assert_eq!((line.len(), line.of(Class::Low)), (0, 0));
    }
}
