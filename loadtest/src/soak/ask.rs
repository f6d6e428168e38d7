//! One request of the mixed traffic: what it is, and what its answer has to be.

use std::time::Duration;

use bytes::Bytes;
use hyper::Request;

use super::backend::{self, Fault};
use super::document::{COMING, MODELS};
use super::line::Line;
use super::listed::Kind;
use super::pattern::{Dice, LONGEST, SEEDS, body};
use super::upload::Upload;

/// Keys of the cache that are asked for.
const KEPT: usize = 240;
/// Values of the header that a limit counts by.
const DEVICES: usize = 400;
const EVENTS: usize = 40;

pub(super) struct Ask {
    pub(super) kind: Kind,
    pub(super) method: &'static str,
    pub(super) path: String,
    headers: Vec<(&'static str, String)>,
    send: Send,
    pub(super) expect: Expect,
}

#[derive(Debug, Clone)]
enum Send {
    Nothing,
    Whole(Bytes),
    Chunked(Bytes),
    Slowly(Bytes),
}

/// Of an answer that is no refusal.
#[derive(Debug, Clone)]
pub(super) enum Expect {
    Exactly(Bytes),
    /// The same, read a bit at a time.
    Slowly(Bytes),
    /// It may end early, but not differ before that.
    BeginningOf(Bytes),
    /// A chat that is whole.
    Chat,
    /// A stream of chat with so many pieces of text at least.
    ChatStream(usize),
}

/// How often each is drawn, of 100.
const SHARES: [(usize, Kind); 12] = [
    (34, Kind::Small),
    (6, Kind::Large),
    (18, Kind::Cached),
    (12, Kind::Limited),
    (3, Kind::Fixed),
    (6, Kind::GoodKey),
    (2, Kind::BadKey),
    (1, Kind::NoKey),
    (4, Kind::Coming),
    (4, Kind::Twins),
    (4, Kind::Alone),
    (6, Kind::Faulty(Fault::Close)), // stands for all of them
];

impl Ask {
    /// Any of the short ones.
    pub(super) fn draw(dice: &mut Dice, key: &str) -> Self {
        let mut left = dice.below(SHARES.iter().map(|(share, _)| share).sum());
        let drawn = SHARES.iter().find(|(share, _)| {
            let hit = left < *share;
            left = left.saturating_sub(*share);
            hit
        });
        match drawn.map_or(Kind::Small, |(_, kind)| *kind) {
            Kind::Large => Self::large(dice),
            Kind::Cached => Self::cached(dice),
            Kind::Limited => {
                Self::small(Kind::Limited, "/limited", dice).with("x-device", format!("device-{}", dice.below(DEVICES)))
            }
            Kind::Fixed => Self::fixed(dice),
            Kind::GoodKey => Self::small(Kind::GoodKey, "/keyed", dice).with("authorization", format!("Bearer {key}")),
            Kind::BadKey => {
                let wrong = format!("{}{:04}", &key[..key.len().saturating_sub(4)], dice.below(10_000));
                Self::small(Kind::BadKey, "/keyed", dice).with("x-api-key", wrong)
            }
            Kind::NoKey => Self::small(Kind::NoKey, "/keyed", dice),
            Kind::Coming => Self::small(Kind::Coming, &format!("/coming/{}", dice.below(COMING)), dice),
            Kind::Twins => Self::small(Kind::Twins, "/twins", dice),
            Kind::Alone => Self::small(Kind::Alone, "/alone", dice),
            Kind::Faulty(_) => Self::faulty(*dice.one_of(&Fault::ALL)),
            _ => Self::small_either_way(dice),
        }
    }

