//! A gRPC server that has nothing but `grpc.health.v1.Health/Check`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

#[derive(Clone)]
pub(crate) struct HealthServer {
    pub(crate) address: SocketAddr,
    services: Arc<Mutex<BTreeMap<String, bool>>>,
    agents: Arc<Mutex<Vec<String>>>,
}

/// `""` and `shop.v1.Orders` are served.
pub(crate) async fn health_server() -> HealthServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let services = ["", "shop.v1.Orders"].map(|name| (name.to_owned(), true));
    let server = HealthServer {
        address: listener.local_addr().unwrap(),
        services: Arc::new(Mutex::new(services.into())),
        agents: Arc::default(),
    };
    let state = server.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let state = state.clone();
            let service = service_fn(move |request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(state.answer(request).await) }
            });
            let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service);
            tokio::spawn(async move {
                let _client_left = serve.await;
            });
        }
    });
    server
}

impl HealthServer {
    pub(crate) fn serves(&self, service: &str, well: bool) {
        self.services.lock().unwrap().insert(service.to_owned(), well);
    }

    /// Who asked.
    pub(crate) fn agents(&self) -> Vec<String> {
        self.agents.lock().unwrap().clone()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        assert_eq!(request.headers()["content-type"], "application/grpc");
        let agent = request.headers()["user-agent"].to_str().unwrap().to_owned();
        self.agents.lock().unwrap().push(agent);
        let question = request.into_body().collect().await.unwrap().to_bytes();
        // A frame of a message with one string, or with none.
        let length = u32::from_be_bytes(question[1..5].try_into().unwrap()) as usize;
        assert_eq!((question[0], question.len()), (0, 5 + length));
        let name = if length == 0 { "" } else { std::str::from_utf8(&question[7..]).unwrap() };
        let known = self.services.lock().unwrap().get(name).copied();
        let response = Response::builder().header("content-type", "application/grpc");
        let Some(well) = known else {
            return response.header("grpc-status", "5").body(Empty::new().boxed()).unwrap(); // NOT_FOUND
        };
        let trailers =
            HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
        let body = Full::from(vec![0, 0, 0, 0, 2, 0x08, if well { 1 } else { 2 }]);
        response.body(body.with_trailers(async move { Some(Ok(trailers)) }).boxed()).unwrap()
    }
}
