//! gRPC on the admin port: `grpc.health.v1` for probes, `tidegate.cluster.v1` and `tidegate.usage.v1` for
//! operators. Schemas: `proto/`.

mod cluster;
mod health;
mod usage;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::any_service;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use crate::AppState;
use crate::access::{Access, Standing};
use crate::input::MAX_JSON;
use crate::proto::cluster::cluster_server::ClusterServer;
use crate::proto::health::health_server::HealthServer;
use crate::proto::usage::usage_server::UsageServer;
use crate::serve::Closing;
use crate::shell::{Gate, gate};
use crate::wire::Role;

/// For the head of an answer; a stream may go on.
const TIME_LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn add(router: Router<AppState>, state: &AppState) -> Router<AppState> {
    let gated = |access| Gate { state: state.clone(), access, time_limit: Some(TIME_LIMIT) };
    let health = HealthServer::new(health::Health(state.clone())).max_decoding_message_size(MAX_JSON);
    let cluster = ClusterServer::new(cluster::Cluster(state.clone())).max_decoding_message_size(MAX_JSON);
    let usage = UsageServer::new(usage::Usage(state.clone())).max_decoding_message_size(MAX_JSON);
    let readers = || from_fn_with_state(gated(Access::Role(Role::Reader)), gate);
    router
        .route(
            "/grpc.health.v1.Health/{*method}",
            any_service(health).layer(from_fn_with_state(gated(Access::Open), gate)),
        )
        .route("/tidegate.cluster.v1.Cluster/{*method}", any_service(cluster).layer(readers()))
        .route("/tidegate.usage.v1.Usage/{*method}", any_service(usage).layer(readers()))
}

/// A stream of what `look` sees: now, whenever it changed, and at every look when `every`. Ends when the caller goes or
/// is let in no more, and when the port closes.
fn watch<Q, T, M, F>(
    request: &Request<Q>,
    slots: &Arc<Semaphore>,
    interval: Duration,
    every: bool,
    look: impl Fn() -> F + Send + 'static,
    message: impl Fn(&T) -> M + Send + 'static,
) -> Result<ReceiverStream<Result<M, Status>>, Status>
where
    F: Future<Output = T> + Send,
    T: PartialEq + Send + 'static,
    M: Send + 'static,
{
    let slot = slots.clone().try_acquire_owned().map_err(|_| Status::resource_exhausted("too many open watches"))?;
    let closed = closed(request.extensions().get::<Closing>().cloned());
    let standing = request.extensions().get::<Standing>().cloned();
    let (out, stream) = mpsc::channel(2);
    tokio::spawn(async move {
        let _slot = slot;
        let mut closed = std::pin::pin!(closed);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = out.closed() => return,
                () = &mut closed => {
                    let _ = out.try_send(Err(Status::unavailable("the node closes this connection: ask again")));
                    return;
                }
            }
            if standing.as_ref().is_some_and(|standing| !standing.holds()) {
                let _ = out.try_send(Err(Status::unauthenticated("who asked for this may ask no more")));
                return;
            }
            let seen = look().await;
            if every || last.as_ref() != Some(&seen) {
                // A slow reader makes us wait here and then sees the newest, not a backlog.
                tokio::select! {
                    sent = out.send(Ok(message(&seen))) => if sent.is_err() { return },
                    () = &mut closed => return,
                }
                last = Some(seen);
            }
        }
    });
    Ok(ReceiverStream::new(stream))
}

/// Ready when the port closes; never, when the router is not served by [`crate::serve`].
async fn closed(closing: Option<Closing>) {
    let Some(Closing(mut closing)) = closing else { return std::future::pending().await };
    // An error means the server is gone: closed as well.
    let _ = closing.wait_for(|closing| *closing).await;
}
