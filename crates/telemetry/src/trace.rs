//! W3C trace context: which trace a request belongs to, who began it, and whether anybody wants to hear of it.
//!
//! Pure: whoever calls brings random numbers.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Longer ones may be dropped (Trace Context § 3.3.1.5); these are.
const LONGEST_STATE: usize = 512;

/// A request's place in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    pub trace: u128,
    /// Our span.
    pub span: u64,
    /// The caller's.
    pub parent: Option<u64>,
    pub sampled: bool,
    /// Of the caller's vendor, handed on as it is.
    state: Option<Box<str>>,
}

impl Trace {
    /// As the caller says, if he says anything that can be read; otherwise a new one. `draw`: random numbers.
    pub fn of(headers: &HeaderMap, rules: &tidegate_policy::Otlp, mut draw: impl FnMut() -> u64) -> Self {
        let mut nonzero = || std::iter::repeat_with(&mut draw).take(8).find(|n| *n != 0).unwrap_or(1);
        let sampled = |trace: u128| (trace as u32 as u64) < rules.sample;
        let span = nonzero();
        match headers.get(TRACEPARENT).and_then(|value| parse(value.as_bytes())) {
            Some((trace, parent, flag)) => {
                let sampled = if rules.parent_based { flag } else { sampled(trace) };
                Self { trace, span, parent: Some(parent), sampled, state: state(headers) }
            }
            None => {
                let trace = u128::from(nonzero()) << 64 | u128::from(nonzero());
                Self { trace, span, parent: None, sampled: sampled(trace), state: None }
            }
        }
    }

    /// What an upstream is told: that this span of ours asks it.
    pub fn put(&self, span: u64, headers: &mut HeaderMap) {
        let mut text = String::with_capacity(55);
        let _fits = write!(text, "00-{:032x}-{span:016x}-0{}", self.trace, u8::from(self.sampled));
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
        headers.remove(TRACESTATE);
        if let Some(state) = self.state.as_ref().and_then(|state| HeaderValue::from_str(state).ok()) {
            headers.insert(TRACESTATE, state);
        }
    }

    /// `tracestate`, as the caller sent it.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

fn state(headers: &HeaderMap) -> Option<Box<str>> {
    let lines = headers.get_all(TRACESTATE).iter().map(|value| value.to_str().ok());
    let lines: Vec<&str> = lines.collect::<Option<_>>()?;
    let joined = lines.join(",");
    (!joined.is_empty() && joined.len() <= LONGEST_STATE).then(|| joined.into())
}

/// `00-TRACE-SPAN-FLAGS` (Trace Context § 3.2.2). Later versions may have more behind it.
fn parse(text: &[u8]) -> Option<(u128, u64, bool)> {
    let hex = |bytes: &[u8]| {
        bytes.iter().try_fold(0_u128, |n, byte| match byte {
            b'0'..=b'9' => Some(n << 4 | u128::from(byte - b'0')),
            b'a'..=b'f' => Some(n << 4 | u128::from(byte - b'a' + 10)),
            _ => None,
        })
    };
    let (head, rest) = text.split_at_checked(55)?;
    let version = hex(&head[..2])?;
    let dashes = head[2] == b'-' && head[35] == b'-' && head[52] == b'-';
    let ends = if version == 0 { rest.is_empty() } else { rest.first().is_none_or(|b| *b == b'-') };
    if !dashes || !ends || version == 0xff {
        return None;
    }
    let (trace, span, flags) = (hex(&head[3..35])?, hex(&head[36..52])?, hex(&head[53..55])?);
    let span = u64::try_from(span).ok()?;
    (trace != 0 && span != 0).then_some((trace, span, flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_policy::{Otlp, OtlpProtocol};

    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn rules(sample: u64) -> Otlp {
        Otlp {
            endpoint: http::Uri::from_static("http://h"),
            protocol: OtlpProtocol::Grpc,
            headers: vec![],
            authority: None,
            traces: true,
            metrics: true,
            logs: false,
            sample,
            parent_based: true,
            interval: Duration::from_secs(1),
            queue: 64,
            resource: vec![],
        }
    }

    fn headers(parent: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, parent.parse().unwrap());
        headers.append(TRACESTATE, "a=1".parse().unwrap());
        headers.append(TRACESTATE, "b=2".parse().unwrap());
        headers
    }

    #[test]
    fn a_callers_trace_goes_on_through_us() {
        let trace = Trace::of(&headers(GIVEN), &rules(0), || 7);
        assert_eq!(
            (trace.trace, trace.parent),
            (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, Some(0xb7ad_6b71_6920_3331))
        );
        assert!(trace.sampled && trace.span == 7);
        let mut out = headers(GIVEN);
        trace.put(9, &mut out);
        assert_eq!(out[TRACEPARENT], "00-0af7651916cd43dd8448eb211c80319c-0000000000000009-01");
        assert_eq!(out.get_all(TRACESTATE).iter().collect::<Vec<_>>(), ["a=1,b=2"]);
        let unsampled = Trace::of(&headers(&GIVEN.replace("-01", "-00")), &rules(1 << 32), || 7);
        assert!(!unsampled.sampled, "the caller decides");
        let ours = Otlp { parent_based: false, ..rules(1 << 32) };
        assert!(Trace::of(&headers(&GIVEN.replace("-01", "-00")), &ours, || 7).sampled);
    }

    #[test]
    fn what_cannot_be_read_begins_a_new_trace() {
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319cxb7ad6b7169203331-01",
        ] {
            let trace = Trace::of(&headers(bad), &rules(0), || 3);
            assert!(trace.parent.is_none() && trace.trace == 3 << 64 | 3 && !trace.sampled, "{bad}");
            assert_eq!(trace.state(), None, "{bad}");
        }
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert!(Trace::of(&headers(later), &rules(0), || 3).parent.is_some());
    }

    #[test]
    fn a_share_of_the_traces_is_sampled() {
        let mut state = 1_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ (state >> 29)
        };
        for (sample, least, most) in [(0, 0, 0), (1 << 32, 10_000, 10_000), ((1 << 32) / 10, 800, 1_200)] {
            let rules = rules(sample);
            let sampled = (0..10_000).filter(|_| Trace::of(&HeaderMap::new(), &rules, &mut draw).sampled).count();
            assert!((least..=most).contains(&sampled), "{sample}: {sampled}");
        }
    }
}
