//! `grpc.health.v1`: the same answer as `/readyz`.

use std::time::Duration;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::watch;
use crate::AppState;
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::health_server;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};

const LOOK: Duration = Duration::from_millis(250);

pub(super) struct Health(pub(super) AppState);

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match of(&self.0, &request.get_ref().service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("unknown service")),
            status => Ok(Response::new(response(status))),
        }
    }

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (state, service) = (self.0.clone(), request.get_ref().service.clone());
        let look = move || std::future::ready(of(&state, &service));
        let stream = watch(&request, &self.0.probes, LOOK, false, look, |status| response(*status))?;
        Ok(Response::new(stream))
    }
}

fn of(state: &AppState, service: &str) -> ServingStatus {
    match service {
        "" | "grpc.health.v1.Health" | "tidegate.cluster.v1.Cluster" => {
            if state.backend.readiness().status.takes_traffic() {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            }
        }
        _ => ServingStatus::ServiceUnknown,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
