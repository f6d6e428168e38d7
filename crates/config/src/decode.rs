//! A tree into typed values, by serde, telling *every* misfit with its place.
//!
//! serde stops at the first error. So an unknown field is noted and passed over, and for the rest the reading is repeated
//! without what was found wrong, until nothing more is. `document` reads one object of a list at a time: rounds are
//! cheap.

use std::cell::RefCell;
use std::collections::HashSet;

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor, value::StrDeserializer};

mod fault;
mod scalar;

use fault::Fault;
pub(crate) use fault::short;

use crate::problem::did_you_mean;
use crate::tree::{Key, Mark, Node, Value};

/// Nobody reads more about one object; and each costs a round.
const MAX_ROUNDS: usize = 32;
/// Nor more about one document; finding the path of one walks the tree.
const MAX_MISFITS: usize = 100;

/// Something in the text that does not fit the types.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// The value's address in the tree.
    pub(crate) node: usize,
    /// The unknown field of that value, when it is about one.
    pub(crate) field: Option<String>,
    pub(crate) mark: Mark,
    pub(crate) reason: String,
    pub(crate) hint: Option<String>,
}

/// Notes of one document. Nodes by address: the tree stays where it is while it is used.
#[derive(Default)]
pub(crate) struct Notes {
    misfits: RefCell<Vec<Misfit>>,
    left_out: RefCell<HashSet<usize>>,
}

impl Notes {
    pub(crate) fn into_parts(self) -> (Vec<Misfit>, HashSet<usize>) {
        (self.misfits.into_inner(), self.left_out.into_inner())
    }

    pub(crate) fn leave_out(&self, node: &Node, reason: impl Into<String>) {
        self.misfit(Misfit { node: address(node), field: None, mark: node.mark, reason: reason.into(), hint: None });
        self.left_out.borrow_mut().insert(address(node));
    }

    pub(crate) fn unknown_field(&self, node: &Node, key: &Key, known: &[&str]) {
        let hint = did_you_mean(&key.text, known.iter().copied());
        self.misfit(Misfit {
            node: address(node),
            field: Some(key.text.clone()),
            mark: key.mark,
            reason: "unknown field".into(),
            hint: hint.or_else(|| Some(format!("known here: {}", known.join(", ")))),
        });
    }

    fn misfit(&self, misfit: Misfit) {
        let mut misfits = self.misfits.borrow_mut();
        let same = |m: &Misfit| m.node == misfit.node && m.field == misfit.field && m.reason == misfit.reason;
        if misfits.len() < MAX_MISFITS && !misfits.iter().rev().take(MAX_ROUNDS).any(same) {
            misfits.push(misfit);
        }
    }

    fn is_left_out(&self, node: &Node) -> bool {
        self.left_out.borrow().contains(&address(node))
    }
}

pub(crate) fn address(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

/// Reads `root`, without the parts that do not fit; `None` when it cannot be read without them.
pub(crate) fn decode<T: de::DeserializeOwned>(root: &Node, notes: &Notes) -> Option<T> {
    for _ in 0..MAX_ROUNDS {
        match T::deserialize(Reader { node: root, notes }).map_err(|fault| fault.at(root)) {
            Ok(value) => return Some(value),
            Err(fault) => {
                let node = fault.node.unwrap_or_else(|| address(root));
                if !fault.consequence {
                    let mark = fault.mark.unwrap_or(root.mark);
                    notes.misfit(Misfit { node, field: None, mark, reason: fault.reason, hint: fault.hint });
                }
                let more = notes.left_out.borrow_mut().insert(node);
                if !more || node == address(root) {
                    break;
                }
            }
        }
    }
    notes.left_out.borrow_mut().insert(address(root));
    None
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    notes: &'a Notes,
}

impl<'a> Reader<'a> {
    fn of(self, node: &'a Node) -> Self {
        Self { node, notes: self.notes }
    }

    fn wrong(self, expected: &dyn de::Expected) -> Fault {
        de::Error::invalid_type(scalar::describe(self.node), expected)
    }

    fn map<'de, V: Visitor<'de>>(self, visitor: V, fields: Option<&'static [&'static str]>) -> Result<V::Value, Fault> {
        let Value::Map(entries) = &self.node.value else { return Err(self.wrong(&visitor)) };
        let access = Entries { reader: self, rest: entries.iter(), value: None, fields };
        visitor.visit_map(access).map_err(|fault| self.about_me(fault))
    }

    /// A field may be missing only because its value was left out: then the whole object is, without another word.
    fn about_me(self, mut fault: Fault) -> Fault {
        let missing = fault.node.is_none().then_some(fault.missing).flatten();
        let value = missing.and_then(|field| self.node.field(field));
        fault.consequence |= value.is_some_and(|value| self.notes.is_left_out(value));
        fault.at(self.node)
    }
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Scalar { text, plain: false } => visitor.visit_str(text),
            Value::Scalar { text, plain: true } => scalar::visit(text, visitor),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.map(visitor, None),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Scalar { text, .. } => visitor.visit_str(text),
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(Items { reader: self, rest: items.iter() }),
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.map(visitor, None)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.map(visitor, Some(fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Scalar { text, .. } => {
                let variant: StrDeserializer<'_, Fault> = text.as_str().into_deserializer();
                visitor.visit_enum(variant)
            }
            _ => Err(self.wrong(&"one of its words")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier
    }
}

struct Items<'a> {
    reader: Reader<'a>,
    rest: std::slice::Iter<'a, Node>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let reader = self.reader;
        let Some(node) = self.rest.find(|node| !reader.notes.is_left_out(node)) else { return Ok(None) };
        seed.deserialize(reader.of(node)).map(Some).map_err(|fault| fault.at(node))
    }
}

struct Entries<'a> {
    reader: Reader<'a>,
    rest: std::slice::Iter<'a, (Key, Node)>,
    value: Option<&'a Node>,
    /// Of a struct; `None`: any key goes.
    fields: Option<&'static [&'static str]>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Reader { node: map, notes } = self.reader;
        for (key, node) in self.rest.by_ref() {
            if notes.is_left_out(node) {
                continue;
            }
            if let Some(fields) = self.fields {
                if !fields.contains(&key.text.as_str()) {
                    notes.unknown_field(map, key, fields);
                    continue;
                }
                if matches!(node.value, Value::Null) {
                    continue; // `routes:` with nothing after it says nothing.
                }
            }
            self.value = Some(node);
            let text: StrDeserializer<'_, Fault> = key.text.as_str().into_deserializer();
            return seed.deserialize(text).map(Some).map_err(|fault| fault.at(node));
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let node = self.value.take().expect("serde asks for a value after its key");
        seed.deserialize(self.reader.of(node)).map_err(|fault| fault.at(node))
    }
}
