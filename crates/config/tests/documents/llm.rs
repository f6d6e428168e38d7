//! Providers, models, and routes of them.

use std::time::Duration;

use tidegate_config::{Inputs, Need, SourceFile, check};
use tidegate_model::Revision;
use tidegate_policy::{Action, Cost, Dimension, ProviderKind};

use crate::says;

#[test]
fn what_cannot_be_meant_is_said_with_a_hint() {
    says(
        "version: 1
secrets: [{name: k, from: env:K}]
upstreams: [{name: users, endpoints: [{url: http://h}]}]
providers:
  - {name: users, kind: openai}
  - {name: plain, kind: openai, key: sk-123}
  - {name: where, kind: vllm}
  - {name: bad, kind: openai, url: \"ftp://x\"}
  - {name: back, kind: anthropic, key: \"${secrets.k}\", breaker: {fallback: users}}
models:
  - {name: none, deployments: []}
  - {name: \"a*b\", deployments: [{provider: back}]}
  - {name: fast, deployments: [{provider: bak}], max_output: 0}
  - {name: twice, deployments: [{provider: back}, {provider: back}]}
routes:
  - {name: a, match: {path: /a/*}, llm: {models: []}}
  - {name: b, match: {path: /b/*}, llm: {models: [slow]}, upgrade: true}
  - {name: c, match: {path: /c/*}, llm: {models: [fast]}, to: [{upstream: users}]}
",
        &[
            "line 5: providers[0].name: an upstream is named `users` already (a provider is an upstream too: rename one)",
            "line 6: providers[1].key: a key does not stand in the document (list it in `secrets` and write `${secrets.NAME}`: documents are shown to who may read them)",
            "line 7: providers[2].url: this kind of provider is somewhere else for everybody (write `https://api.example.com/v1`)",
            "line 8: providers[3].url: `ftp://x` is not the address of a provider (write `https://api.example.com/v1`)",
            "line 9: providers[4].breaker.fallback: means nothing for a provider (give the model a second deployment)",
            "line 11: models[0].deployments: a model has at least one deployment (write `- {provider: NAME}`)",
            "line 12: models[1].name: `a*b` cannot be the name of a model (1 to 128 letters, digits and `-_.@:+/`, and maybe a `*` at the end)",
            "line 13: models[2].max_output: at least 1",
            "line 13: models[2].deployments[0].provider: no provider is named `bak` (did you mean `back`?)",
            "line 14: models[3].deployments[1]: this deployment is in the list already (use `weight` to give it a larger share)",
            "line 16: routes[0].llm.models: no model is served (name one of `models`)",
            "line 17: routes[1].llm.models[0]: no model is named `slow`",
            "line 17: routes[1].upgrade: means nothing without `to`",
            "line 18: routes[2]: a route does one of `to`, `redirect`, `respond`, `llm` (write `to: [{upstream: NAME}]`)",
        ],
    );
}

#[test]
fn a_provider_is_an_upstream_that_knows_how_it_is_spoken_to() {
    let text = "version: 1
secrets: [{name: k, from: env:K}]
providers:
  - {name: claude, kind: anthropic, key: \"${secrets.k}\", first_event: 5s}
  - {name: mine, kind: openai_compatible, url: \"http://10.0.0.9:8000\", timeouts: {idle: 7s}}
models:
  - {name: fast, deployments: [{provider: mine, weight: 2}, {provider: claude, model: c, priority: 3}], losses: drop}
limits: [{name: t, window: 1m, max: 9, per: [model], cost: {from: tokens}}]
routes: [{name: r, match: {path: /*}, llm: {models: [fast]}, limits: [t]}]
";
    let files = [SourceFile { name: "d.yaml", bytes: text.as_bytes() }];
    let inputs = |_: &_| Inputs::assumed().with(Need::Env("K".into()), "secret-1");
    let (_, snapshot) = check(&files, inputs, Revision(1)).expect("it is good");
    let Action::Llm(llm) = &snapshot.router.routes()[0].action else { panic!("a route of models") };
    let first = &llm.models[0].deployments[0];
    assert_eq!((&*first.provider.name, first.model.as_deref(), llm.models[0].drops), ("claude", Some("c"), true));
    let claude = &first.provider;
    assert_eq!((claude.kind, &*claude.base), (ProviderKind::Anthropic, "/v1"));
    assert_eq!(
        (claude.host.to_str().expect("a name"), claude.first_event),
        ("api.anthropic.com", Some(Duration::from_secs(5)))
    );
    let (name, value) = claude.credential.as_ref().expect("a key");
    assert_eq!((name.as_str(), value.as_bytes()), ("x-api-key", b"secret-1".as_slice()));
    assert!(!format!("{claude:?}").contains("secret-1"), "a key is printed");
    let mine = &llm.models[0].deployments[1].provider;
    assert_eq!(
        (&*mine.base, mine.upstream.timeouts.idle, mine.upstream.timeouts.first_byte.as_secs()),
        ("/v1", Duration::from_secs(7), 600)
    );
    assert_eq!(snapshot.upstreams.iter().map(|up| &*up.id).collect::<Vec<_>>(), ["claude", "mine"]);
    assert_eq!(
        (&snapshot.limits[0].cost, &snapshot.limits[0].per),
        (&Cost::Tokens { estimate: None }, &vec![Dimension::Model])
    );
}
