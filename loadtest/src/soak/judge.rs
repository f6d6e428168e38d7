//! Reads an answer to its end and says what came of it, in the words of the list.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::sleep;

use super::ask::Expect;
use super::pattern::Expected;

/// Of a refusal, or of a chat.
const LONGEST_TEXT: usize = 1 << 20;
/// What a slow reader takes at a time, and how long it rests then.
const SIP: usize = 32 << 10;
const REST: Duration = Duration::from_millis(80);
const PIECE_OF_CHAT: &str = "\"content\":\"a word";

/// What is noted, and what is said beside it where it is not on the list.
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) detail: String,
}

impl Outcome {
    fn new(name: String, detail: impl Into<String>) -> Self {
        Self { name, detail: detail.into() }
    }
}

pub(super) async fn read(response: Response<Incoming>, expect: &Expect) -> Outcome {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    match expect {
        _ if status == 304 || status == 308 => Outcome::new(status.to_string(), ""),
        _ if !(200..300).contains(&status) => refusal(status, &mut body).await,
        Expect::Exactly(bytes) => whole(status, &mut body, Expected::new(bytes.clone()), false).await,
        Expect::Slowly(bytes) => whole(status, &mut body, Expected::new(bytes.clone()), true).await,
        Expect::BeginningOf(bytes) => whole(status, &mut body, Expected::new(bytes.clone()), false).await,
        Expect::Chat => chat(status, &mut body).await,
        Expect::ChatStream(pieces) => stream(status, &mut body, *pieces).await,
    }
}

async fn whole(status: u16, body: &mut Incoming, mut expected: Expected, slowly: bool) -> Outcome {
    let mut sip = 0;
    while let Some(frame) = body.frame().await {
        let piece = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(piece)) => piece,
            Ok(Err(_trailers)) => continue,
            Err(why) => {
                return Outcome::new(format!("{status} cut"), format!("after {} bytes: {why:?}", expected.seen()));
            }
        };
        if !expected.goes_on(&piece) {
            return Outcome::new(format!("{status} wrong"), format!("within {} bytes", expected.seen()));
        }
        sip += piece.len();
        if slowly && sip >= SIP {
            sip = 0;
            sleep(REST).await;
        }
    }
    match expected.is_whole() {
        true => Outcome::new(status.to_string(), ""),
        false => Outcome::new(format!("{status} wrong"), format!("ends after {} bytes", expected.seen())),
    }
}

async fn refusal(status: u16, body: &mut Incoming) -> Outcome {
    match text(body).await {
        Err(why) => Outcome::new(format!("{status} cut"), why),
        Ok(text) => match code(&text) {
            Some(code) => Outcome::new(format!("{status} {code}"), text),
            None => Outcome::new(status.to_string(), text),
        },
    }
}

/// Of a refusal of the gateway, in its own words or OpenAI's.
fn code(text: &str) -> Option<String> {
    let said: Value = serde_json::from_str(text).ok()?;
    Some(said["error"]["code"].as_str()?.to_owned())
}

async fn chat(status: u16, body: &mut Incoming) -> Outcome {
    let text = match text(body).await {
        Ok(text) => text,
        Err(why) => return Outcome::new(format!("{status} cut"), why),
    };
    let said: Value = serde_json::from_str(&text).unwrap_or_default();
    match said["choices"][0]["message"]["content"].as_str() {
        Some(content) if content.starts_with("a word or two") => Outcome::new(status.to_string(), ""),
        _ => Outcome::new(format!("{status} wrong"), text),
    }
}

async fn stream(status: u16, body: &mut Incoming, pieces: usize) -> Outcome {
    let text = match text(body).await {
        Ok(text) => text,
        Err(why) => return Outcome::new(format!("{status} cut"), why),
    };
    let mut told = text.split("\n\n").filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")));
    if let Some(error) = told.find(|data| data.contains("\"error\"")) {
        return Outcome::new(format!("{status} told {}", code(error).unwrap_or_default()), error);
    }
    match text.ends_with("data: [DONE]\n\n") && text.matches(PIECE_OF_CHAT).count() >= pieces {
        true => Outcome::new(status.to_string(), ""),
        false => Outcome::new(format!("{status} wrong"), text),
    }
}

async fn text(body: &mut Incoming) -> Result<String, String> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame.map_err(|why| format!("after {} bytes: {why:?}", text.len()))?.into_data() {
            text.extend_from_slice(&piece);
        }
        if text.len() > LONGEST_TEXT {
            return Err("longer than anything that was asked for".to_owned());
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_in_our_refusals_and_in_nothing_else() {
        assert_eq!(code(r#"{"error":{"code":"rate_limited","message":"m"}}"#).as_deref(), Some("rate_limited"));
        assert_eq!((code("the backend's own"), code(r#"{"error":{"code":null}}"#)), (None, None));
    }
}
