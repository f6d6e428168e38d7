//! Names that are looked for in every event of a stream. To make a searcher costs more than to search an event with it, so
//! each is made once.

use std::sync::LazyLock;

use memchr::memmem::Finder;

pub(crate) type Seek = LazyLock<Finder<'static>>;

macro_rules! seek {
    ($($name:ident = $text:literal;)*) => {
        $(pub(crate) static $name: Seek = LazyLock::new(|| Finder::new($text));)*
    };
}

seek! {
    USAGE = "\"usage\"";
    USAGE_END = "usage\"";
    // `usage`, and Gemini's `usageMetadata`.
    ANY_USAGE = "sage";
    FINISH = "\"finish_reason\"";
    TOOLS = "\"tool_calls\"";
    ERROR = "\"error\"";
    DELTA = "\"delta\"";
    SEALED = "\"encrypted_content\"";
    RESPONSE = "\"response\"";
    GROQ = "\"x_groq\"";
}
