//! The usual call, which is texts by roles and a few numbers, read without a tree. Whatever is unusual about it is read the
//! long way, which is the one that counts: this one says the same, or nothing.

use serde_json::{Map, Number};

use crate::Dialect;
use crate::json::{At, Look as _};
use crate::meaning::{Call, Message, Part, Role};

/// `None`: it has more than that.
pub(super) fn read(root: At<'_>) -> Option<Call> {
    let mut call = Call::new(Dialect::OpenAiChat);
    let (mut seen, mut old) = (0_u32, None);
    for (name, value) in root.members() {
        let bit = match name? {
            "model" => {
                call.model = value.text()?.into_owned();
                1
            }
            "messages" => {
                messages(value, &mut call)?;
                2
            }
            "stream" => {
                call.stream = value.flag()?;
                4
            }
            "max_tokens" => {
                old = Some(value.whole()?);
                8
            }
            "max_completion_tokens" => {
                call.max_tokens = Some(value.whole()?);
                16
            }
            "temperature" => {
                call.sampling.temperature = Some(number(value)?);
                32
            }
            "top_p" => {
                call.sampling.top_p = Some(number(value)?);
                64
            }
            "user" => {
                call.end_user = Some(value.text()?.into_owned());
                128
            }
            "stream_options" => {
                let mut options = value.members();
                let (Some((Some("include_usage"), asked)), None) = (options.next(), options.next()) else {
                    return None;
                };
                call.include_usage = asked.flag()?;
                256
            }
            _ => return None,
        };
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
    }
    call.max_tokens = call.max_tokens.or(old);
    (seen & 3 == 3).then_some(call)
}

fn number(value: At<'_>) -> Option<Number> {
    value.number()?.parse().ok()
}

fn messages(list: At<'_>, call: &mut Call) -> Option<()> {
    if !list.is_list() {
        return None;
    }
    for (origin, message) in list.items().enumerate() {
        let (mut role, mut content) = (None, None);
        for (name, value) in message.members() {
            let place = match name? {
                "role" => &mut role,
                "content" => &mut content,
                _ => return None,
            };
            if place.replace(value.text()?).is_some() {
                return None;
            }
        }
        let parts = vec![Part::text(content?)];
        let role = match &*role? {
            "system" | "developer" if call.messages.is_empty() => {
                call.system.extend(parts);
                continue;
            }
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => return None,
        };
        call.messages.push(Message { role, parts, name: None, origin, extras: Map::new() });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::parse_by_fields;
    use crate::json::Doc;

    #[test]
    fn what_is_read_at_once_is_what_is_read_the_long_way() {
        let chat = r#""messages":[{"role":"system","content":"a\n"},{"role":"user","content":"b"}]"#;
        for (rest, is_usual) in [
            ("", true),
            (r#","stream":true,"stream_options":{"include_usage":true},"temperature":0.70,"top_p":1"#, true),
            (r#","max_tokens":5,"max_completion_tokens":7.0,"user":"\u00e9""#, true),
            (r#","max_tokens":null"#, false),
            (r#","tools":[]"#, false),
            (r#","stream":false,"stream":true"#, false),
            (r#","stream_options":{"include_usage":true,"x":1}"#, false),
            (r#","mod\u0065l":"y""#, false),
        ] {
            let body = format!("{{\"model\":\"m\",{chat}{rest}}}");
            let doc = Doc::read(body.as_bytes()).expect("valid");
            let read = super::read(doc.root());
            assert_eq!(read.is_some(), is_usual, "{body}");
            assert!(read.is_none() || read == parse_by_fields(body.as_bytes()).ok(), "{body}");
        }
        for (messages, is_usual) in [
            (
                r#"{"role":"user","content":""},{"role":"developer","content":"d"},{"content":"e","role":"assistant"}"#,
                true,
            ),
            (r#"{"role":"developer","content":"d"},{"role":"system","content":"e"}"#, true),
            (r#"{"role":"user","content":[{"type":"text","text":"t"}]}"#, false),
            (r#"{"role":"user","content":"t","name":"n"}"#, false),
            (r#"{"role":"user"}"#, false),
            (r#"{"role":"tool","content":"t"}"#, false),
            (r#"{"role":"user","content":"t","content":"u"}"#, false),
            ("7", false),
        ] {
            let body = format!("{{\"messages\":[{messages}],\"model\":\"m\"}}");
            let doc = Doc::read(body.as_bytes()).expect("valid");
            let read = super::read(doc.root());
            assert_eq!(read.is_some(), is_usual, "{body}");
            assert!(read.is_none() || read == parse_by_fields(body.as_bytes()).ok(), "{body}");
        }
    }
}
