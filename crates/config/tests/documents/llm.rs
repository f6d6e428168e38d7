//! Providers, models, and routes of them.

use std::time::Duration;

use tidegate_config::{Inputs, Need, SourceFile, check};
use tidegate_model::Revision;
use tidegate_policy::{Action, Cost, Credential, Dimension, GoogleTokens, ProviderKind};

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
    let Some(Credential::Header(name, value)) = &claude.credential else { panic!("a key") };
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

#[test]
fn proofs_that_cannot_be_meant_are_said_with_a_hint() {
    says(
        "version: 1
secrets: [{name: k, from: env:K}]
providers:
  - {name: a, kind: openai, key: \"${secrets.k}\", aws: {access_key_id: A, secret_access_key: \"${secrets.k}\", region: us-east-1}}
  - {name: b, kind: bedrock, url: \"http://10.0.0.1\", aws: {access_key_id: A, secret_access_key: plain}}
  - {name: c, kind: vertex, google: {service_account: \"${secrets.k}\"}}
  - {name: d, kind: vertex, google: {project: p, service_account: \"${secrets.k}\", metadata: \"http://m\"}}
  - {name: e, kind: vertex_anthropic, google: {project: p, location: Europe, service_account: file}}
  - {name: f, kind: groq, token: plain, api_version: \"a b\"}
",
        &[
            "line 4: providers[0].aws: means nothing but for `bedrock`",
            "line 4: providers[0]: a provider is shown one proof of who we are (keep one of `key`, `token`, `aws`, `google`)",
            "line 5: providers[1].aws.secret_access_key: a secret does not stand in the document (list it in `secrets` and write `${secrets.NAME}`: documents are shown to who may read them)",
            "line 5: providers[1].aws.region: the address does not say which region it is in (write `region: eu-central-1`)",
            "line 6: providers[2].google.project: the project's id is needed (write `project: my-project`)",
            "line 6: providers[2].google.service_account: the secret is not the JSON file of a service account (it has `client_email` and `private_key`: create a key of type JSON)",
            "line 7: providers[3].google: tokens come from one place (keep one of `service_account`, `metadata`)",
            "line 8: providers[4].google.location: this is no location (write `europe-west4`)",
            "line 8: providers[4].url: this kind of provider is somewhere else for everybody (write `https://api.example.com/v1`)",
            "line 8: providers[4].google.service_account: a secret does not stand in the document (list it in `secrets` and write `${secrets.NAME}`: documents are shown to who may read them)",
            "line 9: providers[5].token: a key does not stand in the document (list it in `secrets` and write `${secrets.NAME}`: documents are shown to who may read them)",
            "line 9: providers[5].api_version: means nothing but for `azure`",
            "line 9: providers[5].api_version: `a b` is no version (write `2024-10-21`)",
        ],
    );
}

#[test]
fn a_region_or_a_project_says_where_a_provider_is() {
    let text = "version: 1
secrets: [{name: k, from: env:K}, {name: sa, from: env:SA}]
providers:
  - {name: b1, kind: bedrock, aws: {access_key_id: AKID, secret_access_key: \"${secrets.k}\", region: eu-central-1}}
  - {name: b2, kind: bedrock, url: \"https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com\", aws: {access_key_id: AKID, secret_access_key: \"${secrets.k}\"}}
  - {name: v1, kind: vertex, google: {project: p-1, location: europe-west4, service_account: \"${secrets.sa}\"}}
  - {name: v2, kind: vertex_anthropic, google: {project: p-1, metadata: \"http://metadata.google.internal/\"}}
  - {name: v3, kind: vertex, url: \"http://10.0.0.1:8000\", google: {project: p-1}, token: \"${secrets.k}\"}
  - {name: az, kind: azure, url: \"https://x.openai.azure.com\", api_version: 2024-10-21, token: \"${secrets.k}\"}
models: [{name: m, deployments: [{provider: b1}, {provider: b2}, {provider: v1}, {provider: v2}, {provider: v3}, {provider: az}]}]
routes: [{name: r, match: {path: /*}, llm: {models: [m]}}]
";
    let files = [SourceFile { name: "d.yaml", bytes: text.as_bytes() }];
    let account = r#"{"type":"service_account","client_email":"r@p","private_key_id":"1","private_key":"-----BEGIN PRIVATE KEY-----\nsecret-2\n-----END PRIVATE KEY-----\n"}"#;
    let inputs =
        |_: &_| Inputs::assumed().with(Need::Env("K".into()), "secret-1").with(Need::Env("SA".into()), account);
    let (_, snapshot) = check(&files, inputs, Revision(1)).expect("it is good");
    let Action::Llm(llm) = &snapshot.router.routes()[0].action else { panic!("a route of models") };
    let at = |i: usize| &llm.models[0].deployments[i].provider;
    let place = |i: usize| (at(i).host.to_str().expect("a name"), &*at(i).base);
    assert_eq!(place(0), ("bedrock-runtime.eu-central-1.amazonaws.com", ""));
    assert_eq!(
        place(2),
        ("europe-west4-aiplatform.googleapis.com", "/v1/projects/p-1/locations/europe-west4/publishers/google")
    );
    assert_eq!(place(3), ("aiplatform.googleapis.com", "/v1/projects/p-1/locations/global/publishers/anthropic"));
    assert_eq!(place(4), ("10.0.0.1:8000", "/v1/projects/p-1/locations/global/publishers/google"));
    assert_eq!(place(5), ("x.openai.azure.com", "/openai"));
    let Some(Credential::Aws(keys)) = &at(1).credential else { panic!("keys to sign with") };
    assert_eq!((&*keys.region, &*keys.service, keys.secret.shown()), ("us-gov-west-1", "bedrock", "secret-1"));
    let Some(Credential::Google(tokens)) = &at(2).credential else { panic!("a source of tokens") };
    let GoogleTokens::Account(account) = &**tokens else { panic!("an account") };
    assert_eq!((&*account.token_url.authority, account.token_url.https), ("oauth2.googleapis.com", true));
    let Some(Credential::Google(tokens)) = &at(3).credential else { panic!("a source of tokens") };
    let GoogleTokens::Metadata(url) = &**tokens else { panic!("a metadata server") };
    assert_eq!(url.path, "/computeMetadata/v1/instance/service-accounts/default/token");
    let Some(Credential::Header(name, value)) = &at(4).credential else { panic!("a token") };
    assert_eq!((name.as_str(), value.as_bytes()), ("authorization", b"Bearer secret-1".as_slice()));
    assert!(!format!("{llm:?}").contains("secret-"), "a secret is printed");
}
