//! Which provider's traffic has been through these translations: `docs/llm/matrix.md`, written from what the other tests of
//! this folder judge (every recording, every written case). `UPDATE_DOCS=1` with TIDEGATE_FIXTURES writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tidegate_llm::meaning::{Answer, Body, Call, Format, MediaKind, Part};
use tidegate_llm::{Dialect, Site};

use crate::golden::sources;
use crate::support::{collect, decode, recordings};

const PAGE: &str = "../../docs/llm/matrix.md";

const FEATURES: [&str; 10] = [
    "chat",
    "stream",
    "tools",
    "streamed tools",
    "thoughts",
    "pictures in",
    "pictures out",
    "structured output",
    "cached prompt",
    "errors",
];

/// A kind of the document, the dialects that it is spoken to in, and whose recordings are of it.
const KINDS: [(&str, &[Dialect], &[&str]); 19] = {
    use Dialect::{Anthropic, Bedrock, Cohere, Gemini, OpenAiChat, OpenAiResponses};
    [
        ("openai", &[OpenAiChat, OpenAiResponses], &["api.openai.com", "openai"]),
        ("azure", &[OpenAiChat, OpenAiResponses], &["openai.azure.com", "azure"]),
        ("anthropic", &[Anthropic], &["api.anthropic.com", "anthropic"]),
        ("gemini", &[Gemini], &["generativelanguage.googleapis.com", "google"]),
        ("vertex", &[Gemini], &["aiplatform.googleapis.com", "google-vertex"]),
        ("vertex_anthropic", &[Anthropic], &[]),
        ("bedrock", &[Bedrock], &["amazonaws.com", "amazon-bedrock"]),
        ("cohere", &[Cohere], &["api.cohere.com", "cohere"]),
        ("mistral", &[OpenAiChat], &["api.mistral.ai", "mistral"]),
        ("groq", &[OpenAiChat], &["api.groq.com", "groq"]),
        ("deepseek", &[OpenAiChat], &["api.deepseek.com", "deepseek"]),
        ("xai", &[OpenAiChat], &["api.x.ai", "xai"]),
        ("openrouter", &[OpenAiChat], &["openrouter.ai"]),
        ("huggingface", &[OpenAiChat], &["router.huggingface.co"]),
        ("qwen", &[OpenAiChat], &["alibaba"]),
        ("qianfan", &[OpenAiChat], &[]),
        ("ollama", &[OpenAiChat], &["ollama.com", "localhost:11434"]),
        ("vllm", &[OpenAiChat], &[]),
        ("openai_compatible", &[OpenAiChat], &["api.cerebras.ai", "api.z.ai", "perplexity", "openai-compatible"]),
    ]
};

type Seen = BTreeMap<&'static str, BTreeSet<&'static str>>;

