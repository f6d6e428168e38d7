//! Documents and what is said about them.

mod caching;
mod holders;
mod llm;
mod parts;
mod problems;
mod routes;
mod sick;
mod snapshot;
mod texts;
mod tokens;

use tidegate_config::{Document, Format, Inputs, Need, SourceFile, check, compile, parse};
use tidegate_model::Revision;
use tidegate_policy::Snapshot;

const FULL: &str = include_str!("../golden/full.yaml");

fn inputs(document: &Document) -> Inputs {
    Inputs::gather(document, |need| {
        Ok(match need {
            Need::Env(_) | Need::Sealed(_) => b"s3cret".to_vec(),
            Need::File(name) if name.ends_with(".key") => b"-----BEGIN PRIVATE KEY-----\nAA==\n".to_vec(),
            Need::File(_) => b"-----BEGIN CERTIFICATE-----\nAA==\n".to_vec(),
        })
    })
}

fn compiled(text: &str) -> Snapshot {
    let (document, locations) = parse(text.as_bytes(), Format::Auto).expect("reads");
    compile(&document, &locations, &inputs(&document), Revision(7)).expect("compiles")
}

/// Each problem as it is shown to people, in order.
#[track_caller]
fn says(text: &str, problems: &[&str]) {
    let said = match check(&[SourceFile { name: "", bytes: text.as_bytes() }], inputs, Revision(1)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(said, problems, "{text}");
}

/// A document with one upstream and one route whose further fields are `route`.
#[track_caller]
fn route_says(route: &str, problems: &[&str]) {
    let text = format!(
        "version: 1\nsecrets: [{{name: s, from: env:S}}]\nupstreams: [{{name: u, endpoints: [{{url: 'http://h:1'}}]}}]\nroutes:\n- name: r\n  {}\n",
        route.replace('\n', "\n  ")
    );
    says(&text, problems);
}