    fn get(kind: Kind, path: String, expect: Bytes) -> Self {
        let expect = Expect::Exactly(expect);
        Self { kind, method: "GET", path, headers: Vec::new(), send: Send::Nothing, expect }
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    fn small(kind: Kind, before: &str, dice: &mut Dice) -> Self {
        let (seed, length) = (dice.below(SEEDS), dice.below(4 << 10));
        Self::get(kind, format!("{before}/bytes/{seed}/{length}"), body(seed, length))
    }

    fn small_either_way(dice: &mut Dice) -> Self {
        match dice.below(4) {
            0 => Self::echo(Kind::Small, 4 << 10, dice),
            _ => Self::small(Kind::Small, "", dice),
        }
    }

    fn large(dice: &mut Dice) -> Self {
        // Most are nearer 64 KiB than a MiB.
        let longest = LONGEST >> dice.below(5);
        if dice.below(3) == 0 {
            return Self::echo(Kind::Large, longest, dice);
        }
        let (seed, length) = (dice.below(SEEDS), longest / 2 + dice.below(longest / 2));
        let how = dice.one_of(&["bytes", "chunks"]);
        Self::get(Kind::Large, format!("/{how}/{seed}/{length}"), body(seed, length))
    }

    fn echo(kind: Kind, longest: usize, dice: &mut Dice) -> Self {
        let bytes = body(dice.below(SEEDS), 1 + dice.below(longest));
        let send = if dice.below(2) == 0 { Send::Whole(bytes.clone()) } else { Send::Chunked(bytes.clone()) };
        Self { method: "POST", send, ..Self::get(kind, "/echo".to_owned(), bytes) }
    }

    fn cached(dice: &mut Dice) -> Self {
        // Few are asked for often.
        let bound = 1 + dice.below(KEPT);
        let nth = dice.below(bound);
        let ask = Self::get(Kind::Cached, format!("/kept/{nth}"), backend::kept_body(nth));
        if dice.below(8) == 0 { ask.with("if-none-match", backend::etag(nth)) } else { ask }
    }

    fn fixed(dice: &mut Dice) -> Self {
        match dice.below(2) {
            0 => Self::get(Kind::Fixed, "/fixed".to_owned(), Bytes::from_static(b"fixed")),
            _ => Self::get(Kind::Fixed, format!("/moved/{}", dice.below(100)), Bytes::new()),
        }
    }

    fn faulty(fault: Fault) -> Self {
        let path = format!("/faulty/{}", fault.name());
        if fault == Fault::Early {
            let ask = Self::get(Kind::Faulty(fault), path, Bytes::from_static(b"enough"));
            return Self { method: "POST", send: Send::Whole(body(0, 48 << 10)), ..ask };
        }
        let expect = Expect::BeginningOf(body(0, backend::PROMISED));
        Self { expect, ..Self::get(Kind::Faulty(fault), path, Bytes::new()) }
    }

    pub(super) fn events() -> Self {
        Self::get(Kind::Events, format!("/events/{EVENTS}"), backend::all_events(EVENTS))
    }

    pub(super) fn slow_reader(dice: &mut Dice) -> Self {
        let seed = dice.below(SEEDS);
        let ask = Self::get(Kind::SlowReader, format!("/bytes/{seed}/{LONGEST}"), Bytes::new());
        Self { expect: Expect::Slowly(body(seed, LONGEST)), ..ask }
    }

    pub(super) fn slow_sender(dice: &mut Dice) -> Self {
        let bytes = body(dice.below(SEEDS), 400 << 10);
        let send = Send::Slowly(bytes.clone());
        Self { method: "POST", send, ..Self::get(Kind::SlowSender, "/echo".to_owned(), bytes) }
    }

    pub(super) fn chat(dice: &mut Dice) -> Self {
        let (model, kind, stream) = *dice.one_of(&MODELS);
        let call = serde_json::json!({
            "model": model,
            "messages": [{"role": "user", "content": format!("Which way is shorter, {} or the other?", dice.below(1_000))}],
            "max_tokens": 256,
            "stream": stream,
        });
        let expect = if stream { Expect::ChatStream(5) } else { Expect::Chat };
        let send = Send::Whole(call.to_string().into());
        let ask = Self::get(kind, "/llm/v1/chat/completions".to_owned(), Bytes::new());
        Self { method: "POST", send, expect, ..ask }.with("content-type", "application/json".to_owned())
    }

    /// In the form that the connection speaks.
    pub(super) fn request(&self, line: &Line) -> Request<Upload> {
        let mut request = line.request(self.method, &self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let upload = match &self.send {
            Send::Nothing => Upload::default(),
            Send::Whole(body) => Upload::of_known_length(body.clone()),
            Send::Chunked(body) => Upload::in_chunks(body.clone()),
            Send::Slowly(body) => Upload::in_chunks(body.clone()).slowly(Duration::from_millis(150)),
        };
        request.body(upload).expect("paths and headers of ours are valid")
    }
}