#[test]
fn the_matrix_of_providers_is_what_the_tests_saw() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let cases = recordings("matrix");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    if cases.is_empty() {
        // Without recordings nobody knows what they show; the rows and the words are known.
        for (kind, ..) in KINDS {
            let row =
                page.lines().find(|line| line.starts_with(&format!("| `{kind}` |"))).expect("every kind has its row");
            let cells: Vec<&str> = row.trim_matches('|').split('|').skip(2).map(str::trim).collect();
            assert_eq!(cells.len(), FEATURES.len(), "{row}");
            assert!(cells.iter().all(|cell| ["recorded", "written case", "by documentation"].contains(cell)), "{row}");
        }
        return;
    }
    let (mut recorded, mut written): (Seen, BTreeMap<Dialect, BTreeSet<&'static str>>) = Default::default();
    for case in &cases {
        // The longest fits best: `google` is in `google-vertex`.
        let of = |(_, dialects, houses): &&(&str, &[Dialect], &[&str])| {
            dialects.contains(&case.dialect)
                && houses
                    .iter()
                    .any(|house| case.house == *house || case.house.contains('.') && case.house.ends_with(house))
        };
        let Some((kind, ..)) = KINDS.iter().find(of) else { continue };
        let seen = recorded.entry(kind).or_default();
        if case.status >= 400 {
            assert!(!case.dialect.parse_error(case.status, &|_| None, &case.body).message.is_empty());
            seen.insert("errors");
            continue;
        }
        let answer = match case.stream {
            true => collect(case.dialect, &decode(case.dialect, &case.body, 100)).and_then(Result::ok),
            false => case.dialect.parse_answer(&case.body).ok(),
        };
        let Some(answer) = answer else { continue };
        of_answer(&answer, case.stream, seen);
        let site = Site { model: Some("some-model"), stream: false };
        if let Some(call) =
            case.request.as_ref().and_then(|body| case.dialect.parse_call(body.to_string().as_bytes(), site).ok())
        {
            of_call(&call, seen);
        }
    }
    for (_, dialect, text) in sources("calls", ".json") {
        let body: Value = serde_json::from_str(&text).expect("golden calls are JSON");
        let site = Site { model: Some("some-model"), stream: false };
        let call = dialect.parse_call(body.to_string().as_bytes(), site).expect("golden calls are good");
        let seen = written.entry(dialect).or_default();
        seen.insert("chat");
        of_call(&call, seen);
    }
    for (_, dialect, text) in sources("streams", ".txt") {
        if let Some(Ok(answer)) = collect(dialect, &decode(dialect, text.as_bytes(), 100)) {
            of_answer(&answer, true, written.entry(dialect).or_default());
        }
    }
    // `wire_streams.rs` and `chunking.rs` have these for every dialect.
    for dialect in Dialect::ALL {
        written.entry(dialect).or_default().extend([
            "chat",
            "stream",
            "tools",
            "streamed tools",
            "thoughts",
            "cached prompt",
            "errors",
        ]);
    }
    for dialect in [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::Gemini] {
        written.entry(dialect).or_default().insert("pictures out");
    }
    let fresh = rendered(&recorded, &written);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, fresh).expect("docs can be written");
    } else {
        assert!(page == fresh, "docs/llm/matrix.md is old: UPDATE_DOCS=1 cargo nextest run -p tidegate-llm matrix");
    }
}

fn of_answer(answer: &Answer, stream: bool, seen: &mut BTreeSet<&'static str>) {
    let has = |wanted: &dyn Fn(&Part) -> bool| answer.parts.iter().any(wanted);
    seen.insert(if stream { "stream" } else { "chat" });
    if answer.has_tool_calls() {
        seen.insert(if stream { "streamed tools" } else { "tools" });
    }
    if has(&|part| matches!(part.body, Body::Reasoning { .. } | Body::Redacted(_))) {
        seen.insert("thoughts");
    }
    if has(&|part| matches!(part.body, Body::Media(_))) {
        seen.insert("pictures out");
    }
    if answer.usage.is_some_and(|usage| usage.cache_read > 0) {
        seen.insert("cached prompt");
    }
}

fn of_call(call: &Call, seen: &mut BTreeSet<&'static str>) {
    let is_picture = |part: &Part| matches!(&part.body, Body::Media(media) if media.kind == MediaKind::Image);
    if call.messages.iter().flat_map(|message| &message.parts).any(is_picture) {
        seen.insert("pictures in");
    }
    if matches!(call.format, Some(Format::Schema(_) | Format::Json)) {
        seen.insert("structured output");
    }
    if !call.tools.is_empty() {
        seen.insert("tools");
    }
}

fn rendered(recorded: &Seen, written: &BTreeMap<Dialect, BTreeSet<&'static str>>) -> String {
    let mut page = String::from(
        "# Providers and what was seen of them\n\n\
         Written by a test (`crates/llm/tests/specs/matrix.rs`) from what the tests judge, and stale when it fails.\n\n\
         - **recorded**: traffic of this provider has it, and comes home through every other dialect.\n\
         - **written case**: no recording of this provider; cases written from its dialect's facts have it.\n\
         - **by documentation**: neither; it is done as the provider's documentation says.\n\n",
    );
    page.push_str(&format!(
        "| kind | dialect | {} |\n|---|---|{}\n",
        FEATURES.join(" | "),
        "---|".repeat(FEATURES.len())
    ));
    for (kind, dialects, _) in KINDS {
        let cell = |feature: &&str| match () {
            () if recorded.get(kind).is_some_and(|seen| seen.contains(feature)) => "recorded",
            () if dialects.iter().any(|of| written.get(of).is_some_and(|seen| seen.contains(feature))) => {
                "written case"
            }
            () => "by documentation",
        };
        let cells: Vec<&str> = FEATURES.iter().map(cell).collect();
        let names: Vec<&str> = dialects.iter().map(|dialect| dialect.name()).collect();
        page.push_str(&format!("| `{kind}` | {} | {} |\n", names.join(", "), cells.join(" | ")));
    }
    page
}
