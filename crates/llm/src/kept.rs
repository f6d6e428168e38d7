//! Ids of what a provider keeps: an answer that a later call names goes to its caller as `<tag>_<original>`, and the tag says
//! who made it, so that any node finds the way back. Nothing is remembered for it.
//!
//! The same goes for thoughts that only who sealed them can open (llm-wire line 13).
//!
//! Owns: where such ids stand in the bytes of OpenAI's Responses. Refuses to know who the makers are.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use memchr::memmem;
use serde_json::value::RawValue;

use crate::json::Malformed;
use crate::names::fnv;
use crate::seek;
use crate::spans::{self, Member};

/// Who keeps what an id names. Written `tg` and twelve digits, the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u64);

const MARK: &str = "tg";
const DIGITS: usize = 12;

impl Tag {
    /// `account`: what tells one account at a provider from another.
    #[must_use]
    pub fn of(provider: &str, account: &str) -> Self {
        let mut name = provider.as_bytes().to_vec();
        name.push(0);
        name.extend_from_slice(account.as_bytes());
        Self(fnv(&name) >> 16)
    }

    fn wrap(self, id: &str) -> String {
        format!("{self}_{id}")
    }

    /// The tag and the provider's own id; `None`: an id that no gateway gave.
    #[must_use]
    pub fn open(id: &str) -> Option<(Self, &str)> {
        let (tag, id) = id.strip_prefix(MARK)?.split_at_checked(DIGITS)?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let id = id.strip_prefix('_').filter(|id| !id.is_empty() && tag.bytes().all(is_digit))?;
        Some((Self(u64::from_str_radix(tag, 16).ok()?), id))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}{:0width$x}", self.0, width = DIGITS)
    }
}

/// What a call names, and its body with the provider's own ids.
#[derive(Debug)]
pub struct Named {
    pub tag: Tag,
    /// The field that names it.
    pub field: &'static str,
    /// Nobody else can answer. Sealed thoughts are of use to one alone, but others may do without.
    pub binds: bool,
    pub body: Vec<u8>,
}

/// `None`: the call names nothing that a tag leads to.
///
/// # Errors
/// It names what two of them keep.
pub fn named(body: &[u8]) -> Result<Option<Named>, Malformed> {
    if memmem::find(body, b"\"tg").is_none() {
        return Ok(None);
    }
    let mut spots = Spots { body, list: Vec::new() };
    let (mut found, mut sealed): (Option<(Tag, &'static str)>, Option<Tag>) = (None, None);
    let mut conflict = None;
    let mut take = |field: &'static str, text: &str| {
        let (tag, id) = Tag::open(text)?;
        match found {
            Some((other, _)) if other != tag => conflict = Some(field),
            Some(_) => {}
            None => found = Some((tag, field)),
        }
        Some(id.to_owned())
    };
    for member in &spans::members(body)? {
        match &*member.name {
            "previous_response_id" => spots.edit(member.value, |id| take("previous_response_id", id)),
            "conversation" if member.value.starts_with('{') => spots.id_of(member, |id| take("conversation", id)),
            "conversation" => spots.edit(member.value, |id| take("conversation", id)),
            "input" if member.value.contains("item_reference") || tells_sealed(member.value.as_bytes()) => {
                for item in items(member.value) {
                    spots.reference(item, |id| take("input", id));
                    sealed = spots.open(item).or(sealed);
                }
            }
            _ => {}
        }
    }
    if let Some(field) = conflict {
        return Err(Malformed::new(field, "names what another provider keeps than the call's other ids"));
    }
    let Some((tag, field)) = found.or(sealed.map(|tag| (tag, "input"))) else { return Ok(None) };
    Ok(Some(Named { tag, field, binds: found.is_some(), body: spots.apply().unwrap_or_default() }))
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    let items: Vec<&RawValue> = serde_json::from_str(list).unwrap_or_default();
    items.into_iter().map(RawValue::get)
}

/// A whole answer with its ids tagged; `None`: it has none.
#[must_use]
pub fn tagged(body: &[u8], tag: Tag) -> Option<Vec<u8>> {
    let mut spots = Spots { body, list: Vec::new() };
    spots.answer(body, tag);
    spots.apply()
}

/// An event of a stream as it came, or with its ids tagged.
#[must_use]
pub fn tagged_event(event: &[u8], tag: Tag) -> Cow<'_, [u8]> {
    if !tells_answer(event) {
        return Cow::Borrowed(event);
    }
    let mut spots = Spots { body: event, list: Vec::new() };
    for line in event.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let Some(data) = line.strip_prefix(b"data:") else { continue };
        for member in spans::members(data).unwrap_or_default() {
            match &*member.name {
                "response" => spots.answer(member.value.as_bytes(), tag),
                "item" => spots.seal(member.value, tag),
                _ => {}
            }
        }
    }
    spots.apply().map_or(Cow::Borrowed(event), Cow::Owned)
}

