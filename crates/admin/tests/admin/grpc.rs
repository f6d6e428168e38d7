//! gRPC on the admin port, spoken by a tonic client.

use std::time::Duration;

use crate::common::{ADMIN, OPERATOR, Port, READER, start};
use tidegate_admin::proto::cluster::cluster_client::ClusterClient;
use tidegate_admin::proto::cluster::{Readiness as PbReadiness, StatusRequest, WatchRequest};
use tidegate_admin::proto::health::HealthCheckRequest;
use tidegate_admin::proto::health::health_check_response::ServingStatus;
use tidegate_admin::proto::health::health_client::HealthClient;
use tidegate_admin::proto::usage::ListRequest;
use tidegate_admin::proto::usage::usage_client::UsageClient;
use tidegate_admin::wire::Readiness;
use tidegate_model::NodeId;
use tidegate_state::Command;
use tidegate_state::usage::{Amounts, Key, Report, Row, Tokens};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

async fn channel(port: &Port) -> Channel {
    Endpoint::from_shared(format!("http://{}", port.address)).unwrap().connect().await.unwrap()
}

fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

#[tokio::test]
async fn health_needs_no_token_and_follows_readiness() {
    let port = start().await;
    let mut health = HealthClient::new(channel(&port).await);
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    assert_eq!(health.check(ask("")).await.unwrap().into_inner().status(), ServingStatus::Serving);
    assert_eq!(health.check(ask("nobody")).await.unwrap_err().code(), Code::NotFound);
    let mut watch = health.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    port.memory.be(Readiness::Draining, &[]);
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(health.check(ask("")).await.unwrap().into_inner().status(), ServingStatus::NotServing);
    let mut unknown = health.watch(ask("nobody")).await.unwrap().into_inner();
    assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
}

