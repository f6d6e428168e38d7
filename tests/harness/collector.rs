//! A collector of OpenTelemetry's: takes OTLP over HTTP and gRPC on one port, and reads it with OpenTelemetry's own types.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, NumberDataPoint};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;

#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    histograms: Arc<Mutex<Vec<(String, HistogramDataPoint)>>>,
    sums: Arc<Mutex<Vec<(String, NumberDataPoint)>>>,
    pub(crate) resource: Arc<Mutex<Vec<KeyValue>>>,
    pub(crate) headers: Arc<Mutex<HeaderMap>>,
    pub(crate) exports: Arc<AtomicUsize>,
    /// It answers that it cannot now.
    pub(crate) refuses: Arc<AtomicBool>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self {
            address: listener.local_addr().unwrap(),
            spans: Arc::default(),
            histograms: Arc::default(),
            sums: Arc::default(),
            resource: Arc::default(),
            headers: Arc::default(),
            exports: Arc::default(),
            refuses: Arc::default(),
        };
        let own = collector.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let own = own.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let own = own.clone();
                    async move { Ok::<_, Infallible>(own.take(request).await) }
                });
                tokio::spawn(async move {
                    let _left =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        collector
    }

    async fn take(
        &self,
        request: Request<Incoming>,
    ) -> Response<http_body_util::combinators::BoxBody<Bytes, Infallible>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let grpc = parts.uri.path().starts_with("/opentelemetry.");
        self.exports.fetch_add(1, Ordering::SeqCst);
        *self.headers.lock().unwrap() = parts.headers;
        let refused = self.refuses.load(Ordering::SeqCst);
        if !refused {
            let message = if grpc { body.slice(5..) } else { body };
            if parts.uri.path().contains("race") {
                self.traces(&message);
            } else {
                self.metrics(&message);
            }
        }
        if grpc {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(if refused { "14" } else { "0" }));
            let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
            let frames = futures_util::stream::iter(frames.map(Ok::<_, Infallible>));
            let mut response = Response::new(StreamBody::new(frames).boxed());
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            return response;
        }
        let mut response = Response::new(Full::new(Bytes::new()).boxed());
        *response.status_mut() = if refused { http::StatusCode::SERVICE_UNAVAILABLE } else { http::StatusCode::OK };
        response
    }

    fn traces(&self, message: &[u8]) {
        let request = ExportTraceServiceRequest::decode(message).expect("a request of traces");
        for resource in request.resource_spans {
            *self.resource.lock().unwrap() = resource.resource.expect("a resource").attributes;
            for scope in resource.scope_spans {
                assert_eq!(scope.scope.expect("a scope").name, "tidegate");
                self.spans.lock().unwrap().extend(scope.spans);
            }
        }
    }

    fn metrics(&self, message: &[u8]) {
        let request = ExportMetricsServiceRequest::decode(message).expect("a request of metrics");
        let (mut histograms, mut sums) = (vec![], vec![]);
        for metric in request.resource_metrics.into_iter().flat_map(|r| r.scope_metrics).flat_map(|s| s.metrics) {
            match metric.data.expect("some data") {
                Data::Histogram(data) => {
                    assert_eq!(data.aggregation_temporality, 2);
                    histograms.extend(data.data_points.into_iter().map(|point| (metric.name.clone(), point)));
                }
                Data::Sum(data) => {
                    assert!(data.is_monotonic);
                    sums.extend(data.data_points.into_iter().map(|point| (metric.name.clone(), point)));
                }
                other => panic!("{other:?}"),
            }
        }
        (*self.histograms.lock().unwrap(), *self.sums.lock().unwrap()) = (histograms, sums);
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    pub(crate) fn histogram(&self, name: &str) -> Vec<HistogramDataPoint> {
        let all = self.histograms.lock().unwrap();
        all.iter().filter(|(of, _)| of == name).map(|(_, point)| point.clone()).collect()
    }

    pub(crate) fn sums(&self, name: &str) -> Vec<NumberDataPoint> {
        let all = self.sums.lock().unwrap();
        all.iter().filter(|(of, _)| of == name).map(|(_, point)| point.clone()).collect()
    }
}

/// An attribute as text; empty if it is not there.
pub(crate) fn attribute(all: &[KeyValue], name: &str) -> String {
    let found = all.iter().find(|pair| pair.key == name).and_then(|pair| pair.value.as_ref());
    found.map_or(String::new(), told)
}

fn told(value: &AnyValue) -> String {
    match value.value.as_ref() {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(n)) => n.to_string(),
        Some(Value::DoubleValue(n)) => n.to_string(),
        Some(Value::BoolValue(is)) => is.to_string(),
        Some(Value::ArrayValue(list)) => list.values.iter().map(told).collect::<Vec<_>>().join(","),
        other => format!("{other:?}"),
    }
}
