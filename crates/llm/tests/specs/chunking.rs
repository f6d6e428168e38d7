//! No bytes panic, and where they were cut makes no difference.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tidegate_llm::bounds::Bounds;
use tidegate_llm::meaning::{BlockKind, Delta, Event};
use tidegate_llm::peek::peek;
use tidegate_llm::splice::{Edit, splice};
use tidegate_llm::tap::Tap;
use tidegate_llm::{Dialect, Glance, Losses, Site, Target};

use crate::support::{check_promises, encode, recordings, reply};

const SITE: Site<'_> = Site { model: Some("m"), stream: true };

/// A stream of each dialect with everything in it.
fn sample(dialect: Dialect) -> Vec<u8> {
    let answer = json!({
        "id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "reasoning_details": [{"type": "reasoning.text", "text": "thinking", "signature": "TGsigAN0c2ln", "index": 0}],
            "content": "some \"text\"\nwith é and 🎉",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":[1,{\"y\":\"z\"}]}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    });
    let answer = Dialect::OpenAiChat.parse_answer(answer.to_string().as_bytes()).expect("it is valid");
    encode(dialect, &answer.events(), true)
}

fn cut(dialect: Dialect, bytes: &[u8], cuts: &[usize]) -> Vec<Event> {
    let mut decoder = dialect.decoder(Bounds { frame: 4_096, blocks: 8, held: 4_096 });
    let mut events = Vec::new();
    let mut rest = bytes;
    for cut in cuts {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        decoder.push(piece, &mut events);
        rest = after;
    }
    decoder.push(rest, &mut events);
    decoder.finish(&mut events);
    events
}

fn through_everything(dialect: Dialect, bytes: &[u8], cuts: &[usize]) {
    let events = cut(dialect, bytes, &[]);
    assert_eq!(events, cut(dialect, bytes, cuts), "{dialect:?}");
    check_promises(&events).expect("promises hold for any bytes");
    for out in Dialect::ALL {
        encode(out, &events, cuts.len().is_multiple_of(2));
    }
    let mut tap = Tap::new(dialect, cuts.len().is_multiple_of(2), Bounds::default());
    let mut out = Vec::new();
    tap.push(bytes, &mut out);
    tap.finish(&mut out);
}

/// JSON with the names that matter in places where they do not belong.
fn tangled() -> impl Strategy<Value = Value> {
    const NAMES: &str = "model|messages|contents|input|role|content|parts|type|text|tool_calls|function|name|arguments|\
        id|call_id|tools|tool_choice|system|thinking|signature|choices|delta|message|usage|candidates|functionCall|args|\
        output|item|response|error|code|status|index|content_block|partial_json|toolUse|input_schema|reasoning_details|\
        image_url|url|source|data|stop|generationConfig|thinkingConfig|summary|partialArgs|jsonPath|willContinue";
    let names: Vec<&str> = NAMES.split('|').map(str::trim).collect();
    const TEXTS: &str = "user|assistant|model|tool|text|tool_use|tool_result|function|message|reasoning|function_call|auto|\
        message_start|content_block_start|content_block_delta|input_json_delta|response.completed|$.a[3].b|data:a;base64,x|";
    let texts: Vec<&str> = TEXTS.split('|').collect();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(texts).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 96, 6, move |inner| {
        let name = proptest::sample::select(names.clone());
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..7).prop_map(|members| Value::Object(
                members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn line_3_any_bytes_in_any_pieces_are_the_same_events(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        cuts in proptest::collection::vec(0usize..40, 0..30),
    ) {
        for dialect in Dialect::ALL {
            through_everything(dialect, &bytes, &cuts);
        }
    }

    #[test]
    fn a_stream_with_some_bytes_broken_keeps_the_promises(
        wounds in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cuts in proptest::collection::vec(0usize..90, 0..30),
    ) {
        for dialect in Dialect::ALL {
            let mut bytes = sample(dialect);
            for (at, byte) in &wounds {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            through_everything(dialect, &bytes, &cuts);
        }
    }

    #[test]
    fn tangled_bodies_and_events_are_read_or_refused(value in tangled(), wrapped in tangled()) {
        let body = value.to_string();
        for dialect in Dialect::ALL {
            if let Ok(call) = dialect.parse_call(body.as_bytes(), SITE) {
                for out in Dialect::ALL {
                    let mut losses = Losses::new(dialect);
                    let rendered = out.render_call(&call, &Target::guess(out, "claude-opus-4-6"), &mut losses);
                    assert!(serde_json::from_slice::<Value>(&rendered).is_ok());
                }
            }
            if let Ok(answer) = dialect.parse_answer(body.as_bytes()) {
                assert_eq!(dialect.glance(body.as_bytes()), Ok(Glance::of(&answer)));
                Dialect::ALL.iter().for_each(|out| drop(out.render_answer(&answer, &reply(true))));
            }
            let error = dialect.parse_error(429, &|_| Some("7"), body.as_bytes());
            Dialect::ALL.iter().for_each(|out| drop(out.render_error(&error)));
            let _ = peek(dialect, body.as_bytes(), SITE);
            let _ = splice(body.as_bytes(), &[Edit::max_tokens(dialect, true, 1), Edit::include_usage()]);
            let stream = crate::support::on_the_wire(dialect, &[value.clone(), wrapped.clone()]);
            through_everything(dialect, &stream, &[3, 40]);
        }
    }
}

#[test]
fn nesting_beyond_reason_is_refused_without_a_fall() {
    let deep = format!("{{\"model\":\"m\",\"messages\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for dialect in Dialect::ALL {
        assert!(dialect.parse_call(deep.as_bytes(), SITE).is_err());
        assert!(dialect.parse_answer(deep.as_bytes()).is_err());
        let _ = peek(dialect, deep.as_bytes(), SITE);
    }
}

#[test]
fn an_answer_of_too_many_blocks_ends_in_an_error() {
    let call = |i: usize| {
        json!({"choices": [{"delta": {"tool_calls": [{"index": i, "id": format!("c{i}"),
        "function": {"name": "f", "arguments": "{}"}}]}}]})
    };
    let stream = crate::support::on_the_wire(Dialect::OpenAiChat, &(0..20).map(call).collect::<Vec<_>>());
    let events = cut(Dialect::OpenAiChat, &stream, &[]);
    assert!(matches!(events.last(), Some(Event::Error(error)) if error.message.contains("more blocks")), "{events:?}");
}

/// What is skimmed tells all but text: usage, the stop, the end.
#[test]
fn a_stream_that_is_skimmed_tells_its_usage_and_its_end() {
    for dialect in Dialect::ALL {
        let bytes = sample(dialect);
        let all = cut(dialect, &bytes, &[]);
        let mut decoder = dialect.decoder(Bounds::default());
        let mut events = Vec::new();
        decoder.skim(dialect);
        bytes.chunks(7).for_each(|piece| decoder.push(piece, &mut events));
        decoder.finish(&mut events);
        check_promises(&events).expect("promises hold");
        let told = |events: &[Event]| {
            let ends = events.iter().filter(|event| matches!(event, Event::Usage(_) | Event::Stop(_) | Event::End));
            ends.cloned().collect::<Vec<_>>()
        };
        assert_eq!(told(&events), told(&all), "{dialect:?}");
        assert!(
            dialect == Dialect::Gemini || decoder.skipped().pieces > 0 && decoder.skipped().text > 0,
            "{dialect:?}"
        );
    }
}

/// Text that is passed over is measured as what is read: by what it says, not by what is around it.
#[test]
fn the_text_of_a_stream_that_is_skimmed_is_as_long_as_when_it_is_read() {
    let same = |name: &str, dialect, bytes: &[u8]| {
        let ((read, more), (skimmed, _)) = (measured(dialect, bytes, false), measured(dialect, bytes, true));
        assert!((read..=read.saturating_add(more)).contains(&skimmed), "{name} {dialect:?}: {skimmed} of {read}");
    };
    Dialect::ALL.into_iter().for_each(|dialect| same("sample", dialect, &sample(dialect)));
    let cases = recordings("skimmed");
    let streams = cases.iter().filter(|case| case.status == 200 && case.stream);
    streams.for_each(|case| same(&case.name, case.dialect, &case.body));
}

/// Bytes of text, read or passed over once the first of it was read; and how many more they may be when it is skimmed.
fn measured(dialect: Dialect, bytes: &[u8], skims: bool) -> (u64, u64) {
    let mut decoder = dialect.decoder(Bounds::default());
    let mut events = Vec::new();
    let read = |events: &[Event]| {
        let texts = events.iter().map(|event| match event {
            Event::Delta { delta: Delta::Text(text) | Delta::Arguments(text), .. } => text.len() as u64,
            _ => 0,
        });
        texts.sum::<u64>()
    };
    for piece in bytes.chunks(7) {
        decoder.push(piece, &mut events);
        if skims && read(&events) > 0 {
            decoder.skim(dialect);
        }
    }
    decoder.finish(&mut events);
    let more = events.iter().map(|event| match event {
        // One whose arguments were passed over ends as one without any does.
        Event::Open { kind: BlockKind::ToolCall { .. }, .. } => 2,
        // What the model says to its provider's own tools is nobody's text, and billed.
        Event::Open { kind: BlockKind::Foreign { .. }, .. } => u64::MAX,
        _ => 0,
    });
    (read(&events) + decoder.skipped().text, more.fold(0, u64::saturating_add))
}
