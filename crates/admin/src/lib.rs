//! The operators' API: REST with OpenAPI, health probes, metrics and gRPC on the admin port.
//!
//! Owns paths, rights, shapes and wording; handlers are thin: compile first, then propose. Knows the cluster only as a
//! [`Backend`]. The binary builds an [`AppState`], asks for a [`router`] and [`serve`]s it on a port of its choice.

mod access;
pub mod audit;
pub mod backend;
mod document;
mod failures;
mod grpc;
mod input;
mod places;
mod refusal;
mod routes;
mod serve;
mod shell;
pub mod wire;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub use access::{Operator, Peer, hash as hash_token, mint as mint_token};
pub use backend::Backend;
pub use document::{check_files, compile, merge_files, schema as document_schema};
pub use places::{Place, Places};
pub use routes::certificate::of_file;
pub use routes::starting::starting;
pub use routes::{openapi, router};
pub use serve::serve;

/// Generated from `proto/`; the CLI is a client of it.
pub mod proto {
    #![allow(unreachable_pub, clippy::pedantic, clippy::large_futures, reason = "generated code")]

    pub mod cluster {
        tonic::include_proto!("tidegate.cluster.v1");
    }
    pub mod health {
        tonic::include_proto!("grpc.health.v1");
    }
    pub mod usage {
        tonic::include_proto!("tidegate.usage.v1");
    }
}

/// What every handler shares.
#[derive(Clone)]
pub struct AppState {
    backend: Arc<dyn Backend>,
    failures: Arc<failures::Failures>,
    refused: Arc<access::Refused>,
    /// Compiling a large document takes a core for a while: two at once are enough.
    compiling: Arc<Semaphore>,
    /// Documents on their way in: up to 16 MiB each.
    documents: Arc<Semaphore>,
    /// Backups on their way out: each is held as a whole.
    backups: Arc<Semaphore>,
    /// Open watches of the cluster, by callers with a token.
    watches: Arc<Semaphore>,
    /// Open watches of the health, by anybody.
    probes: Arc<Semaphore>,
}

impl AppState {
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            failures: Arc::default(),
            refused: Arc::default(),
            compiling: Arc::new(Semaphore::new(2)),
            documents: Arc::new(Semaphore::new(16)),
            backups: Arc::new(Semaphore::new(1)),
            watches: Arc::new(Semaphore::new(64)),
            probes: Arc::new(Semaphore::new(64)),
        }
    }

    /// Runs long pure work on a thread of its own; at most two at once, the others wait their turn.
    async fn compiling<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, refusal::Refusal> {
        let turn = self.compiling.clone().acquire_owned().await.map_err(|_| refusal::Refusal::Busy)?;
        // The turn ends with the work, not with the caller's patience.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|error| backend::Failure::Fault(format!("compiling: {error}")).into())
    }
}
