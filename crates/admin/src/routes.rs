//! Every path of the admin port, what it needs, and its description: one table, so that nothing is served that is not
//! guarded and described.

mod audit;
mod cache;
pub(crate) mod certificate;
mod cluster;
mod document;
mod key;
mod model;
mod probe;
mod publish;
pub(crate) mod quota;
mod said;
mod secret;
pub(crate) mod starting;
mod token;
mod upstream;
pub(crate) mod usage;

use std::time::Duration;

use axum::handler::Handler;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Json, Router};
use http::Method;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};

pub(crate) use said::moment;

use crate::access::Access;
use crate::shell::{Gate, gate, method_not_allowed, shell, unknown_path};
use crate::wire::Role::{Admin, Operator, Reader};
use crate::{AppState, grpc};

/// For a request that waits for nothing but the cluster.
const SHORT: Duration = Duration::from_secs(30);
/// For a request that may be told to wait, at most [`publish::MAX_WAIT`].
const LONG: Duration = Duration::from_secs(330);

/// One operation.
pub(crate) struct Operation {
    #[cfg(test)]
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    time_limit: Duration,
    handler: MethodRouter<AppState>,
}

/// The table.
pub(crate) fn operations() -> Vec<Operation> {
    use Access::{Local, Open, Role};
    let (g, p, d) = (Method::GET, Method::POST, Method::DELETE);
    vec![
        op(g.clone(), "/healthz", Open, SHORT, probe::healthz),
        op(g.clone(), "/readyz", Open, SHORT, probe::readyz),
        op(g.clone(), "/metrics", Local(Reader), SHORT, probe::metrics),
        op(g.clone(), "/openapi.json", Open, SHORT, description),
        op(g.clone(), "/v1/document", Role(Reader), SHORT, document::current),
        op(Method::PUT, "/v1/document", Role(Operator), LONG, publish::publish),
        op(p.clone(), "/v1/document/check", Role(Reader), SHORT, document::check),
        op(p.clone(), "/v1/document/diff", Role(Reader), SHORT, document::diff),
        op(g.clone(), "/v1/history", Role(Reader), SHORT, document::history),
        op(g.clone(), "/v1/history/{revision}", Role(Reader), SHORT, document::revision),
        op(p.clone(), "/v1/rollback/{revision}", Role(Operator), LONG, publish::rollback),
        op(g.clone(), "/v1/schema", Role(Reader), SHORT, document::schema),
        op(g.clone(), "/v1/keys", Role(Reader), SHORT, key::list),
        op(p.clone(), "/v1/keys", Role(Operator), SHORT, key::create),
        op(d.clone(), "/v1/keys/{id}", Role(Operator), LONG, key::revoke),
        op(p.clone(), "/v1/keys/{id}/rotate", Role(Operator), SHORT, key::rotate),
        op(p.clone(), "/v1/keys/{id}/plan", Role(Operator), SHORT, key::plan),
        op(g.clone(), "/v1/cluster", Role(Reader), SHORT, cluster::status),
        op(p.clone(), "/v1/cluster/token", Role(Admin), SHORT, cluster::token),
        op(p.clone(), "/v1/cluster/transfer", Role(Admin), SHORT, cluster::transfer),
        op(p.clone(), "/v1/cluster/backup", Role(Admin), LONG, cluster::backup),
        op(p.clone(), "/v1/cluster/tickets", Role(Admin), SHORT, cluster::tickets),
        op(p.clone(), "/v1/cluster/key", Role(Admin), SHORT, cluster::rotate_key),
        op(d.clone(), "/v1/cluster/nodes/{id}", Role(Admin), SHORT, cluster::remove),
        op(g.clone(), "/v1/upstreams", Role(Reader), SHORT, upstream::list),
        op(p.clone(), "/v1/upstreams/endpoint", Role(Operator), SHORT, upstream::set),
        op(g.clone(), "/v1/models", Role(Reader), SHORT, model::list),
        op(g.clone(), "/v1/cache", Role(Reader), SHORT, cache::stats),
        op(g.clone(), "/v1/cache/kept", Role(Reader), SHORT, cache::kept),
        op(p.clone(), "/v1/cache/purge", Role(Operator), LONG, cache::purge),
        op(p.clone(), "/v1/quota/get", Role(Reader), SHORT, quota::get),
        op(g.clone(), "/v1/quota/top", Role(Reader), SHORT, quota::top),
        op(g.clone(), "/v1/quota/orders", Role(Reader), SHORT, quota::list),
        op(p.clone(), "/v1/quota/set", Role(Operator), LONG, quota::set),
        op(p.clone(), "/v1/quota/grant", Role(Operator), LONG, quota::grant),
        op(p.clone(), "/v1/quota/reset", Role(Operator), LONG, quota::reset),
        op(p.clone(), "/v1/quota/block", Role(Operator), LONG, quota::block),
        op(p.clone(), "/v1/quota/unset", Role(Operator), LONG, quota::unset),
        op(p.clone(), "/v1/quota/ungrant", Role(Operator), LONG, quota::ungrant),
        op(p.clone(), "/v1/quota/unblock", Role(Operator), LONG, quota::unblock),
        op(g.clone(), "/v1/audit", Role(Reader), SHORT, audit::list),
        op(g.clone(), "/v1/usage", Role(Reader), SHORT, usage::list),
        op(g.clone(), "/v1/certificates", Role(Reader), SHORT, certificate::list),
        op(Method::PUT, "/v1/certificates/{name}", Role(Operator), SHORT, certificate::import),
        op(d.clone(), "/v1/certificates/{name}", Role(Operator), SHORT, certificate::remove),
        op(p.clone(), "/v1/certificates/{name}/renew", Role(Operator), SHORT, certificate::renew),
        op(g.clone(), "/v1/secrets", Role(Reader), SHORT, secret::list),
        op(Method::PUT, "/v1/secrets/{name}", Role(Operator), SHORT, secret::put),
        op(p.clone(), "/v1/secrets/{name}/rotate", Role(Operator), SHORT, secret::rotate),
        op(d.clone(), "/v1/secrets/{name}", Role(Operator), SHORT, secret::remove),
        op(g, "/v1/tokens", Role(Admin), SHORT, token::list),
        op(p, "/v1/tokens", Role(Admin), SHORT, token::create),
        op(d, "/v1/tokens/{id}", Role(Admin), SHORT, token::revoke),
    ]
}

