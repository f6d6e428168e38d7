//! How a change of a document is told to people.

use serde_json::Value;
use tidegate_admin::wire::{Change, DiffReply};

use super::print;

pub(super) fn show(diff: &DiffReply) {
    if !diff.by_hand.is_empty() {
        print::line("set by hand, whatever the document says:");
        diff.by_hand.iter().for_each(super::upstream::said);
    }
    if !diff.orders.is_empty() {
        print::line("ordered about limits, whatever the document says:");
        diff.orders.iter().for_each(|order| print::line(&super::quota::worded(order)));
    }
    if diff.changes.is_empty() {
        print::line(&format!("no change against revision {}", diff.from));
        return;
    }
    for change in &diff.changes {
        print::line(&worded(change));
        if let Some(effect) = &change.effect {
            print::line(&format!("    {}", print::clean(effect)));
        }
    }
}

fn worded(change: &Change) -> String {
    let path = print::clean(&change.path);
    let value = |value: &Option<Value>| value.as_ref().map(|v| print::clean(&v.to_string())).unwrap_or_default();
    match (change.kind.as_str(), &change.before, &change.after) {
        ("added", _, Some(_)) => format!("+ {path}: {}", value(&change.after)),
        ("added", _, None) => format!("+ {path}"),
        ("removed", Some(_), _) => format!("- {path}: {}", value(&change.before)),
        ("removed", None, _) => format!("- {path}"),
        (_, Some(_), Some(_)) => format!("~ {path}: {} -> {}", value(&change.before), value(&change.after)),
        _ => format!("~ {path}"),
    }
}
