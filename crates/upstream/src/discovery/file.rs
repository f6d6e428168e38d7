//! A file that lists endpoints: looked at each second, read when its time or size changed, believed when all of it is
//! good.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use http::Uri;
use serde::Deserialize;

use super::{Found, MOST, tidy};
use crate::endpoint::Address;
use crate::{BoxError, lock};

const LOOK: Duration = Duration::from_secs(1);
const MOST_BYTES: u64 = 1 << 20;

/// What the files of one upstream were when they were last read.
#[derive(Debug, Default)]
pub(crate) struct Files(Mutex<HashMap<String, Seen>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    modified: Option<SystemTime>,
    size: u64,
    /// Files that are put in the place of others may have time and size of those.
    inode: u64,
    /// It was good.
    good: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    url: String,
    #[serde(default = "one")]
    weight: u32,
}

fn one() -> u32 {
    1
}

impl Files {
    pub(super) async fn look(&self, path: &str) -> Result<Option<Found>, BoxError> {
        let facts = tokio::fs::metadata(path).await?;
        if !facts.is_file() {
            return Err("not a file".into()); // A pipe would be waited for without end.
        }
        let seen = Seen { modified: facts.modified().ok(), size: facts.len(), inode: facts.ino(), good: true };
        // Two changes within the clock's grain look like one: what is young is read again.
        let young = seen.modified.and_then(|at| at.elapsed().ok()).is_none_or(|age| age < 3 * LOOK);
        if !young && lock(&self.0).get(path) == Some(&seen) {
            return Ok(None);
        }
        let read = if facts.len() > MOST_BYTES {
            Err("larger than 1 MiB".into())
        } else {
            parse(&tokio::fs::read(path).await?)
        };
        lock(&self.0).insert(path.to_owned(), Seen { good: read.is_ok(), ..seen });
        Ok(Some(Found { endpoints: read?, good_for: LOOK }))
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<(Address, u32)>, BoxError> {
    let lines: Vec<Line> = serde_json::from_slice(bytes)?;
    if lines.is_empty() {
        return Err("the list is empty".into());
    }
    if lines.len() > MOST {
        return Err(format!("more than {MOST} endpoints").into());
    }
    let read = |Line { url, weight }: &Line| {
        let address = address(url).ok_or_else(|| format!("`{url}` is not like `http://10.0.0.5:8000`"))?;
        if *weight > 65_535 { Err(format!("weight {weight} is above 65535")) } else { Ok((address, *weight)) }
    };
    let all = lines.iter().map(read).collect::<Result<Vec<_>, String>>()?;
    if all.iter().all(|(_, weight)| *weight == 0) {
        return Err("all weights are 0".into());
    }
    Ok(tidy(all))
}

fn address(url: &str) -> Option<Address> {
    let uri: Uri = url.parse().ok()?;
    let https = match uri.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let authority = uri.authority()?;
    if authority.as_str().contains('@') || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return None;
    }
    let explicit = authority.as_str().len() > authority.host().len();
    let port = match authority.port_u16() {
        Some(port) => port,
        None if explicit => return None,
        None if https => 443,
        None => 80,
    };
    let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
    (port != 0 && !host.is_empty()).then_some(Address { https, host, port, ip: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<String>, String> {
        let read = parse(text.as_bytes()).map_err(|why| why.to_string())?;
        Ok(read.into_iter().map(|(a, weight)| format!("{}:{}*{weight}", a.host, a.port)).collect())
    }

    #[test]
    fn a_list_is_good_as_a_whole_or_not_at_all() {
        let good = r#"[{"url": "http://10.0.0.6:8000", "weight": 2}, {"url": "http://10.0.0.5:8000"}]"#;
        assert_eq!(names(good).unwrap(), ["10.0.0.5:8000*1", "10.0.0.6:8000*2"]);
        let twice = r#"[{"url": "http://a"}, {"url": "http://a:80"}, {"url": "https://a"}]"#;
        assert_eq!(names(twice).unwrap(), ["a:80*2", "a:443*1"]);
        for bad in [
            "",
            "[]",
            "{}",
            r#"[{"url": "http://10.0.0.5:8000"}, {"url": "10.0.0.6"}]"#,
            r#"[{"url": "http://u:p@h"}]"#,
            r#"[{"url": "http://h/path"}]"#,
            r#"[{"url": "http://h", "weight": 70000}]"#,
            r#"[{"url": "http://h", "weight": 0}]"#,
            r#"[{"url": "http://h", "wieght": 1}]"#,
        ] {
            assert!(names(bad).is_err(), "{bad}");
        }
    }
}