fn op<H, T>(method: Method, path: &'static str, access: Access, time_limit: Duration, handler: H) -> Operation
where
    H: Handler<T, AppState>,
    T: 'static,
{
    let filter = MethodFilter::try_from(method.clone()).expect("the table holds standard methods only");
    Operation {
        #[cfg(test)]
        method,
        path,
        access,
        time_limit,
        handler: on(filter, handler),
    }
}

/// The whole admin port.
pub fn router(state: AppState) -> Router {
    let mut router = Router::new();
    for operation in operations() {
        let gate_of = Gate { state: state.clone(), access: operation.access, time_limit: Some(operation.time_limit) };
        router = router.route(operation.path, operation.handler.layer(from_fn_with_state(gate_of, gate)));
    }
    grpc::add(router, &state)
        .fallback(unknown_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn(shell))
        .with_state(state)
}

/// This description
#[utoipa::path(get, path = "/openapi.json", tag = "probe", security(()), responses((status = 200, body = Object)))]
async fn description() -> Json<utoipa::openapi::OpenApi> {
    Json(openapi())
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Tidegate admin API", description = "Every node answers; changes go through the cluster's log."),
    paths(
        probe::healthz,
        probe::readyz,
        probe::metrics,
        description,
        document::current,
        publish::publish,
        document::check,
        document::diff,
        document::history,
        document::revision,
        publish::rollback,
        document::schema,
        key::list,
        key::create,
        key::revoke,
        key::rotate,
        key::plan,
        cluster::status,
        cluster::token,
        cluster::transfer,
        cluster::backup,
        cluster::tickets,
        cluster::rotate_key,
        cluster::remove,
        token::list,
        token::create,
        token::revoke,
        upstream::list,
        model::list,
        upstream::set,
        audit::list,
        usage::list,
        certificate::list,
        certificate::import,
        certificate::remove,
        certificate::renew,
        secret::list,
        secret::put,
        secret::rotate,
        secret::remove,
        cache::stats,
        cache::kept,
        cache::purge,
        quota::get,
        quota::top,
        quota::list,
        quota::set,
        quota::grant,
        quota::reset,
        quota::block,
        quota::unset,
        quota::ungrant,
        quota::unblock,
    ),
    components(schemas(crate::wire::ErrorReply)),
    security(("token" = []), ("certificate" = [])),
    tags(
        (name = "document", description = "The document and its revisions"),
        (name = "key", description = "Credentials of consumers"),
        (name = "cluster", description = "Members"),
        (name = "upstream", description = "Endpoints of upstreams: how they are, weights and drains set by hand"),
        (name = "model", description = "Deployments of language models: how they are"),
        (name = "certificate", description = "Certificates that the nodes serve, and orders of new ones"),
        (name = "secret", description = "Secrets of the operator's own, sealed: what they are called, never what they are"),
        (name = "cache", description = "Kept responses: what there is, and what is void"),
        (name = "quota", description = "Counters of limits, and orders about them"),
        (name = "usage", description = "What language models were used: calls, tokens, money"),
        (name = "audit", description = "Who changed what"),
        (name = "token", description = "Admin tokens: reader < operator < admin"),
        (name = "probe", description = "For load balancers and monitoring"),
    )
)]
struct Description;

