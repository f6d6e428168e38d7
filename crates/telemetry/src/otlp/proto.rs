//! Protobuf, as much as OTLP needs of it: fields are written one behind the other, messages get their length when they
//! are done. Knows nothing of spans.

/// A message that is being written.
pub(crate) struct Message<'a>(&'a mut Vec<u8>);

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

impl<'a> Message<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self(out)
    }

    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn tag(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    pub(crate) fn number(&mut self, field: u64, n: u64) {
        self.tag(field, VARINT);
        self.varint(n);
    }

    pub(crate) fn fixed64(&mut self, field: u64, n: u64) {
        self.tag(field, FIXED64);
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    pub(crate) fn fixed32(&mut self, field: u64, n: u32) {
        self.tag(field, FIXED32);
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    pub(crate) fn double(&mut self, field: u64, n: f64) {
        self.fixed64(field, n.to_bits());
    }

    pub(crate) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.tag(field, BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// Packed, as `repeated fixed64` and `repeated double` are.
    pub(crate) fn packed(&mut self, field: u64, words: impl ExactSizeIterator<Item = u64>) {
        self.tag(field, BYTES);
        self.varint(words.len() as u64 * 8);
        words.for_each(|word| self.0.extend_from_slice(&word.to_le_bytes()));
    }

    /// Fields that were written before.
    pub(crate) fn raw(&mut self, fields: &[u8]) {
        self.0.extend_from_slice(fields);
    }

    /// One byte is kept for the length: most messages are short; others are moved to make room.
    pub(crate) fn message(&mut self, field: u64, write: impl FnOnce(&mut Message<'_>)) {
        self.tag(field, BYTES);
        let at = self.0.len();
        self.0.push(0);
        write(&mut Message(self.0));
        let length = self.0.len() - at - 1;
        let mut prefix = Vec::with_capacity(10);
        Message(&mut prefix).varint(length as u64);
        self.0.splice(at..=at, prefix);
    }

    /// A `KeyValue` of OTLP's.
    pub(crate) fn text_attribute(&mut self, field: u64, name: &str, value: &str) {
        self.message(field, |pair| {
            pair.text(1, name);
            pair.message(2, |any| any.text(1, value));
        });
    }

    pub(crate) fn number_attribute(&mut self, field: u64, name: &str, value: u64) {
        self.message(field, |pair| {
            pair.text(1, name);
            pair.message(2, |any| any.number(3, value));
        });
    }

    pub(crate) fn truth_attribute(&mut self, field: u64, name: &str, value: bool) {
        self.message(field, |pair| {
            pair.text(1, name);
            pair.message(2, |any| any.number(2, u64::from(value)));
        });
    }

    pub(crate) fn double_attribute(&mut self, field: u64, name: &str, value: f64) {
        self.message(field, |pair| {
            pair.text(1, name);
            pair.message(2, |any| any.double(4, value));
        });
    }

    pub(crate) fn list_attribute(&mut self, field: u64, name: &str, values: &[&str]) {
        self.message(field, |pair| {
            pair.text(1, name);
            pair.message(2, |any| {
                any.message(5, |list| values.iter().for_each(|value| list.message(1, |any| any.text(1, value))))
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_protobuf_has_them() {
        let mut out = Vec::new();
        let mut message = Message::new(&mut out);
        message.number(1, 300);
        message.text(2, "hi");
        message.message(3, |inner| inner.fixed32(1, 1));
        message.packed(4, [1, 2].into_iter());
        let want = [
            &[8, 0xac, 2][..],
            &[0x12, 2, b'h', b'i'],
            &[0x1a, 5, 0x0d, 1, 0, 0, 0],
            &[0x22, 16, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(out, want.concat());
    }

    #[test]
    fn long_messages_have_long_lengths() {
        let mut out = Vec::new();
        Message::new(&mut out).message(1, |inner| inner.bytes(1, &[7; 300]));
        assert_eq!(out[..3], [0x0a, 0xaf, 2]);
        assert_eq!(out.len(), 3 + 303);
    }
}
