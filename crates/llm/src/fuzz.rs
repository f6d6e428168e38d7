//! What the fuzzer calls (docs/fuzzing.md), and tests with what it kept. Any bytes: nothing panics, promises hold, cuts make
//! no difference.

use tidegate_coding::{Coding, Decoding, Spoiled};

use crate::bounds::Bounds;
use crate::frame::{FrameKind, aws, sse};
use crate::kept::{self, Tag};
use crate::meaning::{Collector, Event};
use crate::peek::peek;
use crate::splice::{Edit, splice, splice_peeked, without};
use crate::tap::Tap;
use crate::{Dialect, Glance, Losses, Reply, Site, Target, count, embed};

const SMALL: Bounds = Bounds { frame: 4_096, blocks: 16, held: 8_192 };

/// The first byte says how the rest is cut, and which dialect is read.
fn parts(bytes: &[u8]) -> Option<(Dialect, usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let dialect = Dialect::ALL[usize::from(*first) % Dialect::ALL.len()];
    Some((dialect, usize::from(*first / 8) + 1, rest))
}

/// Server-sent events: frames do not depend on cuts.
pub fn sse(bytes: &[u8]) {
    let Some((_, step, bytes)) = parts(bytes) else { return };
    let frames = |step: usize| {
        let mut decoder = sse::Decoder::new(SMALL.frame);
        let mut frames = Vec::new();
        let mut take = |frame: crate::frame::Frame<'_>| frames.push((frame.name.to_owned(), frame.data.to_vec()));
        let well = bytes.chunks(step).all(|piece| decoder.push(piece, &mut take).is_ok());
        if well {
            decoder.finish(&mut take);
        }
        (well, frames)
    };
    let whole = frames(usize::MAX);
    assert_eq!(whole, frames(step), "other cuts, other frames");
    for (name, data) in &whole.1 {
        // What was read is written and read the same; line ends within data are ends of lines.
        if name.contains(['\r', '\n']) || data.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            continue;
        }
        let mut out = Vec::new();
        sse::write((!name.is_empty()).then_some(name), data, &mut out);
        let mut again = Vec::new();
        let mut decoder = sse::Decoder::new(usize::MAX);
        let read = decoder.push(&out, &mut |frame| again.push(frame.data.to_vec()));
        assert!(read.is_ok() && again == [data.clone()], "an event was not read as it was written");
    }
}

/// What somebody compressed: however it is cut, the same comes out, and never beyond all measure. Of brotli only as far as both
/// go: its decoder lets a block that says a wrong length pass or not, by whether it has to wait for input right behind it.
pub fn coding(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let coding = Coding::ALL[usize::from(*first) % Coding::ALL.len()];
    let read = |step: usize| {
        let (mut decoding, mut out) = (Decoding::new(coding), Vec::new());
        let spoiled = bytes.chunks(step).try_for_each(|mut piece| {
            while let Some(data) = decoding.piece(&mut piece)? {
                out.extend_from_slice(&data);
            }
            assert!(piece.is_empty(), "bytes were left, and nothing came of them");
            Ok::<_, Spoiled>(())
        });
        (spoiled.map(|()| decoding.is_whole()), out)
    };
    let ((whole, all), (cut, parts)) = (read(usize::MAX), read(usize::from(*first / 4) + 1));
    if [&whole, &cut].contains(&&Err(Spoiled::TooLong)) {
        return;
    }
    assert!(all.starts_with(&parts) || parts.starts_with(&all), "other cuts, other text");
    if coding != Coding::Brotli {
        assert_eq!(whole, cut, "other cuts, another outcome");
    }
    if let (Ok(whole), Ok(cut)) = (whole, cut) {
        assert_eq!((whole, all), (cut, parts), "other cuts, other text");
    }
}

/// Amazon's event stream: as they come, and with right checksums.
pub fn event_stream(bytes: &[u8]) {
    let Some((_, step, bytes)) = parts(bytes) else { return };
    let frames = |bytes: &[u8], step: usize| {
        let mut decoder = aws::Decoder::new(SMALL.frame);
        let mut frames = Vec::new();
        let mut take = |frame: crate::frame::Frame<'_>| frames.push((frame.name.to_owned(), frame.data.to_vec()));
        let well = bytes.chunks(step).all(|piece| decoder.push(piece, &mut take).is_ok());
        (well, frames)
    };
    assert_eq!(frames(bytes, usize::MAX), frames(bytes, step), "other cuts, other frames");
    let (name, data) = bytes.split_at(bytes.len().min(12));
    let name = String::from_utf8_lossy(name).into_owned();
    let data = &data[..data.len().min(2_048)];
    let mut out = Vec::new();
    for kind in [FrameKind::Data, FrameKind::Exception] {
        aws::write(kind, &name, data, &mut out);
    }
    let (well, read) = frames(&out, step);
    assert!(well && read == vec![(name, data.to_vec()); 2], "a frame was not read as it was written");
    stream_of(Dialect::Bedrock, &out, step);
}

/// A provider's stream in each dialect, told in each other.
pub fn stream(bytes: &[u8]) {
    let Some((dialect, step, bytes)) = parts(bytes) else { return };
    stream_of(dialect, bytes, step);
}

