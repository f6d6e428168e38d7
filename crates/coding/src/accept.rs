//! Which codings a client would have: `Accept-Encoding` (RFC 9110 § 12.5.3).

use crate::Coding;

/// Weights in thousandths, as clients can tell them apart.
const WHOLE: u16 = 1_000;
/// Codings that a client may name before the rest of his list is passed over.
const MOST: usize = 64;

/// Those of `offered` that the client takes and likes at least as much as the body as it is: best first, and as offered where he likes
/// them equally. Nothing where he says nothing: RFC 9110 would let us send any, and clients that say nothing understand none.
#[must_use]
pub fn preferred<'a>(lines: impl IntoIterator<Item = &'a str>, offered: &[Coding]) -> Vec<Coding> {
    let mut named: [Option<u16>; Coding::ALL.len()] = [None; Coding::ALL.len()];
    let (mut others, mut identity) = (None, None);
    let lines = lines.into_iter().flat_map(|line| line.split(','));
    for (name, weight) in lines.take(MOST).filter_map(|item| weighed(item.trim())) {
        match (name, Coding::named(name)) {
            (_, Some(coding)) => named[coding as usize] = Some(weight),
            ("*", _) => others = Some(weight),
            (name, _) if name.eq_ignore_ascii_case("identity") => identity = Some(weight),
            _ => {}
        }
    }
    let least = identity.unwrap_or(0).max(1);
    let weight = |coding: Coding| named[coding as usize].or(others).unwrap_or(0);
    let mut taken: Vec<Coding> = offered.iter().copied().filter(|coding| weight(*coding) >= least).collect();
    taken.sort_by_key(|coding| std::cmp::Reverse(weight(*coding)));
    taken
}

/// `gzip;q=0.5`. `None`: nothing that could be read so.
fn weighed(item: &str) -> Option<(&str, u16)> {
    let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
    let mut weight = WHOLE;
    for parameter in parameters.split(';').map(str::trim).filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("q") {
            weight = thousandths(value.trim())?;
        }
    }
    let name = name.trim();
    (!name.is_empty()).then_some((name, weight))
}

/// `0.125`; RFC 9110 § 12.4.2.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    let part: u16 = format!("{part:0<3}").parse().ok().filter(|_| digits)?;
    match (whole, part) {
        ("0", part) => Some(part),
        ("1", 0) => Some(WHOLE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<&'static str> {
        let offered = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
        preferred([line], &offered).into_iter().map(Coding::name).collect()
    }

    #[test]
    fn what_a_client_likes_best_comes_first() {
        for (line, want) in [
            ("gzip, deflate, br, zstd", &["zstd", "br", "gzip"][..]),
            ("gzip;q=1.0, br;q=0.8", &["gzip", "br"]),
            ("br;q=0.001", &["br"]),
            ("GZIP , BR ;q=0", &["gzip"]),
            ("x-gzip", &["gzip"]),
            ("*", &["zstd", "br", "gzip"]),
            ("*;q=0.5, br;q=0", &["zstd", "gzip"]),
            ("*;q=0", &[]),
            ("gzip;q=0", &[]),
            ("", &[]),
            ("identity", &[]),
            ("identity;q=0", &[]),
            ("identity;q=0, *", &["zstd", "br", "gzip"]),
            ("identity;q=0.7, gzip;q=0.5, br;q=0.7", &["br"]),
            ("identity, gzip", &["gzip"]),
            ("deflate, compress, snappy", &[]),
            ("gzip;q=2, br;q=0.1234, zstd;q=x", &[]),
            ("gzip;q=1.5", &[]),
            ("gzip;level=9;q=0.3, br;q=0.2", &["gzip", "br"]),
            (";q=1, ,,gzip", &["gzip"]),
        ] {
            assert_eq!(of(line), want, "{line}");
        }
        let lines = ["br;q=0.1", "gzip;q=0.9"];
        assert_eq!(
            preferred(lines, &[Coding::Brotli, Coding::Gzip]),
            [Coding::Gzip, Coding::Brotli],
            "lines are one list"
        );
        assert_eq!(preferred([], &Coding::ALL), [], "no field");
    }
}
