//! The syntax of path templates: `/v1/users/{id}`, `/files/{name}.json`, `/static/{*rest}`; `{{` and `}}` are braces.

use std::fmt;

/// A template longer than this is refused, so that walking the tree needs little stack.
const MAX_SEGMENTS: usize = 64;
const MAX_BYTES: usize = 4096;
/// Captures live in a fixed array while a request is matched.
pub(crate) const MAX_CAPTURES: usize = 16;

/// A template, cut into segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Normalised; the empty one stands for a trailing slash.
    Literal(String),
    /// `before{name}after`: one segment, at least one character captured.
    Capture { before: String, name: String, after: String },
    /// `{*name}`: the rest of the path, at least one character; always last.
    Rest { name: String },
}

/// Why a template is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateError {
    NoSlash,
    TooLong,
    EmptySegment,
    DotSegment,
    Braces,
    Name,
    TwoCaptures,
    TooManyCaptures,
    RepeatedName,
    RestNotLast,
    Character,
}

impl Template {
    /// # Errors
    /// What is wrong with the text, the first of it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let path = text.strip_prefix('/').ok_or(TemplateError::NoSlash)?;
        if text.len() > MAX_BYTES {
            return Err(TemplateError::TooLong);
        }
        if path.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '?' | '#')) {
            return Err(TemplateError::Character);
        }
        let texts: Vec<&str> = path.split('/').collect();
        if texts.len() > MAX_SEGMENTS {
            return Err(TemplateError::TooLong);
        }
        let last = texts.len() - 1;
        let segments =
            texts.iter().enumerate().map(|(i, text)| segment(text, i == last)).collect::<Result<Vec<_>, _>>()?;
        let template = Self { segments };
        template.check_names()?;
        Ok(template)
    }

    /// A prefix as [`crate::PathPattern::Prefix`] holds it: `""`, `/v1`, `/v1/{tenant}`.
    ///
    /// # Errors
    /// As [`Template::parse`]; a prefix cannot hold `{*rest}`.
    pub fn parse_prefix(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Ok(Self { segments: Vec::new() });
        }
        let template = Self::parse(text)?;
        match template.segments.last() {
            Some(Segment::Rest { .. }) => Err(TemplateError::RestNotLast),
            Some(Segment::Literal(empty)) if empty.is_empty() => Err(TemplateError::EmptySegment),
            _ => Ok(template),
        }
    }

    /// The names of its captures, from left to right.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Capture { name, .. } | Segment::Rest { name } => Some(name.as_str()),
        })
    }

    /// Two templates with the same shape match the same paths. For comparing, not for reading.
    #[must_use]
    pub fn shape(&self) -> String {
        self.segments.iter().fold(String::new(), |shape, segment| match segment {
            Segment::Literal(text) => shape + "/" + text,
            Segment::Capture { before, after, .. } => shape + "/" + before + "\0" + after,
            Segment::Rest { .. } => shape + "/\0\0",
        })
    }

    fn check_names(&self) -> Result<(), TemplateError> {
        let names: Vec<&str> = self.names().collect();
        if names.len() > MAX_CAPTURES {
            return Err(TemplateError::TooManyCaptures);
        }
        let repeated = names.iter().enumerate().any(|(i, name)| names[..i].contains(name));
        if repeated { Err(TemplateError::RepeatedName) } else { Ok(()) }
    }
}

fn segment(text: &str, last: bool) -> Result<Segment, TemplateError> {
    match text {
        "" if last => return Ok(Segment::Literal(String::new())),
        "" => return Err(TemplateError::EmptySegment),
        _ => {}
    }
    let (before, open) = literal(text)?;
    let Some(inner) = open else {
        return if matches!(&*before, "." | "..") {
            Err(TemplateError::DotSegment)
        } else {
            Ok(Segment::Literal(before))
        };
    };
    let (name, after) = inner.split_once('}').ok_or(TemplateError::Braces)?;
    if let Some(name) = name.strip_prefix('*') {
        let alone = before.is_empty() && after.is_empty() && last;
        return if alone { Ok(Segment::Rest { name: name_of(name)? }) } else { Err(TemplateError::RestNotLast) };
    }
    match literal(after)? {
        (after, None) => Ok(Segment::Capture { before, name: name_of(name)?, after }),
        (_, Some(_)) => Err(TemplateError::TwoCaptures),
    }
}

/// Literal text up to an opening brace, and what follows that brace.
fn literal(text: &str) -> Result<(String, Option<&str>), TemplateError> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        match (after.strip_prefix(brace), brace) {
            (Some(next), brace) => {
                plain.push_str(brace);
                rest = next;
            }
            (None, "{") => return Ok((normal(&plain), Some(after))),
            (None, _) => return Err(TemplateError::Braces),
        }
    }
    plain.push_str(rest);
    Ok((normal(&plain), None))
}

fn normal(literal: &str) -> String {
    super::unify_escapes(literal.as_bytes())
}

fn name_of(text: &str) -> Result<String, TemplateError> {
    let sane = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if sane { Ok(text.to_owned()) } else { Err(TemplateError::Name) }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSlash => "a path starts with `/`",
            Self::TooLong => "a path has at most 4096 bytes and 64 segments",
            Self::EmptySegment => "a path has no empty segment (`//`)",
            Self::DotSegment => "`.` and `..` are resolved before matching, so this never matches",
            Self::Braces => "unbalanced braces; write `{{` or `}}` for a brace itself",
            Self::Name => "the name in braces is letters, digits, `_` and `-`",
            Self::TwoCaptures => "one capture per segment",
            Self::TooManyCaptures => "at most 16 captures",
            Self::RepeatedName => "two captures have the same name",
            Self::RestNotLast => "`{*name}` is a whole segment and the last one",
            Self::Character => {
                "spaces, control characters, `?` and `#` are not part of a path; match a query with `query`"
            }
        })
    }
}

impl std::error::Error for TemplateError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_has_its_name() {
        use TemplateError::*;
        for (text, error) in [
            ("v1", NoSlash),
            ("/a//b", EmptySegment),
            ("/a/../b", DotSegment),
            ("/a/%2e/b", DotSegment),
            ("/{id", Braces),
            ("/id}", Braces),
            ("/{}", Name),
            ("/{a b}", Character),
            ("/{a$}", Name),
            ("/{a}{b}", TwoCaptures),
            ("/{a}/{a}", RepeatedName),
            ("/{*a}/b", RestNotLast),
            ("/x{*a}", RestNotLast),
            ("/a?b=c", Character),
        ] {
            assert_eq!(Template::parse(text), Err(error), "{text}");
        }
        assert_eq!(Template::parse(&"/a".repeat(65)), Err(TooLong));
        assert_eq!(Template::parse(&(0..17).map(|i| format!("/{{n{i}}}")).collect::<String>()), Err(TooManyCaptures));
    }

    #[test]
    fn the_shape_forgets_names_and_spelling() {
        let shape = |text| Template::parse(text).expect("valid").shape();
        assert_eq!(shape("/%61/{id}.json"), shape("/a/{name}.json"));
        assert_eq!(shape("/a/{{x}}"), "/a/%7Bx%7D");
        assert_ne!(shape("/a"), shape("/a/"));
    }
}
