//! Issuers of tokens, and routes that take them.

use tidegate_policy::{Algorithm, AuthScheme, Dimension, Keys, TokenPlace};

use super::*;

const ROUTE: &str =
    "upstreams: [{name: api, endpoints: [{url: \"http://10.0.0.1\"}]}]\nroutes:\n  - {name: a, to: [{upstream: api}]";

fn files(document: &tidegate_config::Document) -> Inputs {
    Inputs::gather(document, |need| {
        Ok(match need {
            Need::Env(_) | Need::Sealed(_) => b"a secret of more than thirty-two bytes".to_vec(),
            Need::File(name) if name.ends_with(".json") => br#"{"keys": [{"kty": "RSA"}]}"#.to_vec(),
            Need::File(name) if name.ends_with("ca.pem") => b"-----BEGIN CERTIFICATE-----\nAA==\n".to_vec(),
            Need::File(_) => b"-----BEGIN PUBLIC KEY-----\nAA==\n".to_vec(),
        })
    })
}

fn built(text: &str) -> Result<Snapshot, Vec<String>> {
    let file = SourceFile { name: "", bytes: text.as_bytes() };
    let checked = check(&[file], files, Revision(1)).map(|(_, snapshot)| snapshot);
    checked.map_err(|problems| problems.iter().map(|problem| format!("{}: {}", problem.path, problem.reason)).collect())
}

#[test]
fn recipes_of_the_page_compile() {
    let page = include_str!("../../../../docs/auth.md");
    let recipes: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(recipes.len() >= 6);
    for recipe in recipes {
        let text =
            format!("version: 1\nupstreams: [{{name: api, endpoints: [{{url: \"http://10.0.0.1\"}}]}}]\n{recipe}");
        let snapshot = built(&text).unwrap_or_else(|problems| panic!("{problems:?}\n{recipe}"));
        assert!(!snapshot.issuers.is_empty());
        let (document, locations) = parse(text.as_bytes(), Format::Yaml).expect("reads");
        let warnings = tidegate_config::warnings(&document, &locations);
        assert!(warnings.iter().all(|warning| !warning.path.starts_with("issuers")), "{warnings:?}");
        let again = serde_json::to_vec(&document).expect("JSON");
        let (same, locations) = parse(&again, Format::Json).expect("reads what it wrote");
        assert_eq!(same, document);
        compile(&same, &locations, &files(&same), Revision(1)).expect("compiles");
    }
}

