//! Kept responses, over real nodes and a real Redis.

use std::fmt::Write as _;

use crate::harness::Origin;

/// A document whose only route keeps responses as `rule` says.
pub(crate) fn document(origin: &Origin, rule: &str) -> String {
    let mut text = String::from("version: 1\nupstreams:\n");
    writeln!(text, "  - {{name: origin, endpoints: [{{url: \"http://{}\"}}]}}", origin.address).unwrap();
    writeln!(text, "routes:\n  - name: kept\n    match: {{path: /*}}\n    to: [{{upstream: origin}}]").unwrap();
    writeln!(text, "    cache: {rule}").unwrap();
    text
}
