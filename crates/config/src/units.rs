//! Spans, sizes, shares as people write them: `1m30s`, `10MiB`, `20%`. Each reads and writes the same text.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// A share, 0.0 to 1.0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(pub f64);

/// So many in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateText {
    pub many: u64,
    pub per: Duration,
}

/// An amount of money, in billionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money(pub u64);

const SPANS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
const SIZES: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl Span {
    /// As it is written on command lines and in URLs, where a number alone is seconds.
    ///
    /// # Errors
    /// What is wrong, and how to write it.
    pub fn or_seconds(text: &str) -> Result<Duration, String> {
        let alone = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let span = if alone { parse_span(&format!("{text}s")) } else { parse_span(text) };
        span.map(|span| span.0).map_err(|why| why.replace('\n', ": "))
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_size(text).map_err(|why| why.replace('\n', ": "))
    }
}

impl std::str::FromStr for RateText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_rate(text).map_err(|why| why.replace('\n', ": "))
    }
}

fn parse_span(text: &str) -> Result<Span, String> {
    const HINT: &str = "write `500ms`, `10s`, `1m30s`, `2h`, `1d`";
    let wrong = || format!("`{}` is not a span of time\n{HINT}", crate::decode::short(text));
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest == "0" {
        return Ok(Span(Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| {
            format!("`{}` has no unit\nwrite `{}s` for seconds or `{}ms`", crate::decode::short(text), rest, rest)
        })?;
        let (number, unit) = rest.split_at(digits);
        let letters = unit.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit.len());
        let (unit, after) = unit.split_at(letters);
        let nanos = SPANS.iter().find(|(name, _)| *name == unit).map(|(_, nanos)| *nanos).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        total = number
            .checked_mul(nanos)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| format!("`{}` is longer than 500 years", crate::decode::short(text)))?;
        rest = after;
    }
    Ok(Span(Duration::from_nanos(total)))
}

fn parse_size(text: &str) -> Result<Size, String> {
    let text = text.trim();
    let wrong = || {
        format!("`{}` is not a size\nwrite `512KiB`, `10MiB`, `1GB` or a number of bytes", crate::decode::short(text))
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim_start();
    let bytes = if unit.is_empty() { Some(1) } else { SIZES.iter().find(|(name, _)| *name == unit).map(|(_, b)| *b) };
    bytes.and_then(|bytes| number.checked_mul(bytes)).map(Size).ok_or_else(wrong)
}

fn parse_share(text: &str) -> Result<Share, String> {
    let wrong = || format!("`{}` is not a share\nwrite `20%`", crate::decode::short(text));
    let share = match text.trim().strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.trim().parse::<f64>(),
    };
    share.ok().filter(|share| (0.0..=1.0).contains(share)).map(Share).ok_or_else(wrong)
}

fn parse_rate(text: &str) -> Result<RateText, String> {
    let wrong = || format!("`{}` is not a rate\nwrite `10/s`, `600/m`, `5/100ms`", crate::decode::short(text));
    let (many, per) = text.trim().split_once('/').ok_or_else(wrong)?;
    let many = many.trim_end().parse().map_err(|_| wrong())?;
    let per = per.trim_start();
    let per =
        if per.starts_with(|c: char| c.is_ascii_digit()) { parse_span(per) } else { parse_span(&format!("1{per}")) };
    Ok(RateText { many, per: per.map_err(|_| wrong())?.0 })
}

fn parse_money(text: &str) -> Result<Money, String> {
    let wrong =
        || format!("`{}` is not an amount\nwrite `25` or `25.50`, up to 9 decimals", crate::decode::short(text));
    let text = text.trim();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 9 || !digits(whole) || !digits(part) || text.ends_with('.') {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{part:0<9}").parse().map_err(|_| wrong())?;
    whole.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(part)).map(Money).ok_or_else(wrong)
}

impl fmt::Display for RateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = Span(self.per).to_string();
        write!(
            f,
            "{}/{}",
            self.many,
            per.strip_prefix('1').filter(|unit| !unit.contains(|c: char| c.is_ascii_digit())).unwrap_or(&per)
        )
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let part = format!("{part:09}");
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            part => write!(f, "{whole}.{part}"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in SPANS {
            if nanos >= size {
                write!(f, "{}{unit}", nanos / size)?;
                nanos %= size;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZES.iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size));
        let (unit, size) = unit.copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = (self.0 * 1e8).round() / 1e6; // 0.07 × 100 is 7.000000000000001
        write!(f, "{percent}%")
    }
}

