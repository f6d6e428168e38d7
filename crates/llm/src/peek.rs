//! The few fields that policy needs of a call, read without building a tree.

use crate::dialect::{Dialect, Site};
use crate::json::Malformed;
use crate::meaning::Tier;
use crate::spans::{self, Media, Member, Spot};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    pub model: String,
    pub stream: bool,
    /// The caller asked for the usage chunk (OpenAI chat); other dialects always tell.
    pub include_usage: bool,
    pub max_tokens: Option<u64>,
    /// The name of a bound of -1: what some say for none, and some providers take.
    pub endless: Option<&'static str>,
    /// Answers wanted.
    pub n: u64,
    pub end_user: Option<String>,
    pub messages: usize,
    /// Bytes that the model reads: system prompt, messages, tools. An upper bound of its tokens.
    pub prompt_bytes: usize,
    pub has_tools: bool,
    pub has_images: bool,
    /// In what is said.
    media: Media,
    /// Where all members stand in the body.
    pub(crate) spots: Vec<Spot>,
    /// What else the model reads is kept by the provider: an earlier answer, a cache.
    pub reads_more: bool,
    /// The tier of service that it asks for.
    pub tier: Tier,
    pub has_schema: bool,
}

/// Fields that decide something may stand only once: the provider might read another one than we did.
pub fn peek(dialect: Dialect, body: &[u8], site: Site<'_>) -> Result<Peek, Malformed> {
    let members = spans::members(body)?;
    let mut peek = Peek { stream: site.stream, n: 1, ..Peek::default() };
    peek.spots = Vec::with_capacity(members.len());
    let mut seen = 0_u32;
    for member in &members {
        if let Some(known) = place(&member.name) {
            if seen & (1 << known) != 0 {
                return Err(Malformed::new(KNOWN[known], "is given twice"));
            }
            seen |= 1 << known;
        }
        peek.member(dialect, member)?;
        peek.spots.push(member.spot(body));
    }
    if let Some(model) = site.model {
        model.clone_into(&mut peek.model);
    }
    if peek.model.is_empty() {
        return Err(Malformed::new("model", "is required"));
    }
    Ok(peek)
}

/// The fields read here, under their usual names; Google's may be written in snake_case.
const KNOWN: [&str; 16] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "user",
    "metadata",
    "messages",
    "contents",
    "input",
    "tools",
    "generationConfig",
    "inferenceConfig",
    "toolConfig",
];

fn place(name: &str) -> Option<usize> {
    // One field in two spellings.
    let name = if name == "generation_config" { "generationConfig" } else { name };
    KNOWN.iter().position(|known| *known == name)
}