fn stream_of(dialect: Dialect, bytes: &[u8], step: usize) {
    let events = decoded(dialect, bytes, usize::MAX);
    assert_eq!(events, decoded(dialect, bytes, step), "other cuts, other events");
    check(&events);
    let mut collector = Collector::new(dialect);
    events.iter().for_each(|event| collector.push(event));
    let _answer = collector.finish();
    for to in Dialect::ALL {
        let reply = Reply { include_usage: true, sse: step.is_multiple_of(2), bounds: SMALL, ..Reply::default() };
        let mut encoder = to.encoder(reply);
        let mut out = Vec::new();
        events.iter().for_each(|event| encoder.push(event.clone(), &mut out));
        check(&decoded(to, &out, usize::MAX));
    }
    whole_events(dialect, bytes);
    let _answer = dialect.gathered(bytes, SMALL);
    let tagged = |step: usize| {
        let (mut tap, mut out) = (Tap::tagging(Tag::of("some", ""), SMALL), Vec::new());
        bytes.chunks(step).for_each(|piece| tap.push(piece, &mut out));
        tap.finish(&mut out);
        out
    };
    // Longer events pass in parts, and untouched.
    assert!(bytes.len() >= SMALL.frame || tagged(usize::MAX) == tagged(step), "other cuts, other ids");
    for include_usage in [true, false] {
        let mut tap = Tap::new(dialect, include_usage, SMALL);
        let mut out = Vec::new();
        bytes.chunks(step).for_each(|piece| tap.push(piece, &mut out));
        tap.finish(&mut out);
        assert!(!include_usage || out == bytes, "a stream that passes changed");
    }
}

/// What is open has told nothing yet.
fn whole_events(dialect: Dialect, bytes: &[u8]) {
    let told = |bytes: &[u8]| {
        let (mut decoder, mut events) = (dialect.decoder(SMALL), Vec::new());
        decoder.push(bytes, &mut events);
        (events, decoder.open())
    };
    let (events, open) = told(bytes);
    let (before, none) = told(&bytes[..bytes.len() - open]);
    assert_eq!((before, none), (events, 0), "{dialect:?}: an event in what is no whole one");
}

fn decoded(dialect: Dialect, bytes: &[u8], step: usize) -> Vec<Event> {
    let mut decoder = dialect.decoder(SMALL);
    let mut events = Vec::new();
    bytes.chunks(step).for_each(|piece| decoder.push(piece, &mut events));
    decoder.finish(&mut events);
    events
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// The promises of `meaning/event.rs`.
fn check(events: &[Event]) {
    let (mut open, mut next, mut over) = (Vec::new(), 0, false);
    for (i, event) in events.iter().enumerate() {
        assert!(!over, "{event:?} after the end");
        match event {
            Event::Start(_) => assert_eq!(i, 0, "a second start"),
            Event::Open { block, .. } => {
                assert_eq!(*block, next, "blocks are numbered as they open");
                next += 1;
                open.push(*block);
            }
            Event::Delta { block, .. } => assert!(open.contains(block), "a delta outside its block"),
            Event::Close { block } => {
                assert!(open.contains(block), "a block closed that was not open");
                open.retain(|open| open != block);
            }
            Event::Stop(_) => assert!(open.is_empty(), "a block is open at the stop"),
            Event::End | Event::Error(_) => over = true,
            Event::Usage(_) | Event::Ping => {}
        }
    }
    assert!(over, "neither an end nor an error");
}

/// A caller's body in each dialect: peeked, spliced, read, told in each other; and as a provider's answer.
pub fn call(bytes: &[u8]) {
    let Some((dialect, step, bytes)) = parts(bytes) else { return };
    let site = Site { model: Some("some-model"), stream: step.is_multiple_of(2) };
    let edits: Vec<Edit> = Edit::model(dialect, "other")
        .into_iter()
        .chain([Edit::max_tokens(dialect, false, 7), Edit::include_usage()])
        .collect();
    if let Ok(Some(spliced)) = splice(bytes, &edits) {
        assert!(is_json(&spliced), "a splice broke the body");
    }
    if let Ok(Some(less)) = without(bytes, "model") {
        assert!(is_json(&less), "taking a member out broke the body");
    }
    if is_json(bytes) {
        let named = kept::named(bytes).ok().flatten().map(|named| named.body);
        for body in [kept::tagged(bytes, Tag::of("some", "")), named].into_iter().flatten() {
            assert!(is_json(&body), "an id broke the body");
        }
    }
    if let Ok(peeked) = peek(dialect, bytes, site) {
        assert_eq!(splice_peeked(bytes, &peeked, &edits), splice(bytes, &edits));
    }
    if let Ok(embed) = embed::Embed::parse(bytes) {
        for to in [embed::Embedder::Cohere, embed::Embedder::Gemini, embed::Embedder::Titan] {
            let _body = embed.render(to, "m");
            let _answer = embed.answer(to, bytes, "m", 1);
        }
    }
    if let Ok(call) = dialect.parse_call(bytes, site) {
        count::estimate(&call);
        for to in Dialect::ALL {
            let mut losses = Losses::new(dialect);
            let body = to.render_call(&call, &Target::guess(to, "some-model"), &mut losses);
            // Its own dialect's strange blocks go back as they came: what they are is for its provider to say.
            let read = to.parse_call(&body, site);
            assert!(to == dialect || read.is_ok(), "{to:?} cannot read what we wrote for it: {read:?}");
            assert!(losses.header().is_ascii());
        }
    }
    if let Ok(answer) = dialect.parse_answer(bytes) {
        assert_eq!(dialect.glance(bytes), Ok(Glance::of(&answer)), "{dialect:?}");
        for to in Dialect::ALL {
            let body = to.render_answer(&answer, &Reply::default());
            assert!(to.parse_answer(&body).is_ok(), "{to:?} cannot read the answer we wrote");
            crate::unsaid::Unsaid::of_answer(&answer, to);
        }
    }
    let error = dialect.parse_error(400 + u16::from(bytes.first().copied().unwrap_or_default()), &|_| None, bytes);
    for to in Dialect::ALL {
        let body = to.render_error(&error);
        assert!(is_json(&body));
    }
}
