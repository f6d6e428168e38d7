//! `tidegate.usage.v1`: the same sums as `GET /v1/usage`.

use tonic::{Request, Response, Status};

use crate::proto::usage as pb;
use crate::proto::usage::usage_server;
use crate::routes::usage::{Asked, told};
use crate::{AppState, wire};

pub(super) struct Usage(pub(super) AppState);

#[tonic::async_trait]
impl usage_server::Usage for Usage {
    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let pb::ListRequest { by, since, until, tenant, team, consumer, route, model, provider, stale } =
            request.into_inner();
        let said = |text: String| (!text.is_empty()).then_some(text);
        let by = said(by.join(","));
        let (since, until) = (said(since), said(until));
        let asked = Asked { by, since, until, tenant, team, consumer, route, model, provider, stale };
        let reply = told(&self.0, &asked).await.map_err(|refusal| refusal.to_grpc())?;
        Ok(Response::new(reply.into()))
    }
}

impl From<wire::UsageReply> for pb::ListResponse {
    fn from(reply: wire::UsageReply) -> Self {
        let wire::UsageReply { since, until, by, rows, total, projections, coarse_until } = reply;
        Self {
            since,
            until,
            by,
            rows: rows.into_iter().map(pb::Row::from).collect(),
            total: Some(total.into()),
            projections: projections.into_iter().map(pb::Projection::from).collect(),
            coarse_until,
        }
    }
}

impl From<wire::UsageRow> for pb::Row {
    fn from(row: wire::UsageRow) -> Self {
        let wire::UsageRow { day, tenant, team, consumer, route, model, provider, used } = row;
        Self { day, tenant, team, consumer, route, model, provider, used: Some(used.into()) }
    }
}

impl From<wire::UsageAmounts> for pb::Amounts {
    fn from(used: wire::UsageAmounts) -> Self {
        let wire::UsageAmounts {
            calls,
            failed,
            estimated,
            unpriced,
            input_tokens,
            cache_read_tokens,
            cache_write_tokens,
            output_tokens,
            reasoning_tokens,
            audio_in_tokens,
            image_in_tokens,
            audio_out_tokens,
            image_out_tokens,
            total_tokens,
            cost_nanos,
            cost: _, // For people.
        } = used;
        Self {
            calls,
            failed,
            estimated,
            unpriced,
            input_tokens,
            cache_read_tokens,
            cache_write_tokens,
            output_tokens,
            reasoning_tokens,
            audio_in_tokens,
            image_in_tokens,
            audio_out_tokens,
            image_out_tokens,
            total_tokens,
            cost_nanos,
        }
    }
}

impl From<wire::UsageProjection> for pb::Projection {
    fn from(projection: wire::UsageProjection) -> Self {
        let wire::UsageProjection {
            period,
            until,
            calls,
            total_tokens,
            cost_nanos,
            projected_calls,
            projected_tokens,
            projected_cost_nanos,
            projected_cost: _, // For people.
        } = projection;
        Self { period, until, calls, total_tokens, cost_nanos, projected_calls, projected_tokens, projected_cost_nanos }
    }
}