impl Peek {
    /// A member's value, as it is written. `body`: what was peeked at.
    pub fn given<'b>(&self, name: &str, body: &'b [u8]) -> Option<&'b [u8]> {
        let spot = self.spots.iter().find(|spot| spot.name(body) == name.as_bytes())?;
        body.get(spot.value.clone())
    }

    /// Images, sounds, films and files, never fewer than there are: their tokens are not those of their bytes.
    pub fn media(&self) -> usize {
        self.media.all
    }

    fn member(&mut self, dialect: Dialect, member: &Member<'_>) -> Result<(), Malformed> {
        if !is_of(dialect, &member.name) {
            return Ok(());
        }
        match member.name.as_ref() {
            "model" => self.model = text(member)?.unwrap_or_default(),
            "stream" => self.stream = read::<Option<bool>>(member)?.unwrap_or(false),
            "stream_options" => self.include_usage = inner(member, "include_usage")? == Some("true"),
            // Given by two names, it may be either: providers differ.
            "max_tokens" if is_endless(dialect, member) => self.endless = Some("max_tokens"),
            "max_completion_tokens" if is_endless(dialect, member) => self.endless = Some("max_completion_tokens"),
            "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                self.max_tokens = self.max_tokens.max(longest(&member.name, Some(member.value))?);
            }
            // llama.cpp lets it outweigh the others: it would pass any bound of a model.
            "n_predict" if dialect == Dialect::OpenAiChat && member.value != "null" => {
                return Err(Malformed::new("n_predict", "say it as `max_tokens`"));
            }
            "generationConfig" | "generation_config" => self.generation(member)?,
            "inferenceConfig" => {
                let asked = longest("maxTokens", inner(member, "maxTokens")?);
                self.max_tokens = asked.map_err(|why| why.under(&member.name))?;
            }
            "n" => self.n = read::<Option<u64>>(member)?.unwrap_or(1).max(1),
            "user" => self.end_user = text(member)?,
            "metadata" if dialect == Dialect::Anthropic => {
                self.end_user = inner(member, "user_id")?.and_then(|text| serde_json::from_str(text).ok());
            }
            "messages" | "contents" | "input" => {
                self.prompt_bytes += member.value.len();
                self.messages = if member.value.starts_with('[') { member.items } else { 1 };
                self.media = member.media;
                self.has_images |= member.media.images > 0;
            }
            "system" | "systemInstruction" | "system_instruction" | "instructions" => {
                self.prompt_bytes += member.value.len();
            }
            "tools" | "functions" | "toolConfig" => {
                self.prompt_bytes += member.value.len();
                self.has_tools |= !matches!(member.value, "null" | "[]" | "{}") && !is_bare_config(member);
            }
            "response_format" | "text" | "output_config" | "output_format" | "outputConfig" => {
                self.prompt_bytes += member.value.len();
                self.has_schema |= member.value.contains("\"json_schema\"");
            }
            "previous_response_id" | "conversation" | "prompt" | "cachedContent" | "cached_content" => {
                self.reads_more |= member.value != "null";
            }
            "service_tier" | "serviceTier" => self.tier = tier(member.value),
            _ => {}
        }
        Ok(())
    }

    fn generation(&mut self, member: &Member<'_>) -> Result<(), Malformed> {
        for name in ["maxOutputTokens", "max_output_tokens"] {
            // Google reads `"5"` as well.
            let asked = inner(member, name)?.map(|text| text.trim_matches('"'));
            self.max_tokens = self.max_tokens.max(longest(name, asked).map_err(|why| why.under(&member.name))?);
        }
        for name in ["candidateCount", "candidate_count"] {
            self.n = self.n.max(whole(member, name)?.unwrap_or(1));
        }
        for name in ["responseSchema", "response_schema", "responseJsonSchema", "response_json_schema"] {
            self.has_schema |= inner(member, name)?.is_some_and(|text| text != "null");
        }
        self.prompt_bytes += member.value.len();
        Ok(())
    }
}

/// Fields that decide something are read only where the caller's dialect has them: beside its own bound of an answer a call
/// could carry another dialect's, which its provider passes over.
fn is_of(dialect: Dialect, name: &str) -> bool {
    use Dialect::{Anthropic, Bedrock, Cohere, Gemini, OpenAiChat, OpenAiResponses};
    match name {
        "stream" => !matches!(dialect, Gemini | Bedrock),
        "max_tokens" => matches!(dialect, OpenAiChat | Anthropic | Cohere),
        "max_completion_tokens" | "stream_options" | "n" => dialect == OpenAiChat,
        "max_output_tokens" => dialect == OpenAiResponses,
        "generationConfig" | "generation_config" => dialect == Gemini,
        "inferenceConfig" => dialect == Bedrock,
        _ => true,
    }
}

/// The longest answer that is asked for. Nothing, or less, is no bound: providers differ about what it is.
fn longest(name: &str, text: Option<&str>) -> Result<Option<u64>, Malformed> {
    let Some(text) = text.filter(|text| *text != "null") else { return Ok(None) };
    let wrong = || Malformed::new(name, "must be a whole number of at least 1");
    number(text).filter(|asked| *asked > 0).map(Some).ok_or_else(wrong)
}

fn is_endless(dialect: Dialect, member: &Member<'_>) -> bool {
    dialect == Dialect::OpenAiChat && member.value.parse() == Ok(-1.0_f64)
}

/// A whole number of a member's; Google reads `"5"` as well.
fn whole(member: &Member<'_>, name: &str) -> Result<Option<u64>, Malformed> {
    let Some(text) = inner(member, name)?.filter(|text| *text != "null") else { return Ok(None) };
    let wrong = || Malformed::new(name, "must be a whole number, not negative").under(&member.name);
    number(text.trim_matches('"')).map(Some).ok_or_else(wrong)
}

/// `5` and `5.0` alike: JavaScript does not tell them apart.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| {
        let float: f64 = text.parse().ok()?;
        (float.fract() == 0.0 && (0.0..9.0e15).contains(&float)).then_some(float as u64)
    })
}

/// Bedrock's stands in an object. Left to the provider, it may be the dearest.
fn tier(text: &str) -> Tier {
    if text == "\"auto\"" { Tier::Priority } else { Tier::named(text) }
}