#[test]
fn a_route_takes_any_issuer_or_one_by_name() {
    let issuers = "issuers:\n  - {name: one, secret: \"${secrets.s}\", from: [bearer, \"query:jwt\"], headers: {X-User: sub}}\n  \
                   - {name: two, jwks: {url: \"https://ID.example:8443/k?x=1\"}}\nsecrets: [{name: s, from: \"env:S\"}]\n";
    let schemes = |auth: &str| {
        let snapshot = built(&format!("version: 1\n{issuers}{ROUTE}, auth: {auth}}}\n")).expect("compiles");
        let route = &snapshot.router.routes()[0];
        assert_eq!(route.claim_headers.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["x-user"]);
        let name = |scheme: &AuthScheme| match scheme {
            AuthScheme::Key => "key".to_owned(),
            AuthScheme::Jwt(issuer) => issuer.name.to_string(),
        };
        route.auth.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(schemes("[jwt]"), "one two");
    assert_eq!(schemes("[\"jwt:two\", key]"), "key two");
    assert_eq!(schemes("[jwt: one]"), "one");
    assert_eq!(schemes("[]"), "");
    let snapshot = built(&format!("version: 1\n{issuers}{ROUTE}}}\n")).expect("compiles");
    let [one, two] = &snapshot.issuers[..] else { panic!("two") };
    assert_eq!((&one.algorithms[..], one.places.len()), (&[Algorithm::Hs256][..], 2));
    assert_eq!(one.places[1], TokenPlace::Query("jwt".into()));
    assert!(!two.algorithms.iter().any(|algorithm| algorithm.is_shared()));
    let Keys::Url { url, .. } = &*two.keys else { panic!("a URL") };
    assert_eq!((&*url.host, url.port, &*url.authority, &*url.path), ("id.example", 8443, "id.example:8443", "/k?x=1"));
    assert!(!format!("{snapshot:?}").contains("thirty-two"));
}

#[test]
fn what_could_be_forged_or_seen_is_refused() {
    let check = |issuer: &str, route: &str, expected: &str| {
        let secrets = "secrets: [{name: s, from: \"env:S\"}]";
        let problems = built(&format!("version: 1\n{secrets}\nissuers: [{{name: a, {issuer}}}]\n{ROUTE}{route}}}\n"));
        let problems = problems.err().unwrap_or_default();
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{issuer} {route}: {problems:?}");
    };
    let (set, secret) = ("jwks: {url: \"https://id.example/k\"}", "secret: \"${secrets.s}\"");
    check(&format!("{set}, algorithms: [none]"), "", "nobody signed");
    check(&format!("{set}, algorithms: [HS256]"), "", "it needs a `secret`");
    check(&format!("{secret}, algorithms: [RS256]"), "", "a secret is checked by");
    check(&format!("{set}, algorithms: [RS257]"), "", "no algorithm");
    check(&format!("{set}, {secret}"), "", "exactly one of");
    check("issuer: x", "", "exactly one of");
    check("secret: hunter2", "", "does not belong into the document");
    check("secret: \"x${secrets.s}\"", "", "does not belong into the document");
    check("jwks: {json: '{}'}", "", "no JWK set");
    check("jwks: {json: '{\"keys\": [{\"kty\": \"oct\", \"k\": \"AA\"}]}'}", "", "a private key");
    check("jwks: {url: \"ftp://id\"}", "", "no place of a JWK set");
    check("jwks: {url: \"https://u:p@id/\"}", "", "no place of a JWK set");
    check("jwks: {url: \"https://id/\", refresh: 1s}", "", "5s to 7d");
    check("jwks: {url: \"https://id/\", refresh: 1h, max_stale: 1m}", "", "shorter than");
    check(&format!("{set}, leeway: 1h"), "", "at most 5m");
    check(&format!("{set}, from: [\"header:x-who\"]"), "", "logs would show the token");
    check(&format!("{set}, from: [\"header:authorization\"]"), "", "has schemes");
    check(&format!("{set}, headers: {{connection: sub}}"), "", "belongs to one connection");
    check(&format!("{set}, headers: {{authorization: sub}}"), "", "means something else");
    check(&format!("{set}, require: [\"a b\"]"), "", "not the name of a claim");
    check(&format!("{set}, unknown_consumer: anonymous"), "", "means nothing without");
    check(set, ", auth: [\"jwt:b\"]", "no issuer is named");
    check(set, ", auth: [jwt, \"jwt:a\"]", "named twice");
    check(set, ", auth: [key], claims: {scope: [x]}", "asks for no token");
    check(set, ", auth: [jwt], claims: {scope: []}", "a list of 1 to 64");
    check(set, ", auth: [token]", "unknown word");
}

#[test]
fn tokens_need_a_release_that_knows_them() {
    let uses = |text: &str| {
        let (document, _) = parse(text.as_bytes(), Format::Yaml).expect("reads");
        tidegate_config::features(&document).contains(&tidegate_model::Feature::Tokens)
    };
    assert!(uses("version: 1\nissuers: [{name: a, public_key: a.pem}]\n"));
    assert!(uses("version: 1\nlimits: [{name: a, window: 1s, max: 1, per: [\"claim:x\"]}]\n"));
    assert!(!uses("version: 1\nlimits: [{name: a, window: 1s, max: 1, per: [\"header:x\"]}]\n"));
    let snapshot =
        built("version: 1\nlimits: [{name: a, window: 1s, max: 1, per: [\"claim:a.b\", key]}]\n").expect("compiles");
    assert!(matches!(&snapshot.limits[0].per[0], Dimension::Claim(claim) if claim.as_str() == "a.b"));
}