macro_rules! written {
    ($name:ident, $parse:ident, $what:literal, $schema:tt) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Written($what, $parse))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

written!(Span, parse_span, "a span of time such as `10s`", {
    "type": "string", "format": "span", "pattern": "^\\s*(0|([0-9]+(d|h|m|s|ms|us|ns))+)\\s*$"
});
written!(Size, parse_size, "a size such as `10MiB`", {
    "type": ["string", "integer"], "format": "size", "minimum": 0,
    "pattern": "^\\s*[0-9]+\\s*(B|kB|MB|GB|KiB|MiB|GiB|TiB)?\\s*$"
});
written!(Share, parse_share, "a share such as `20%`", {
    "type": ["string", "number"], "format": "share", "minimum": 0, "maximum": 1,
    "pattern": "^\\s*([0-9]+([.][0-9]+)?\\s*%|[01]([.][0-9]+)?)\\s*$"
});

written!(RateText, parse_rate, "a rate such as `10/s`", {
    "type": "string", "format": "rate", "pattern": "^\\s*[0-9]+\\s*/\\s*([0-9]*(d|h|m|s|ms|us|ns))+\\s*$"
});
written!(Money, parse_money, "an amount such as `25.50`", {
    "type": ["string", "number"], "format": "money", "minimum": 0, "pattern": "^\\s*[0-9]+([.][0-9]{1,9})?\\s*$"
});

/// Reads a text (or a number, which is read as the text it is).
struct Written<T>(&'static str, fn(&str) -> Result<T, String>);

impl<T> Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_write() {
        for (text, millis) in [("500ms", 500), ("1m30s", 90_000), ("2h", 7_200_000), ("1d", 86_400_000), ("0", 0)] {
            let span = parse_span(text).expect("valid");
            assert_eq!(span.0, Duration::from_millis(millis), "{text}");
            assert_eq!(parse_span(&span.to_string()), Ok(span));
        }
        assert_eq!(parse_span("90s").expect("valid").to_string(), "1m30s");
        for text in ["", "60", "s", "1x", "-1s", "1.5s", "1s2", "99999999999d", "1 s"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
        assert_eq!(Span::or_seconds("60"), Ok(Duration::from_secs(60)));
        assert_eq!(Span::or_seconds("1m30s"), Ok(Duration::from_secs(90)));
        for text in ["", "s", "-1", "1.5s", "99999999999999999999", "1 s", "ä", "1y", "18446744073709551615d"] {
            assert!(Span::or_seconds(text).is_err(), "{text}");
        }
        assert_eq!(parse_span("60").expect_err("no unit"), "`60` has no unit\nwrite `60s` for seconds or `60ms`");
    }

    #[test]
    fn rates_and_amounts_read_and_write() {
        for (text, many, millis, written) in
            [("10/s", 10, 1_000, "10/s"), ("600/1m", 600, 60_000, "600/m"), ("5 / 100ms", 5, 100, "5/100ms")]
        {
            let rate = parse_rate(text).expect("valid");
            assert_eq!((rate.many, rate.per), (many, Duration::from_millis(millis)), "{text}");
            assert_eq!((rate.to_string(), parse_rate(&rate.to_string())), (written.to_owned(), Ok(rate)));
        }
        for (text, nano) in
            [("25", 25_000_000_000), ("25.50", 25_500_000_000), ("0.000000001", 1), ("0.1", 100_000_000)]
        {
            let money = parse_money(text).expect("valid");
            assert_eq!((money.0, parse_money(&money.to_string())), (nano, Ok(money)), "{text}");
        }
        for text in ["", "10", "/s", "10/", "1.5/s", "10/x", "-1/s"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        for text in ["", ".5", "5.", "-1", "1e3", "1.0000000001", "99999999999999", "1.5.2"] {
            assert!(parse_money(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_and_write() {
        for (text, bytes) in [("10MiB", 10 << 20), ("1 GB", 1_000_000_000), ("512", 512), ("0B", 0), ("3kB", 3000)] {
            let size = parse_size(text).expect("valid");
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(parse_size(&size.to_string()), Ok(size));
        }
        for text in ["", "MiB", "1.5MiB", "-1", "1QB", "99999999999999TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_read_and_write() {
        assert_eq!(parse_share("20%"), Ok(Share(0.2)));
        assert_eq!(parse_share("0.2"), Ok(Share(0.2)));
        assert_eq!(Share(0.07).to_string(), "7%");
        for text in ["120%", "-1%", "x", "NaN", "2"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }
}
