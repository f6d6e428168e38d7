//! What the fake provider does with a call: said by the name of the model that is asked for, so that the same provider serves
//! every measurement, through any gateway. `fake-events.64-pace.5-bytes.24-ttft.10-fault.break-every.10`, each part optional.

use std::time::Duration;

use serde_json::json;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    /// Data events of a stream, all of them together; at least 6.
    pub(super) events: usize,
    /// Between two events.
    pub(super) pace: Duration,
    /// Of text, in each event; a whole answer has 16 times as much.
    pub(super) bytes: usize,
    /// Until the head of the answer.
    pub(super) ttft: Duration,
    pub(super) fault: Option<Fault>,
    /// The fault hits each so many-th call.
    pub(super) every: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// 429 with `retry-after: 1`, or 500, 503, 529.
    Status(u16),
    /// Half of the events, then nothing more.
    Stall,
    /// Half of the events, then the connection is closed.
    Break,
}

/// Whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Words {
    OpenAi,
    Anthropic,
}

/// Ready to be written.
pub(super) struct Prepared {
    pub(super) script: Script,
    /// Head and body of an answer that is no stream.
    pub(super) whole: Vec<u8>,
    pub(super) head: Vec<u8>,
    /// Each in its chunk.
    pub(super) events: Vec<Vec<u8>>,
    /// Head and body of the fault, where it is one of status.
    pub(super) refusal: Vec<u8>,
}

pub(super) const END: &[u8] = b"0\r\n\r\n";
const USAGE: (u64, u64) = (64, 32);

impl Script {
    pub(super) fn of(model: &str) -> Self {
        let mut script =
            Self { events: 64, pace: Duration::ZERO, bytes: 20, ttft: Duration::ZERO, fault: None, every: 1 };
        for (name, value) in model.split('-').filter_map(|part| part.split_once('.')) {
            let number = value.parse::<u32>().unwrap_or(0);
            match name {
                "events" => script.events = (number as usize).clamp(6, 100_000),
                "pace" => script.pace = Duration::from_millis(number.into()),
                "bytes" => script.bytes = (number as usize).min(1 << 20),
                "ttft" => script.ttft = Duration::from_millis(number.into()),
                "every" => script.every = u64::from(number).max(1),
                "fault" => {
                    script.fault = match value {
                        "stall" => Some(Fault::Stall),
                        "break" => Some(Fault::Break),
                        _ => u16::try_from(number).ok().filter(|n| (400..600).contains(n)).map(Fault::Status),
                    };
                }
                _ => {}
            }
        }
        script
    }
}

impl Prepared {
    pub(super) fn new(words: Words, model: &str) -> Self {
        let script = Script::of(model);
        let body = whole(words, model, script.bytes * 16);
        let events = stream(words, model, &script);
        let refusal = match script.fault {
            Some(Fault::Status(status)) => refusal(words, status),
            _ => Vec::new(),
        };
        Self {
            whole: answer("200 OK", "", &body),
            head: b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
            events: events.iter().map(|event| chunk(event)).collect(),
            refusal,
            script,
        }
    }
}

fn answer(status: &str, more: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\n\r\n{body}")
        .into()
}

fn chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\r\n", event.len()).into()
}

fn refusal(words: Words, status: u16) -> Vec<u8> {
    let error = json!({"type": "fake_error", "message": "as the script says", "code": null, "param": null});
    let body = match words {
        Words::OpenAi => json!({"error": error}),
        Words::Anthropic => json!({"type": "error", "error": error}),
    };
    let more = if status == 429 { "retry-after: 1\r\n" } else { "" };
    answer(&format!("{status} No"), more, &body.to_string())
}

fn whole(words: Words, model: &str, bytes: usize) -> String {
    let (text, (input, output)) = (text(bytes), USAGE);
    match words {
        Words::OpenAi => json!({
            "id": "chatcmpl-fake", "object": "chat.completion", "created": 1_700_000_000, "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text, "refusal": null},
                         "logprobs": null, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
                      "prompt_tokens_details": {"cached_tokens": 0}},
        }),
        Words::Anthropic => json!({
            "id": "msg_fake", "type": "message", "role": "assistant", "model": model,
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": input, "output_tokens": output},
        }),
    }
    .to_string()
}

fn stream(words: Words, model: &str, script: &Script) -> Vec<String> {
    let (text, (input, output)) = (text(script.bytes), USAGE);
    let values = match words {
        Words::OpenAi => {
            let chunk = |choices, usage| {
                json!({"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1_700_000_000,
                       "model": model, "choices": choices, "usage": usage})
            };
            let delta =
                |delta, reason| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]);
            let null = || serde_json::Value::Null;
            let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
            let mut values = vec![chunk(delta(json!({"role": "assistant", "content": ""}), null()), null())];
            values.resize(script.events - 3, chunk(delta(json!({"content": text}), null()), null()));
            values.push(chunk(delta(json!({}), "stop".into()), null()));
            values.push(chunk(json!([]), usage));
            values
        }
        Words::Anthropic => {
            let message = json!({"id": "msg_fake", "type": "message", "role": "assistant", "model": model,
                "content": [], "stop_reason": null, "stop_sequence": null,
                "usage": {"input_tokens": input, "output_tokens": 1}});
            let delta =
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
            let mut values = vec![json!({"type": "message_start", "message": message})];
            values.push(
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            );
            values.resize(script.events - 3, delta);
            values.push(json!({"type": "content_block_stop", "index": 0}));
            values.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
                               "usage": {"output_tokens": output}}));
            values.push(json!({"type": "message_stop"}));
            values
        }
    };
    let named = |value: &serde_json::Value| match words {
        Words::OpenAi => format!("data: {value}\n\n"),
        Words::Anthropic => format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default()),
    };
    let mut events: Vec<String> = values.iter().map(named).collect();
    if words == Words::OpenAi {
        events.push("data: [DONE]\n\n".to_owned());
    }
    events
}

fn text(bytes: usize) -> String {
    "a word or two of it ".chars().cycle().take(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_as_many_events_as_its_name_says_in_either_dialect() {
        for words in [Words::OpenAi, Words::Anthropic] {
            for count in [6, 64] {
                let prepared = Prepared::new(words, &format!("fake-events.{count}-bytes.7"));
                assert_eq!(prepared.events.len(), count, "{words:?}");
                let text = String::from_utf8_lossy(&prepared.events[3]).into_owned();
                assert!(count == 6 || text.contains("\"a word \""), "{text}");
            }
        }
    }

    #[test]
    fn faults_are_said_by_the_name_and_nothing_else_is_understood() {
        let of = |model| Script::of(model).fault;
        assert_eq!(of("fake-fault.429-every.10"), Some(Fault::Status(429)));
        assert_eq!((of("fake-fault.stall"), of("fake-fault.break")), (Some(Fault::Stall), Some(Fault::Break)));
        assert_eq!((of("fake"), of("fake-fault.200"), of("fake-fault.x")), (None, None, None));
        assert_eq!(Script::of("fake-every.10-ttft.7").every, 10);
    }
}
