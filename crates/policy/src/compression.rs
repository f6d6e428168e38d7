//! Which answers of a route are compressed.

use tidegate_coding::Coding;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// Those that are offered: what a client likes equally is decided by this order. Never empty.
    pub algorithms: Vec<Coding>,
    /// Bodies that are known to be shorter stay as they are.
    pub min_size: u64,
    pub types: Vec<MediaTypes>,
}

/// Media types, lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaTypes {
    /// `*/*`
    All,
    /// `text/*`: holds `text/`.
    Of(String),
    /// `application/*+json`: holds `application/` and `+json`.
    Suffix(String, String),
    /// `application/json`
    One(String),
}

/// Its events are flushed one by one; compressed they are only where somebody names it: not all that reads it undoes a coding.
const EVENTS: &str = "text/event-stream";

/// Audio, video, pictures and archives are compressed already.
const USUAL: [&str; 27] = [
    "text/*",
    "application/*+json",
    "application/*+xml",
    "application/atom+xml",
    "application/geo+json",
    "application/graphql",
    "application/javascript",
    "application/json",
    "application/jsonl",
    "application/ld+json",
    "application/manifest+json",
    "application/rss+xml",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xhtml+xml",
    "application/xml",
    "application/yaml",
    "font/collection",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/svg+xml",
    "image/vnd.microsoft.icon",
    "image/x-icon",
    "model/gltf+json",
];

impl Compression {
    pub const MIN_SIZE: u64 = 1 << 10;
    pub const ALGORITHMS: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    #[must_use]
    pub fn usual_types() -> Vec<MediaTypes> {
        USUAL.iter().filter_map(|text| MediaTypes::parse(text)).collect()
    }

    /// `kind`: a `Content-Type` as it is written.
    #[must_use]
    pub fn takes(&self, kind: &str) -> bool {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let named = |types: &MediaTypes| matches!(types, MediaTypes::One(one) if *one == kind);
        if kind == EVENTS { self.types.iter().any(named) } else { self.types.iter().any(|types| types.hold(&kind)) }
    }
}

impl MediaTypes {
    /// `None`: not written like any of them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let token = |part: &str| {
            let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
            !part.is_empty() && part.bytes().all(of_token)
        };
        let text = text.to_ascii_lowercase();
        let (family, rest) = text.split_once('/')?;
        match rest.strip_prefix('*') {
            Some("") if family == "*" => Some(Self::All),
            Some("") => token(family).then(|| Self::Of(format!("{family}/"))),
            Some(suffix) => {
                let is = token(family) && suffix.starts_with('+') && suffix.len() > 1 && token(suffix);
                is.then(|| Self::Suffix(format!("{family}/"), suffix.to_owned()))
            }
            None => (token(family) && token(rest)).then_some(Self::One(text)),
        }
    }

    fn hold(&self, kind: &str) -> bool {
        match self {
            Self::All => kind.contains('/'),
            Self::Of(family) => kind.starts_with(family.as_str()),
            Self::Suffix(family, suffix) => kind.starts_with(family.as_str()) && kind.ends_with(suffix.as_str()),
            Self::One(one) => kind == one,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(types: &[&str]) -> Compression {
        let types = types.iter().map(|text| MediaTypes::parse(text).expect(text)).collect();
        Compression { algorithms: Compression::ALGORITHMS.to_vec(), min_size: 0, types }
    }

    #[test]
    fn types_are_taken_by_name_family_and_suffix() {
        let usual = Compression { types: Compression::usual_types(), ..of(&[]) };
        assert_eq!(usual.types.len(), USUAL.len());
        for kind in
            ["text/html", "TEXT/HTML; charset=utf-8", "application/json", "application/problem+json", "image/svg+xml"]
        {
            assert!(usual.takes(kind), "{kind}");
        }
        for kind in [
            "image/png",
            "video/mp4",
            "application/zip",
            "text/event-stream",
            "application/grpc",
            "",
            "text",
            "font/woff2",
        ] {
            assert!(!usual.takes(kind), "{kind}");
        }
        assert!(of(&["*/*"]).takes("image/png"));
        assert!(!of(&["*/*"]).takes("text/event-stream"), "only where it is named");
        assert!(of(&["text/event-stream"]).takes("text/event-stream;charset=utf-8"));
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for text in ["", "text", "*/json", "text/", "/x", "te xt/html", "text/*x", "application/*+", "text/html; q=1"] {
            assert_eq!(MediaTypes::parse(text), None, "{text}");
        }
    }
}
