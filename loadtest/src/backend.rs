//! A backend that answers at once: one thread, one runtime, a fixed body. Not what is measured (that is nginx's
//! `return 200`); it is what the demo's nodes stand in front of.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// Serves until the process is ended. The first line it prints is `listening ADDR`. Each request's `x-request-id` goes
/// into `requests` before it is answered, for the checker of the decision logs.
pub(crate) fn serve(http: SocketAddr, requests: Option<&Path>) -> Result<()> {
    let requests =
        requests.map(|path| File::options().create(true).append(true).open(path).map(Arc::new)).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(http).await?;
        println!("listening {}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            let _ = stream.set_nodelay(true);
            let requests = requests.clone();
            let service = service_fn(move |request| answer(request, requests.clone()));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    })
}

async fn answer(request: Request<Incoming>, requests: Option<Arc<File>>) -> Result<Response<Full<Bytes>>, Infallible> {
    if let (Some(mut file), Some(id)) = (requests.as_deref(), request.headers().get("x-request-id")) {
        // One write per line, so that a line is whole whenever this process ends.
        let _ = file.write_all(&[id.as_bytes(), b"\n"].concat());
    }
    Ok(Response::new(Full::new(Bytes::from_static(b"{\"ok\":true}\n"))))
}
