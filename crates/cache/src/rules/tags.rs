//! Surrogate keys: names under which responses are purged together.

use http::{HeaderMap, HeaderName};

pub const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
pub const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

/// A response with more tags, or a longer one, is not stored: a purge could not find it.
const TAGS: usize = 128;
const LENGTH: usize = 256;

/// Those of the route, of `Surrogate-Key` (split by spaces) and of `Cache-Tag` (split by commas), sorted.
#[must_use]
pub fn of(response: &HeaderMap, route: &[Box<str>]) -> Option<Vec<Box<str>>> {
    let mut tags = route.to_vec();
    for line in response.get_all(SURROGATE_KEY) {
        collect(line.as_bytes().split(u8::is_ascii_whitespace), &mut tags)?;
    }
    for line in response.get_all(CACHE_TAG) {
        collect(line.as_bytes().split(|&b| b == b','), &mut tags)?;
    }
    tags.sort_unstable();
    tags.dedup();
    Some(tags)
}

fn collect<'a>(members: impl Iterator<Item = &'a [u8]>, tags: &mut Vec<Box<str>>) -> Option<()> {
    for tag in members.map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty()) {
        if tag.len() > LENGTH || tags.len() >= TAGS {
            return None;
        }
        tags.push(std::str::from_utf8(tag).ok()?.into());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn tags_come_from_route_and_response() {
        let mut headers = HeaderMap::new();
        headers.insert(SURROGATE_KEY, HeaderValue::from_static("b  a"));
        headers.insert(CACHE_TAG, HeaderValue::from_static("c d, ,a"));
        let tags = of(&headers, &["route".into()]).expect("few enough");
        assert_eq!(tags.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["a", "b", "c d", "route"]);
        headers.insert(CACHE_TAG, HeaderValue::try_from("x,".repeat(200)).expect("a value"));
        assert_eq!(of(&headers, &[]), None);
    }
}
