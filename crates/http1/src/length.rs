//! What requests and answers have in common.

/// A number, or a list of equal ones (RFC 9110 § 8.6).
#[must_use]
pub fn length(text: &[u8]) -> Option<u64> {
    let mut numbers = text.split(|byte| *byte == b',').map(|number| {
        let number = number.trim_ascii();
        let digit = |sum: u64, byte: &u8| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        };
        if number.is_empty() { None } else { number.iter().try_fold(0, digit) }
    });
    let first = numbers.next()??;
    numbers.all(|number| number == Some(first)).then_some(first)
}

/// A head is not parsed anew with each of its bytes: only when an empty line came. `looked`: so many were there before.
#[must_use]
pub fn is_whole_since(bytes: &[u8], looked: usize) -> bool {
    let fresh = &bytes[looked.saturating_sub(3)..];
    fresh
        .iter()
        .enumerate()
        .any(|(at, byte)| *byte == b'\n' && matches!(&fresh[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}
