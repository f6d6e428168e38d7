//! A collector of OpenTelemetry's: takes OTLP over HTTP and gRPC on one port, and reads it with OpenTelemetry's own types.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, NumberDataPoint};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tidegate_tls::rustls;
use tidegate_tls::tokio_rustls::TlsAcceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// How a collector answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Takes,
    /// It cannot now, and does not say until when.
    Refuses,
    /// It wants to be asked again after so many seconds, as often as the second says.
    AsksForTime(u64, usize),
    /// It will never take this.
    Never,
    /// It takes all but so many of each message.
    LeavesOut(i64),
    /// It reads and says nothing.
    Hangs,
    /// It begins an answer and does not end it.
    BreaksOff,
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    histograms: Arc<Mutex<Vec<(String, HistogramDataPoint)>>>,
    sums: Arc<Mutex<Vec<(String, NumberDataPoint)>>>,
    /// Each with its scope.
    lines: Arc<Mutex<Vec<(String, LogRecord)>>>,
    pub(crate) resource: Arc<Mutex<Vec<KeyValue>>>,
    pub(crate) headers: Arc<Mutex<HeaderMap>>,
    /// When it was told spans, whatever it answered.
    pub(crate) told: Arc<Mutex<Vec<Instant>>>,
    manner: Arc<Mutex<Manner>>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::serve(None).await
    }

    /// With TLS, and the certificate (PEM) that it shows.
    pub(crate) async fn start_tls() -> (Self, String) {
        tidegate_tls::install();
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let chain = vec![own.cert.der().clone()];
        let mut config =
            rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key.into()).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        (Self::serve(Some(TlsAcceptor::from(Arc::new(config)))).await, own.cert.pem())
    }

    async fn serve(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self {
            address: listener.local_addr().unwrap(),
            spans: Arc::default(),
            histograms: Arc::default(),
            sums: Arc::default(),
            lines: Arc::default(),
            resource: Arc::default(),
            headers: Arc::default(),
            told: Arc::default(),
            manner: Arc::new(Mutex::new(Manner::Takes)),
        };
        let own = collector.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (own, tls) = (own.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => own.connection(socket).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                own.connection(socket).await;
                            }
                        }
                    }
                });
            }
        });
        collector
    }

    async fn connection(self, socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let service = service_fn(move |request: Request<Incoming>| {
            let own = self.clone();
            async move { Ok::<_, Infallible>(own.take(request).await) }
        });
        let _left = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
    }

    /// From now on.
    pub(crate) fn is(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    async fn take(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let grpc = parts.uri.path().starts_with("/opentelemetry.");
        let spans = parts.uri.path().contains("race");
        let lines = parts.uri.path().contains("ogs");
        *self.headers.lock().unwrap() = parts.headers;
        let manner = {
            let mut manner = self.manner.lock().unwrap();
            let now = *manner;
            // Metrics and lines are told in between: what a spec counts is spans.
            if !spans && !matches!(now, Manner::Refuses | Manner::Hangs | Manner::BreaksOff) {
                Manner::Takes
            } else {
                if let Manner::AsksForTime(seconds, times) = now {
                    *manner = if times > 1 { Manner::AsksForTime(seconds, times - 1) } else { Manner::Takes };
                }
                now
            }
        };
        if spans {
            self.told.lock().unwrap().push(Instant::now());
        }
        if matches!(manner, Manner::Takes | Manner::LeavesOut(_)) {
            let message = if grpc { body.slice(5..) } else { body };
            match () {
                () if spans => self.traces(&message),
                () if lines => self.logs(&message),
                () => self.metrics(&message),
            }
        }
        if manner == Manner::Hangs {
            std::future::pending::<()>().await;
        }
        if grpc { over_grpc(manner) } else { over_http(manner) }
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

    fn logs(&self, message: &[u8]) {
        let request = ExportLogsServiceRequest::decode(message).expect("a request of logs");
        for resource in request.resource_logs {
            *self.resource.lock().unwrap() = resource.resource.expect("a resource").attributes;
            for scope in resource.scope_logs {
                let name = scope.scope.expect("a scope").name;
                let lines = scope.log_records.into_iter().map(|line| (name.clone(), line));
                self.lines.lock().unwrap().extend(lines);
            }
        }
    }

    /// Those with this text, each with its scope.
    pub(crate) fn lines(&self, text: &str) -> Vec<(String, LogRecord)> {
        let all = self.lines.lock().unwrap();
        all.iter()
            .filter(|(_, line)| line.body.as_ref().is_some_and(|body| told(body).contains(text)))
            .cloned()
            .collect()
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

fn answer(manner: Manner) -> Vec<u8> {
    let Manner::LeavesOut(rejected_spans) = manner else { return vec![] };
    let partial = ExportTracePartialSuccess { rejected_spans, error_message: "too long for us".into() };
    ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
}

fn over_http(manner: Manner) -> Response<Body> {
    if manner == Manner::BreaksOff {
        let frames = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"\n"))) });
        return Response::new(BodyExt::boxed(StreamBody::new(frames.chain(futures_util::stream::pending()))));
    }
    let mut response = Response::new(Full::new(Bytes::from(answer(manner))).boxed());
    let (status, after) = match manner {
        Manner::Refuses => (503, None),
        Manner::AsksForTime(seconds, times) => (if times % 2 == 0 { 429 } else { 503 }, Some(seconds)),
        Manner::Never => (400, None),
        _ => (200, None),
    };
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    if let Some(seconds) = after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

fn over_grpc(manner: Manner) -> Response<Body> {
    let (status, after) = match manner {
        Manner::Refuses => ("14", None),
        Manner::AsksForTime(seconds, _) => ("8", Some(seconds)),
        Manner::Never => ("3", None),
        _ => ("0", None),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    if let Some(seconds) = after {
        trailers.insert("grpc-status-details-bin", retry_info(seconds).parse().unwrap());
    }
    let message = answer(manner);
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(&message);
    let frames = [Frame::data(framed.into()), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    let frames = futures_util::stream::iter(frames);
    let mut response = match manner {
        Manner::BreaksOff => {
            Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::pending::<Result<_, _>>())))
        }
        _ => Response::new(BodyExt::boxed(StreamBody::new(frames))),
    };
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// `google.rpc.Status` with a `RetryInfo`, as gRPC sends it.
fn retry_info(seconds: u64) -> String {
    #[derive(prost::Message)]
    struct Status {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(message, repeated, tag = "3")]
        details: Vec<Any>,
    }
    #[derive(prost::Message)]
    struct Any {
        #[prost(string, tag = "1")]
        type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }
    #[derive(prost::Message)]
    struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        delay: Option<Delay>,
    }
    #[derive(prost::Message)]
    struct Delay {
        #[prost(uint64, tag = "1")]
        seconds: u64,
    }
    let value = RetryInfo { delay: Some(Delay { seconds }) }.encode_to_vec();
    let details = vec![Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value }];
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(Status { code: 8, details }.encode_to_vec())
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
