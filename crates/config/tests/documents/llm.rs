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
            "line 14: models[3].deployments[1]: this deployment is in the list already (use `weight` to give it a larger share, or give it a `name` of its own)",
            "line 16: routes[0].llm.models: no model is served (name one of `models`)",
            "line 17: routes[1].llm.models[0]: no model is named `slow`",
            "line 17: routes[1].upgrade: means nothing without `to`",
            "line 18: routes[2]: a route does one of `to`, `redirect`, `respond`, `llm` (write `to: [{upstream: NAME}]`)",
        ],
    );
}

#[test]
fn what_routing_cannot_mean_is_said_with_a_hint() {
    says(
        "version: 1
providers: [{name: p, kind: ollama}]
plans: [{name: gold, residency: [\"e u\"]}]
models:
  - {name: a, deployments: [{provider: p}], fallbacks: [b, none]}
  - {name: b, deployments: [{provider: p}], on_error: {auth: {model: a}, server: {then: next, model: a, retries: 9, wait: 2m}}}
  - {name: c, deployments: [{provider: p}], sticky: {by: [prompt]}, attempts: 0}
  - {name: d, deployments: [{provider: p}], strategy: sticky, sticky: {by: [cookie, \"header:\"], load: 5}, hedge: {after: 1s, at_most: 9}}
  - {name: e, deployments: [{provider: p}], conditions: [{when: \"modle == 'a'\", tags: [x]}, {when: \"stream\"}, {when: \"1 +\", model: c}]}
  - {name: f, deployments: [{provider: p, limits: [l], context: 0, tags: [\"a b\"], key: sk-1}, {provider: p}, {provider: p, name: two}]}
",
        &[
            "line 3: plans[0].residency[0]: `e u` cannot be a name (1 to 128 letters, digits and `-_.@:+/`)",
            "line 5: models[0].fallbacks[1]: no model is named `none`",
            "line 5: models[0]: `a` leads back to itself, or over more than 8 others (let fallbacks, conditions and errors lead to models that lead to no more)",
            "line 6: models[1]: `b` leads back to itself, or over more than 8 others (let fallbacks, conditions and errors lead to models that lead to no more)",
            "line 7: models[2].attempts: 1 to 32",
            "line 7: models[2].sticky: goes with `strategy: sticky` (write `strategy: sticky`)",
            "line 8: models[3].sticky.load: 100 to 10000 percent of a fair share",
            "line 8: models[3].sticky.by[0]: calls have no `cookie` (there are `header:NAME`, `claim:NAME`, `user`, `prompt_cache_key`, `consumer`, `key`, `prompt`)",
            "line 8: models[3].sticky.by[1]: `` is not a header name",
            "line 8: models[3].hedge.at_most: 1 to 3",
            "line 9: models[4].conditions[0].when: nothing is named `modle`: there are model, caller, headers, prompt, tags, stream, max_tokens, user (write CEL: `prompt.tokens > 8000 && caller.consumer == \"acme\"`)",
            "line 9: models[4].conditions[1]: a condition has exactly one of `tags`, `model` (write `tags: [NAME]`)",
            "line 9: models[4].conditions[2].when: is no expression, at 1:4: Syntax error: mismatched input '<EOF>' (write CEL: `prompt.tokens > 8000 && caller.consumer == \"acme\"`)",
            "line 10: models[5].deployments[0].context: at least 1",
            "line 10: models[5].deployments[0].tags[0]: `a b` cannot be a name (1 to 128 letters, digits and `-_.@:+/`)",
            "line 10: models[5].deployments[0].limits[0]: no limit is named `l`",
            "line 10: models[5].deployments[0].key: a key does not stand in the document (list it in `secrets` and write `${secrets.NAME}`: documents are shown to who may read them)",
            "line 10: models[5].deployments[1]: this deployment is in the list already (use `weight` to give it a larger share, or give it a `name` of its own)",
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
fn prices_are_dollars_for_a_million_tokens_and_a_limit_of_money_wants_them() {
    says(
        "version: 1
providers: [{name: o, kind: openai}, {name: v, kind: vllm, url: http://h:1}]
models:
  - {name: known, deployments: [{provider: o, model: gpt-5.4}]}
  - {name: own, deployments: [{provider: v, price: {input: 0, output: 0}}]}
  - {name: alike, deployments: [{provider: v, like: openai/gpt-5.4}]}
  - {name: strange, deployments: [{provider: v}, {provider: o, model: gpt-5.4}]}
  - {name: wrong, deployments: [{provider: v, price: {input: 0.0000001, output: 2000000}, like: nobody}]}
  - {name: \"gpt-*\", deployments: [{provider: o}]}
limits:
  - {name: spend, budget: {money: 25, per: month}}
  - {name: lenient, window: 1h, max: 1000000000, cost: {from: money, unpriced: free}}
  - {name: odd, window: 1h, max: 1, cost: {from: money, estimate: 5}}
  - {name: idle, window: 1h, max: 1, cost: {from: tokens, unpriced: free}}
catalogue:
  - {model: x, provider: vllm, context: 0}
  - {model: y, price: {input: 1, output: 2, flex: {input: 1, output: 1, batch: {input: 1, output: 1}}}}
  - {model: y}
routes:
  - {name: a, match: {path: /a/*}, llm: {models: [known, own, alike, strange, \"gpt-*\"]}, limits: [spend]}
  - {name: b, match: {path: /b/*}, llm: {models: [strange]}, limits: [lenient]}
",
        &[
            "line 8: models[4].deployments[0].price.input: at most 1000000 dollars for a million tokens, with up to 6 decimals (write `2.50`)",
            "line 8: models[4].deployments[0].price.output: at most 1000000 dollars for a million tokens, with up to 6 decimals (write `2.50`)",
            "line 8: models[4].deployments[0].like: the catalogue has no model `nobody` (write `openai/gpt-4o`; `tidegate catalogue ls` lists them)",
            "line 13: limits[2].cost.estimate: what a call can cost is known from its prices (leave it out, and bound what a call can cost with the model's `max_output`)",
            "line 14: limits[3].cost.unpriced: only `from: money` asks for prices",
            "line 16: catalogue[0].context: at least 1",
            "line 17: catalogue[1].price.flex: a tier has no tiers",
            "line 18: catalogue[2]: `*/y` has a row already (make them one)",
            "line 20: routes[0].llm.models[3]: `spend` counts money, and what `strange` costs at `v` is not known (give the deployment a `price` (of one's own machines: `{input: 0, output: 0}`) or `like`, or the limit `cost: {from: money, unpriced: free}`)",
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

#[test]
fn the_documents_catalogue_stands_before_the_built_in_one() {
    let text = "version: 1
providers: [{name: o, kind: openai}]
catalogue:
  - {model: gpt-5.4, provider: openai, price: {input: 1, output: 2.5, above: {prompt: 1000, price: {input: 3, output: 4}}}, date: 2027-01-01}
  - {model: mine, context: 9000, max_output: 100, can: [tools]}
models:
  - {name: a, deployments: [{provider: o, model: gpt-5.4}]}
  - {name: b, deployments: [{provider: o, model: gpt-5.4, price: {input: 7, output: 8}}]}
  - {name: mine, deployments: [{provider: o}]}
  - {name: \"*\", deployments: [{provider: o}]}
routes: [{name: r, match: {path: /*}, llm: {models: [a, b, mine, \"*\"]}}]
";
    let snapshot = crate::compiled(text);
    let Action::Llm(llm) = &snapshot.router.routes()[0].action else { panic!("a route of models") };
    let to = |at: usize| &llm.models[at].deployments[0];
    let price = |at: usize, asked: &str| to(at).tariff(asked).map(|tariff| tariff.standard.prices.input);
    assert_eq!((price(0, "a"), price(1, "b"), price(2, "mine")), (Some(1_000_000), Some(7_000_000), None));
    assert_eq!((price(3, "gpt-5.4"), price(3, "mine"), price(3, "gpt-4o")), (Some(1_000_000), None, Some(2_500_000)));
    let row = to(2).row("mine").expect("a row of the document");
    assert_eq!((row.context, row.output, row.can("tools")), (Some(9_000), Some(100), true));
    let built_in = to(0).row("a").expect("a row");
    assert!(built_in.context.is_some_and(|context| context > 100_000), "what the document leaves out is still known");
}
