//! Several files, one document: lists are joined in the order of the files, single things may stand in one file only.

use super::{Key, Mark, Node, Unreadable, Value};

/// `roots` as read; the result reads as one file.
pub(crate) fn merge(roots: Vec<Node>) -> Result<Node, Vec<Unreadable>> {
    let mut problems = Vec::new();
    let mut whole: Option<Node> = None;
    for root in roots {
        match (&mut whole, root.value) {
            (_, Value::Null) => {} // A file of comments.
            (None, value) => whole = Some(Node { mark: root.mark, value }),
            (Some(Node { value: Value::Map(entries), .. }), Value::Map(more)) => join(entries, more, &mut problems),
            (Some(_), _) => {
                problems.push(Unreadable::new(root.mark, "a document is a map: `version: 1`, `routes:`, …"))
            }
        }
    }
    if problems.is_empty() {
        return Ok(whole.unwrap_or(Node { mark: Mark { file: 0, line: 1, column: 1 }, value: Value::Null }));
    }
    Err(problems)
}

fn join(entries: &mut Vec<(Key, Node)>, more: Vec<(Key, Node)>, problems: &mut Vec<Unreadable>) {
    for (key, node) in more {
        let Some((_, known)) = entries.iter_mut().find(|(known, _)| known.text == key.text) else {
            entries.push((key, node));
            continue;
        };
        match (&mut known.value, node.value) {
            (_, Value::Null) => {}
            (slot @ Value::Null, value) => *slot = value,
            (Value::List(items), Value::List(more)) => items.extend(more),
            (Value::Scalar { text, .. }, Value::Scalar { text: again, .. }) if *text == again => {}
            _ => problems.push(Unreadable::new(key.mark, format!("`{}` is already set in another file", key.text))),
        }
    }
}