/// The OpenAPI description of [`router`].
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut api = Description::openapi();
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An admin token")).build();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    let certificate = SecurityScheme::MutualTls {
        description: Some("A certificate of an operator, where the node takes them (--admin-client-ca)".to_owned()),
        extensions: None,
        deprecated: None,
    };
    components.add_security_scheme("certificate", certificate);
    for (path, item) in &mut api.paths.paths {
        for operation in [&mut item.put, &mut item.post, &mut item.delete].into_iter().flatten() {
            complete(path, operation, &["409"]);
        }
        item.get.iter_mut().for_each(|operation| complete(path, operation, &[]));
    }
    api
}

/// What holds for every operation and is not written at each: unique ids, words for each status, and what the shell
/// may answer before a handler is asked.
fn complete(path: &str, operation: &mut utoipa::openapi::path::Operation, more: &[&str]) {
    let tag = operation.tags.as_ref().and_then(|tags| tags.first()).cloned().unwrap_or_default();
    let name = operation.operation_id.take().unwrap_or_default();
    operation.operation_id = Some(format!("{tag}_{name}"));
    if path.starts_with("/v1/") {
        let refusal = RefOr::Ref(Ref::from_schema_name("ErrorReply"));
        let with_a_body = operation.request_body.as_ref().map(|_| "413");
        let always = ["400", "401", "403", "429", "503", "504"];
        for status in always.iter().chain(more).copied().chain(with_a_body) {
            operation.responses.responses.entry(status.to_owned()).or_insert_with(|| {
                let content = ContentBuilder::new().schema(Some(refusal.clone())).build();
                RefOr::T(ResponseBuilder::new().content("application/json", content).build())
            });
        }
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            worded(status).clone_into(&mut response.description);
        }
    }
}

fn worded(status: &str) -> &'static str {
    match status {
        "200" | "201" => "Done",
        "400" => "The request is not what this path takes",
        "401" => "No admin token, or one that is unknown, expired or revoked",
        "403" => "The token's role is not enough",
        "404" => "There is no such thing",
        "409" => "Somebody else was faster, or it cannot be done as things are",
        "412" => "Another revision is the current one",
        "413" => "Too large",
        "422" => "The document has problems: all of them, with path, line and hint",
        "429" => "Too many requests of this kind at once",
        "503" => "No majority answers, or the node is not ready",
        "504" => "It did not end in time; it may still happen",
        _ => "See the error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_described_and_every_description_is_served() {
        let api = serde_json::to_value(openapi()).unwrap();
        let mut described: Vec<(String, String)> = Vec::new();
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in api["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap();
                assert!(!responses.is_empty(), "{method} {path}");
                for (status, response) in responses {
                    assert!(
                        response["description"].as_str().is_some_and(|d| !d.is_empty()),
                        "{method} {path} {status}"
                    );
                }
                assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}: its id stands twice");
                described.push((method.to_uppercase(), path.clone()));
            }
        }
        let mut served: Vec<_> = operations().iter().map(|o| (o.method.to_string(), o.path.to_owned())).collect();
        described.sort();
        served.sort();
        assert_eq!(described, served);
    }

    #[test]
    fn every_reference_in_the_description_leads_somewhere() {
        let api = serde_json::to_value(openapi()).unwrap();
        let mut open = vec![&api];
        while let Some(value) = open.pop() {
            if let Some(reference) = value.get("$ref").and_then(|r| r.as_str()) {
                let pointer = reference.strip_prefix('#').expect("references are local");
                assert!(api.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            open.extend(value.as_object().into_iter().flat_map(|o| o.values()));
            open.extend(value.as_array().into_iter().flatten());
        }
    }

    #[test]
    fn only_probes_and_the_description_are_open() {
        for operation in operations() {
            let open = matches!(operation.access, Access::Open | Access::Local(_));
            assert_eq!(open, !operation.path.starts_with("/v1/"), "{}", operation.path);
        }
    }
}