#[tokio::test]
async fn status_needs_a_token_and_says_what_the_rest_api_says() {
    let port = start().await;
    let mut cluster = ClusterClient::new(channel(&port).await);
    assert_eq!(cluster.status(StatusRequest {}).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(
        cluster.status(with_token("tga_wrong", StatusRequest {})).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let status = cluster.status(with_token(READER, StatusRequest {})).await.unwrap().into_inner().status.unwrap();
    let rest = port.get(READER, "/v1/cluster").await.ok();
    let grpc: tidegate_admin::wire::ClusterStatus = status.into();
    assert_eq!(serde_json::to_value(grpc).unwrap(), rest);
}

#[tokio::test]
async fn watch_sends_the_status_now_and_when_it_changes_and_ends_when_the_port_closes() {
    let mut port = start().await;
    let mut cluster = ClusterClient::new(channel(&port).await);
    let ask = WatchRequest { interval_ms: 100, every: false };
    let mut watch = cluster.watch(with_token(READER, ask)).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap().status.unwrap();
    assert_eq!((first.readiness(), first.revision), (PbReadiness::Ready, 0));
    port.ask(OPERATOR, "PUT", "/v1/document", crate::common::GOOD).await.ok();
    assert_eq!(watch.message().await.unwrap().unwrap().status.unwrap().revision, 1);
    port.memory.be(Readiness::Degraded, &["alone"]);
    let degraded = watch.message().await.unwrap().unwrap().status.unwrap();
    assert_eq!((degraded.readiness(), degraded.reasons), (PbReadiness::Degraded, vec!["alone".to_owned()]));

    drop(port.stop.take());
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    let closed = tokio::time::timeout(Duration::from_secs(8), &mut port.served).await;
    assert!(closed.is_ok_and(|joined| joined.is_ok()));
}

#[tokio::test]
async fn a_watch_ends_when_its_token_is_revoked() {
    let port = start().await;
    let mut cluster = ClusterClient::new(channel(&port).await);
    let ask = WatchRequest { interval_ms: 100, every: true };
    let mut watch = cluster.watch(with_token(READER, ask)).await.unwrap().into_inner();
    let mut others = cluster.watch(with_token(OPERATOR, ask)).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let tokens = port.get(ADMIN, "/v1/tokens").await.ok();
    let of_reader = tokens["tokens"].as_array().unwrap().iter().find(|token| token["role"] == "reader").unwrap();
    port.ask(ADMIN, "DELETE", &format!("/v1/tokens/{}", of_reader["id"]), "").await.ok();
    let ended = async {
        loop {
            if let Err(why) = watch.message().await {
                return why.code();
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await.expect("it ends");
    assert_eq!(ended, Code::Unauthenticated);
    for _ in 0..5 {
        assert!(others.message().await.unwrap().is_some(), "whose token is good goes on");
    }
}

#[tokio::test]
async fn usage_is_told_as_the_rest_api_tells_it() {
    let port = start().await;
    let today = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let row = |consumer: &str, model: &str, input| {
        let key = Key { tenant: "t".into(), consumer: consumer.into(), model: model.into(), ..Key::default() };
        let tokens = Tokens { input, output: 4, ..Tokens::default() };
        let amounts = Amounts { calls: 2, tokens, cost_nanos: 1_500_000, ..Amounts::default() };
        Row { day: u32::try_from(today).unwrap(), key, amounts }
    };
    let rows = vec![row("ann", "fast", 3), row("bob", "fast", 30), row("", "large", 300)];
    port.memory.apply(Command::ReportUsage(Report { node: NodeId(1), life: 1, number: 1, rows }));
    let mut usage = UsageClient::new(channel(&port).await);
    assert_eq!(usage.list(ListRequest::default()).await.unwrap_err().code(), Code::Unauthenticated);
    for (by, consumer, query) in [
        (vec![], None, ""),
        (vec!["day", "consumer"], None, "?by=day,consumer"),
        (vec!["model"], Some("ann"), "?consumer=ann"),
        (vec!["model"], Some(""), "?consumer="),
    ] {
        let by = by.into_iter().map(str::to_owned).collect();
        let ask = ListRequest { by, consumer: consumer.map(str::to_owned), ..ListRequest::default() };
        let told = usage.list(with_token(READER, ask)).await.unwrap().into_inner();
        let rest = port.get(READER, &format!("/v1/usage{query}")).await.ok();
        assert_eq!(
            (told.since.as_str(), told.until.as_str()),
            (rest["since"].as_str().unwrap(), rest["until"].as_str().unwrap())
        );
        let rows = rest["rows"].as_array().unwrap();
        assert_eq!(told.rows.len(), rows.len(), "{query}: {rest}");
        for (row, rest) in told.rows.iter().zip(rows) {
            let used = row.used.unwrap();
            assert_eq!(
                (row.model.as_deref(), row.consumer.as_deref()),
                (rest["model"].as_str(), rest["consumer"].as_str())
            );
            assert_eq!(
                (used.calls, used.input_tokens, used.cost_nanos),
                (
                    rest["calls"].as_u64().unwrap(),
                    rest["input_tokens"].as_u64().unwrap(),
                    rest["cost_nanos"].as_u64().unwrap()
                )
            );
        }
        let total = told.total.unwrap();
        assert_eq!(
            (total.calls, total.total_tokens),
            (rest["total"]["calls"].as_u64().unwrap(), rest["total"]["total_tokens"].as_u64().unwrap())
        );
        assert_eq!(told.projections.len(), 2);
    }
    let wrong = ListRequest { by: vec!["colour".into()], ..ListRequest::default() };
    assert_eq!(usage.list(with_token(READER, wrong)).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented_in_grpcs_own_words() {
    let port = start().await;
    let mut grpc = tonic::client::Grpc::new(channel(&port).await);
    for path in ["/grpc.health.v1.Health/Nothing", "/nobody.v1.Nothing/Call"] {
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<StatusRequest, StatusRequest>::default();
        let answer = grpc.unary(with_token(READER, StatusRequest {}), path.parse().unwrap(), codec).await;
        assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
}