/// Inside a JSON string a quote is escaped, so a name with its quotes is a name.
pub(crate) fn tells_answer(bytes: &[u8]) -> bool {
    seek::RESPONSE.find(bytes).is_some() || tells_sealed(bytes)
}

fn tells_sealed(bytes: &[u8]) -> bool {
    seek::SEALED.find(bytes).is_some()
}

/// A path with the provider's own ids in it.
#[must_use]
pub fn plain_path(path: &str, own: Tag) -> Cow<'_, str> {
    let plain = |part| match Tag::open(part) {
        Some((tag, id)) if tag == own => id,
        _ => part,
    };
    if !path.contains("/tg") {
        return Cow::Borrowed(path);
    }
    Cow::Owned(path.split('/').map(plain).collect::<Vec<_>>().join("/"))
}

/// What an item's maker sealed, escaped as it came.
fn sealed(item: &str) -> Option<&str> {
    let members = spans::members(item.as_bytes()).unwrap_or_default();
    let text = members.iter().find(|member| member.name == "encrypted_content")?.value;
    text.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.is_empty())
}

struct Spots<'b> {
    body: &'b [u8],
    list: Vec<(Range<usize>, String)>,
}

impl Spots<'_> {
    /// `value`: a piece of the body. What is no string stays.
    fn edit(&mut self, value: &str, change: impl FnOnce(&str) -> Option<String>) {
        let Ok(text) = serde_json::from_str::<Cow<'_, str>>(value) else { return };
        if let Some(text) = change(&text) {
            let start = self.place(value);
            self.list.push((start..start + value.len(), serde_json::Value::from(text).to_string()));
        }
    }

    fn id_of(&mut self, outer: &Member<'_>, change: impl FnMut(&str) -> Option<String>) {
        self.ids(&spans::members(outer.value.as_bytes()).unwrap_or_default(), change);
    }

    fn ids(&mut self, members: &[Member<'_>], mut change: impl FnMut(&str) -> Option<String>) {
        for member in members.iter().filter(|member| member.name == "id") {
            self.edit(member.value, &mut change);
        }
    }

    fn reference(&mut self, item: &str, change: impl FnMut(&str) -> Option<String>) {
        let members = spans::members(item.as_bytes()).unwrap_or_default();
        if members.iter().any(|member| member.name == "type" && member.value == "\"item_reference\"") {
            self.ids(&members, change);
        }
    }

    fn answer(&mut self, answer: &[u8], tag: Tag) {
        // What has a tag already came from another gateway, and goes back there with it.
        let wrap = |id: &str| (!id.is_empty()).then(|| tag.wrap(id));
        for member in spans::members(answer).unwrap_or_default() {
            match &*member.name {
                "id" | "previous_response_id" => self.edit(member.value, wrap),
                "conversation" => self.id_of(&member, wrap),
                "output" if tells_sealed(member.value.as_bytes()) => {
                    items(member.value).for_each(|item| self.seal(item, tag));
                }
                _ => {}
            }
        }
    }

    /// Thoughts of an item; they are long, and are not copied twice.
    fn seal(&mut self, item: &str, tag: Tag) {
        if let Some(text) = sealed(item) {
            let start = self.place(text);
            self.list.push((start..start, format!("{tag}_")));
        }
    }

    fn open(&mut self, item: &str) -> Option<Tag> {
        let text = sealed(item)?;
        let (tag, rest) = Tag::open(text)?;
        let start = self.place(text);
        self.list.push((start..start + text.len() - rest.len(), String::new()));
        Some(tag)
    }

    /// `part`: a piece of the body.
    fn place(&self, part: &str) -> usize {
        part.as_ptr() as usize - self.body.as_ptr() as usize
    }

    fn apply(self) -> Option<Vec<u8>> {
        spans::patched(self.body, self.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag() -> Tag {
        Tag::of("eu", "")
    }

    fn text(bytes: impl AsRef<[u8]>) -> String {
        String::from_utf8(bytes.as_ref().to_vec()).unwrap()
    }

    #[test]
    fn line_22_a_wrapped_id_unwraps_to_the_same_bytes() {
        for id in ["resp_68af_x", "x", "tg_", "_"] {
            assert_eq!(Tag::open(&tag().wrap(id)), Some((tag(), id)));
        }
        // In every release: ids that callers keep name it.
        assert_eq!(tag().to_string(), "tgc307a918f067");
        assert_ne!(tag(), Tag::of("e", "u"));
        for stranger in ["resp_1", "tg_resp", "tg0123456789ag_resp", "tg0123456789ab_", "tg0123456789ab", "tg01234é"] {
            assert_eq!(Tag::open(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn an_answers_ids_are_tagged_and_nothing_else_of_it() {
        let body = r#"{ "id" : "resp_1","output":[{"id":"msg_1"}], "previous_response_id":null,"conversation":{"id":"conv_1", "x":1.0}}"#;
        let wanted = body.replace("resp_1", &tag().wrap("resp_1")).replace("conv_1", &tag().wrap("conv_1"));
        assert_eq!(text(tagged(body.as_bytes(), tag()).unwrap()), wanted);
        assert_eq!(tagged(b"{}", tag()), None);
        assert_eq!(tagged(b"no json", tag()), None);
    }

    #[test]
    fn a_call_names_its_maker_and_gets_its_own_ids_back() {
        let (a, b) = (tag().wrap("resp_1"), Tag::of("us", "").wrap("conv_2"));
        let call = |id: &str, rest: &str| format!(r#"{{"previous_response_id": "{id}" ,"input":"{id}"{rest}}}"#);
        let found = named(call(&a, "").as_bytes()).unwrap().unwrap();
        assert_eq!((found.tag, found.field), (tag(), "previous_response_id"));
        assert_eq!(text(found.body), format!(r#"{{"previous_response_id": "resp_1" ,"input":"{a}"}}"#));
        for rest in [format!(r#","conversation":"{b}""#), format!(r#","conversation":{{"id":"{b}"}}"#)] {
            assert_eq!(named(call(&a, &rest).as_bytes()).unwrap_err().path, "conversation");
            let found = named(call("resp_9", &rest).as_bytes()).unwrap().unwrap();
            assert_eq!((found.tag, text(found.body)), (Tag::of("us", ""), call("resp_9", &rest.replace(&b, "conv_2"))));
        }
        let items = format!(r#"{{"input":[{{"type":"item_reference","id":"{a}"}},{{"type":"message","id":"{a}"}}]}}"#);
        assert_eq!(text(named(items.as_bytes()).unwrap().unwrap().body), items.replacen(&a, "resp_1", 1));
        assert!(named(call("resp_1", "").as_bytes()).unwrap().is_none());
    }

    #[test]
    fn an_event_that_tells_an_answer_has_its_ids_tagged() {
        let event = "event: response.created\r\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"previous_response_id\":\"resp_0\"}}\r\n\r\n";
        let wanted = event.replace("resp_1", &tag().wrap("resp_1")).replace("resp_0", &tag().wrap("resp_0"));
        assert_eq!(text(tagged_event(event.as_bytes(), tag())), wanted);
        let said = b"data: {\"delta\":\"\\\"response\\\":{\\\"id\\\":\\\"a\\\"}\",\"item_id\":\"msg_1\"}\n\n";
        assert!(matches!(tagged_event(said, tag()), Cow::Borrowed(_)));
    }

    #[test]
    fn line_13_sealed_thoughts_lead_back_to_who_sealed_them_and_bind_nobody() {
        let item = r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA\/x=="}"#;
        let body = format!(r#"{{"output":[{item},{{"type":"message","encrypted_content":null}}]}}"#);
        let told = text(tagged(body.as_bytes(), tag()).unwrap());
        assert_eq!(told, body.replace("gAAA", &tag().wrap("gAAA")));
        let event = format!("data: {{\"type\":\"response.output_item.done\",\"item\":{item}}}\n\n");
        let of_event = text(tagged_event(event.as_bytes(), tag()));
        assert_eq!(of_event, event.replace("gAAA", &tag().wrap("gAAA")));

        let call = |item: &str, rest: &str| format!(r#"{{"input":[{{"role":"user","content":"gAAA"}},{item}]{rest}}}"#);
        let theirs = item.replace("gAAA", &tag().wrap("gAAA"));
        let found = named(call(&theirs, "").as_bytes()).unwrap().unwrap();
        assert_eq!((found.tag, found.binds, text(found.body)), (tag(), false, call(item, "")));
        // An id is worth more than thoughts.
        let us = Tag::of("us", "");
        let rest = |id: &str| format!(r#","previous_response_id":"{id}""#);
        let found = named(call(&theirs, &rest(&us.wrap("resp_1"))).as_bytes()).unwrap().unwrap();
        assert_eq!((found.tag, found.binds, text(found.body)), (us, true, call(item, &rest("resp_1"))));
        assert!(named(call(item, "").as_bytes()).unwrap().is_none());
    }

    #[test]
    fn a_path_has_its_providers_own_id() {
        let path = format!("/v1/responses/{}/cancel", tag().wrap("resp_1"));
        assert_eq!(plain_path(&path, tag()), "/v1/responses/resp_1/cancel");
        assert_eq!(plain_path(&path, Tag::of("us", "")), path);
    }
}