/// Gemini's `toolConfig` tells only how to choose; Bedrock's holds the tools.
fn is_bare_config(member: &Member<'_>) -> bool {
    member.name == "toolConfig" && !matches!(inner(member, "tools"), Ok(Some(_)))
}

fn read<'a, T: serde::Deserialize<'a>>(member: &Member<'a>) -> Result<T, Malformed> {
    serde_json::from_str(member.value).map_err(|_| Malformed::new(member.name.as_ref(), "has the wrong type"))
}

/// A text or `null`; hardly any has escapes.
fn text(member: &Member<'_>) -> Result<Option<String>, Malformed> {
    let plain = member.value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match plain.filter(|text| !text.contains('\\')) {
        Some(text) => Ok(Some(text.to_owned())),
        None => read(member),
    }
}

/// A member of a member; `None` if either is not there.
fn inner<'a>(member: &Member<'a>, name: &str) -> Result<Option<&'a str>, Malformed> {
    if member.value == "null" {
        return Ok(None);
    }
    let members = spans::members(member.value.as_bytes())
        .map_err(|_| Malformed::new(member.name.as_ref(), "must be an object"))?;
    let mut found = members.iter().filter(|inner| inner.name == name);
    let first = found.next().map(|inner| inner.value);
    if found.next().is_some() {
        return Err(Malformed::new(name, "is given twice").under(&member.name));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peeked(dialect: Dialect, body: &str) -> Peek {
        peek(dialect, body.as_bytes(), Site::default()).unwrap()
    }

    #[test]
    fn line_22_policy_reads_its_few_fields_of_every_dialect() {
        let chat = r#"{"model":"gpt-5","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]},
            {"role":"user","content":"b"}],"stream":true,"max_tokens":5,"max_completion_tokens":7,"user":"u","n":2,
            "stream_options":{"include_usage":true},"tools":[{}],"response_format":{"type":"json_schema"}}"#;
        let seen = peeked(Dialect::OpenAiChat, chat);
        assert_eq!((seen.model.as_str(), seen.stream, seen.include_usage), ("gpt-5", true, true));
        assert_eq!((seen.max_tokens, seen.n, seen.messages), (Some(7), 2, 2));
        assert_eq!(seen.end_user.as_deref(), Some("u"));
        assert!(seen.has_tools && seen.has_images && seen.has_schema);
        let anthropic = r#"{"model":"c","max_tokens":9,"metadata":{"user_id":"u"},"system":"abc","messages":[]}"#;
        let seen = peeked(Dialect::Anthropic, anthropic);
        assert_eq!((seen.end_user.as_deref(), seen.max_tokens, seen.prompt_bytes), (Some("u"), Some(9), 7));
        let gemini = r#"{"contents":[{"parts":[{"text":"say \"image\""}]}],"generation_config":{"maxOutputTokens":3}}"#;
        let seen = peek(Dialect::Gemini, gemini.as_bytes(), Site { model: Some("g"), stream: true }).unwrap();
        assert_eq!((seen.model.as_str(), seen.stream, seen.max_tokens), ("g", true, Some(3)));
        assert!(!seen.has_images && !seen.has_tools);
        let bedrock = r#"{"messages":[],"inferenceConfig":{"maxTokens":4},"toolConfig":{"tools":[{}]}}"#;
        let seen = peek(Dialect::Bedrock, bedrock.as_bytes(), Site { model: Some("b"), stream: false }).unwrap();
        assert_eq!((seen.max_tokens, seen.has_tools), (Some(4), true));
    }

    #[test]
    fn line_21_media_are_counted_where_they_are_said_and_not_in_words() {
        let body = r#"{"model":"m","tools":[{"file":1}],"messages":[{"content":[{"type":"image_url","image_url":{"url":"x"}},
            {"type":"text","text":"an \"image\" in words"},{"type":"input_audio","input_audio":{}}]}],"service_tier":"flex"}"#;
        let seen = peeked(Dialect::OpenAiChat, body);
        assert_eq!((seen.media(), seen.tier), (4, Tier::Flex));
        let text = r#"{"model":"m","input":"hello","previous_response_id":"r1","service_tier":"auto"}"#;
        let seen = peeked(Dialect::OpenAiResponses, text);
        assert_eq!((seen.media(), seen.reads_more, seen.tier), (0, true, Tier::Priority));
    }

    #[test]
    fn line_22_a_field_that_decides_may_not_stand_twice() {
        for body in [
            r#"{"model":"a","model":"b","messages":[]}"#,
            r#"{"model":"a","max_tokens":1,"max\u005ftokens":2}"#,
            r#"{"model":"a","stream_options":{"include_usage":true,"include_usage":false}}"#,
        ] {
            assert!(peek(Dialect::OpenAiChat, body.as_bytes(), Site::default()).is_err(), "{body}");
        }
        let body = r#"{"generationConfig":{"maxOutputTokens":9},"generation_config":{"maxOutputTokens":1}}"#;
        assert!(peek(Dialect::Gemini, body.as_bytes(), Site { model: Some("g"), stream: false }).is_err());
    }

    #[test]
    fn line_15_a_bound_is_a_whole_number_of_at_least_one_in_every_dialect() {
        let asked = |dialect, body: String| {
            peek(dialect, body.as_bytes(), Site { model: Some("m"), stream: false })
                .map(|peek| (peek.max_tokens, peek.endless))
                .map_err(|why| why.to_string())
        };
        let table: [(Dialect, &str, &str, &str, &str); 7] = [
            (Dialect::OpenAiChat, "", "max_tokens", "", "max_tokens"),
            (Dialect::OpenAiChat, "", "max_completion_tokens", "", "max_completion_tokens"),
            (Dialect::OpenAiResponses, "", "max_output_tokens", "", "max_output_tokens"),
            (Dialect::Anthropic, "", "max_tokens", "", "max_tokens"),
            (Dialect::Cohere, "", "max_tokens", "", "max_tokens"),
            (Dialect::Gemini, "\"generationConfig\":{", "maxOutputTokens", "}", "generationConfig.maxOutputTokens"),
            (Dialect::Bedrock, "\"inferenceConfig\":{", "maxTokens", "}", "inferenceConfig.maxTokens"),
        ];
        for (dialect, before, name, after, path) in table {
            let with = |value: &str| asked(dialect, format!("{{{before}\"{name}\":{value}{after}}}"));
            for (value, tokens) in [("5", 5), ("5.0", 5), ("5e1", 50)] {
                assert_eq!(with(value), Ok((Some(tokens), None)), "{name} {value}");
            }
            assert_eq!(with("null"), Ok((None, None)));
            for value in
                ["0", "-0", "0.0", "-2", "1.5", "1e300", "99999999999999999999", "true", "[1]", "\"many\"", "\"-1\""]
            {
                let told = with(value).expect_err(value);
                assert_eq!(told, format!("{path}: must be a whole number of at least 1"), "{value}");
            }
            match (dialect, with("-1"), with("\"5\"")) {
                (Dialect::OpenAiChat, minus, text) => assert!(minus == Ok((None, Some(name))) && text.is_err()),
                (Dialect::Gemini, minus, text) => assert!(minus.is_err() && text == Ok((Some(5), None))),
                (_, minus, text) => assert!(minus.is_err() && text.is_err(), "{name}"),
            }
        }
    }

    #[test]
    fn line_22_a_bound_in_another_dialects_words_bounds_nothing() {
        let bound = |dialect, body: &str| {
            let site = Site { model: Some("m"), stream: false };
            let seen = peek(dialect, body.as_bytes(), site).unwrap();
            (seen.max_tokens, seen.n, seen.stream)
        };
        for other in [
            r#""inferenceConfig":{"maxTokens":1}"#,
            r#""generationConfig":{"maxOutputTokens":1}"#,
            r#""max_output_tokens":1"#,
            r#""max_completion_tokens":1"#,
        ] {
            let body = format!(r#"{{"max_tokens":900,{other}}}"#);
            assert_eq!(bound(Dialect::OpenAiChat, &body), (Some(900), 1, false), "{other}");
            assert_eq!(bound(Dialect::Anthropic, &body), (Some(900), 1, false), "{other}");
        }
        let both = r#"{"generationConfig":{"maxOutputTokens":"900","max_output_tokens":1.0,"candidateCount":3},"stream":true,"n":9}"#;
        assert_eq!(bound(Dialect::Gemini, both), (Some(900), 3, false));
        assert_eq!(
            bound(Dialect::Bedrock, r#"{"max_tokens":1,"inferenceConfig":{"maxTokens":9e2},"stream":true}"#),
            (Some(900), 1, false)
        );
        let llama = br#"{"max_tokens":1,"n_predict":900}"#;
        assert!(peek(Dialect::OpenAiChat, llama, Site { model: Some("m"), stream: false }).is_err());
        let odd = br#"{"generationConfig":{"maxOutputTokens":"many"}}"#;
        assert!(peek(Dialect::Gemini, odd, Site { model: Some("g"), stream: false }).is_err());
    }
}
