//! `tidegate.cluster.v1`: the same status as `GET /v1/cluster`, once or as a stream.

use std::time::Duration;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::watch;
use crate::AppState;
use crate::proto::cluster as pb;
use crate::proto::cluster::cluster_server;
use crate::wire;

pub(super) struct Cluster(pub(super) AppState);

#[tonic::async_trait]
impl cluster_server::Cluster for Cluster {
    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        Ok(Response::new(pb::StatusResponse { status: Some((&self.0.backend.status().await).into()) }))
    }

    type WatchStream = ReceiverStream<Result<pb::WatchResponse, Status>>;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let ask = *request.get_ref();
        let millis = if ask.interval_ms == 0 { 1_000 } else { ask.interval_ms.clamp(100, 60_000) };
        let interval = Duration::from_millis(u64::from(millis));
        let backend = self.0.backend.clone();
        let look = move || {
            let backend = backend.clone();
            async move { backend.status().await }
        };
        let message = |status: &wire::ClusterStatus| pb::WatchResponse { status: Some(status.into()) };
        let stream = watch(&request, &self.0.watches, interval, ask.every, look, message)?;
        Ok(Response::new(stream))
    }
}

impl From<&wire::ClusterStatus> for pb::ClusterStatus {
    fn from(status: &wire::ClusterStatus) -> Self {
        Self {
            cluster_id: status.cluster_id.clone(),
            node_id: status.node_id,
            readiness: pb::Readiness::from(status.readiness).into(),
            reasons: status.reasons.clone(),
            revision: status.revision,
            control: Some(status.control.into()),
            quota: Some(status.quota.into()),
            settled: status.settled,
            nodes: status.nodes.iter().map(pb::Node::from).collect(),
            alarms: status.alarms.clone(),
            cluster_key: status.cluster_key.as_ref().map(|key| pb::ClusterKey {
                generation: key.generation,
                replacing: key.replacing,
                waits_for: key.waits_for.clone(),
                older: key.older,
                lacks: key.lacks,
            }),
            certificate: status
                .certificate
                .as_ref()
                .map(|it| pb::NodeCertificate { expires_at: it.expires_at.clone(), renews_at: it.renews_at.clone() }),
        }
    }
}

/// What a gRPC client of ours shows. Values it does not know become the least that can be said.
impl From<pb::ClusterStatus> for wire::ClusterStatus {
    fn from(status: pb::ClusterStatus) -> Self {
        let readiness = match status.readiness() {
            pb::Readiness::Unspecified | pb::Readiness::Starting => wire::Readiness::Starting,
            pb::Readiness::Ready => wire::Readiness::Ready,
            pb::Readiness::Degraded => wire::Readiness::Degraded,
            pb::Readiness::Draining => wire::Readiness::Draining,
        };
        Self {
            cluster_id: status.cluster_id,
            node_id: status.node_id,
            readiness,
            reasons: status.reasons,
            revision: status.revision,
            control: status.control.unwrap_or_default().into(),
            quota: status.quota.unwrap_or_default().into(),
            settled: status.settled,
            nodes: status.nodes.into_iter().map(wire::Node::from).collect(),
            alarms: status.alarms,
            cluster_key: status.cluster_key.map(|key| wire::ClusterKeyState {
                generation: key.generation,
                replacing: key.replacing,
                waits_for: key.waits_for,
                older: key.older,
                lacks: key.lacks,
            }),
            certificate: status
                .certificate
                .map(|it| wire::NodeCertificate { expires_at: it.expires_at, renews_at: it.renews_at }),
        }
    }
}

impl From<wire::Readiness> for pb::Readiness {
    fn from(readiness: wire::Readiness) -> Self {
        match readiness {
            wire::Readiness::Starting => Self::Starting,
            wire::Readiness::Ready => Self::Ready,
            wire::Readiness::Degraded => Self::Degraded,
            wire::Readiness::Draining => Self::Draining,
        }
    }
}

impl From<wire::Group> for pb::Group {
    fn from(group: wire::Group) -> Self {
        Self { leader: group.leader, term: group.term, applied: group.applied, committed: group.committed }
    }
}

impl From<pb::Group> for wire::Group {
    fn from(group: pb::Group) -> Self {
        Self { leader: group.leader, term: group.term, applied: group.applied, committed: group.committed }
    }
}

impl From<&wire::Node> for pb::Node {
    fn from(node: &wire::Node) -> Self {
        let role = match node.role {
            wire::NodeRole::Voter => pb::Role::Voter,
            wire::NodeRole::Learner => pb::Role::Learner,
        };
        Self {
            id: node.id,
            name: node.name.clone(),
            peer: node.peer.clone(),
            admin: node.admin.clone(),
            role: role.into(),
            live: node.live,
            revision: node.revision,
            applied: node.applied,
            version: node.version.clone(),
            feature_level: node.feature_level,
            zone: node.zone.clone(),
        }
    }
}

impl From<pb::Node> for wire::Node {
    fn from(node: pb::Node) -> Self {
        let role = match node.role() {
            pb::Role::Voter => wire::NodeRole::Voter,
            pb::Role::Learner | pb::Role::Unspecified => wire::NodeRole::Learner,
        };
        Self {
            id: node.id,
            name: node.name,
            peer: node.peer,
            admin: node.admin,
            role,
            live: node.live,
            revision: node.revision,
            applied: node.applied,
            version: node.version,
            feature_level: node.feature_level,
            zone: node.zone,
        }
    }
}
