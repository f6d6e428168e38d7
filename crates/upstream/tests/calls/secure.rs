//! TLS: what ALPN chooses, and whom we refuse to talk to.

use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tidegate_policy::{Endpoint, Upstream};
use tidegate_tls::rustls::ServerConfig;
use tidegate_tls::rustls::pki_types::PrivateKeyDer;
use tidegate_tls::tokio_rustls::TlsAcceptor;
use tidegate_upstream::{CallFailed, Upstreams};

use crate::backend::{Backend, accept, call, get, read, reply, upstream};

/// Serves `alpn`; returns its certificate as PEM. The body tells the protocol.
async fn server(alpn: &[&[u8]]) -> (Backend, Vec<u8>) {
    tidegate_tls::install();
    let made = rcgen::generate_simple_self_signed(vec!["backend.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let backend = accept(move |socket, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(socket).await else { return };
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                Ok::<_, std::convert::Infallible>(reply(200, format!("{:?}", request.version())))
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    (backend, made.cert.pem().into_bytes())
}

fn secure(backend: &Backend, ca: Option<Vec<u8>>, name: &str) -> Arc<Upstream> {
    let mut up = upstream(&[]);
    up.endpoints = vec![Endpoint::Url { https: true, host: "127.0.0.1".into(), port: backend.at.port(), weight: 1 }];
    (up.tls.ca_pem, up.tls.server_name) = (ca, Some(name.to_owned()));
    Arc::new(up)
}

#[tokio::test]
async fn alpn_chooses_the_protocol() {
    for (alpn, version) in
        [(&[&b"h2"[..], b"http/1.1"][..], "HTTP/2.0"), (&[b"http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1")]
    {
        let (backend, ca) = server(alpn).await;
        let (ups, up) = (Upstreams::new(), secure(&backend, Some(ca), "backend.example"));
        for _ in 0..3 {
            assert_eq!(read(call(&ups, &up, get("/")).await).await, (200, version.into()));
        }
        assert_eq!(backend.connections(), 1);
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_no_connection() {
    let (backend, ca) = server(&[]).await;
    for up in [secure(&backend, None, "backend.example"), secure(&backend, Some(ca), "other.example")] {
        let failed = call(&Upstreams::new(), &up, get("/")).await.unwrap_err();
        assert!(matches!(failed, CallFailed::Connect(_)), "{failed:?}");
    }
}
