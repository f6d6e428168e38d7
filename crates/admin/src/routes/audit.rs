//! Who changed what, as somebody asks. The records are made in `state`; here they are only told.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tidegate_config::Span;
use tidegate_model::Millis;
use tidegate_state::Audit;
use tidegate_state::audit::Record;

use super::said;
use crate::AppState;
use crate::access::wall_clock;
use crate::input::{Ask, behind};
use crate::refusal::Refusal;
use crate::wire::{AuditActor, AuditRecord, AuditReply, ErrorReply};

const DEFAULT_PAGE: usize = 1_000;
const MAX_PAGE: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    actor: Option<String>,
    action: Option<String>,
    since: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
    #[serde(default)]
    newest: bool,
    #[serde(default)]
    stale: bool,
}

/// Who changed what
///
/// Each record has a hash over the one before it and itself; the newest 50,000, or 8 MiB of them, are kept.
#[utoipa::path(get, path = "/v1/audit", tag = "audit",
    params(("actor" = Option<String>, Query, description = "Only of this one: a token's name, a certificate's, `node 2`"),
        ("action" = Option<String>, Query, description = "Only this: `key.revoke`, or all of `key`"),
        ("since" = Option<String>, Query, description = "Only since then: `2026-11-20T18:00:00Z`, `2026-11-20`, or so long ago, `2h`"),
        ("after" = Option<u64>, Query, description = "Only records above this number: for the next page"),
        ("limit" = Option<usize>, Query, description = "At most so many: 1 to 10,000, default 1,000"),
        ("newest" = Option<bool>, Query, description = "The newest that were asked for, instead of the oldest"),
        ("stale" = Option<bool>, Query, description = "What this node has, without asking whether there is newer")),
    responses((status = 200, body = AuditReply), (status = 400, body = ErrorReply), (status = 503, body = ErrorReply)))]
pub(super) async fn list(State(state): State<AppState>, Ask(asked): Ask<Asked>) -> Result<Json<AuditReply>, Refusal> {
    let limit = asked.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refusal::BadRequest(format!("limit is 1 to {MAX_PAGE}")));
    }
    let after = behind(asked.after)?;
    let since = asked.since.as_deref().map(since).transpose()?;
    super::document::newest(&state, asked.stale).await?;
    Ok(Json(state.backend.read(|agreed| reply(&agreed.later.audit, &asked, after, since, limit))))
}

fn since(text: &str) -> Result<Millis, Refusal> {
    let ago = || {
        let ago = Span::or_seconds(text).ok().filter(|_| text.ends_with(char::is_alphabetic))?;
        Some(wall_clock().saturating_sub(Millis(u64::try_from(ago.as_millis()).ok()?)))
    };
    said::instant(text).or_else(ago).ok_or_else(|| {
        let why = "since is a time like 2026-11-20T18:00:00Z, a day like 2026-11-20, or a span like 2h";
        Refusal::BadRequest(why.to_owned())
    })
}

fn reply(audit: &Audit, asked: &Asked, after: u64, since: Option<Millis>, limit: usize) -> AuditReply {
    let wanted = |record: &&Record| asked.wants(record) && since.is_none_or(|since| since <= record.at);
    let (records, next) = if asked.newest {
        let newer = audit.records().rev().take_while(|record| after < record.seq);
        let mut records: Vec<&Record> = newer.filter(wanted).take(limit).collect();
        records.reverse();
        (records, None)
    } else {
        let mut records = audit.after(after).filter(wanted);
        let page: Vec<&Record> = records.by_ref().take(limit).collect();
        let next = records.next().and(page.last().map(|last| last.seq));
        (page, next)
    };
    let ((forgotten, before), (head, head_hash)) = (audit.before(), audit.head());
    AuditReply {
        records: records.into_iter().map(|record| told(audit, record)).collect(),
        forgotten,
        before: hex(&before),
        head,
        head_hash: hex(&head_hash),
        next,
    }
}

impl Asked {
    fn wants(&self, record: &Record) -> bool {
        let of = |group: &str| {
            record.action.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.actor.as_ref().is_none_or(|actor| *actor == record.by.actor.name())
            && self.action.as_deref().is_none_or(of)
    }
}

fn told(audit: &Audit, record: &Record) -> AuditRecord {
    let Record { seq, index, at, by, action, target, detail, result, hash } = record;
    AuditRecord {
        seq: *seq,
        index: *index,
        at: said::moment(*at),
        actor: AuditActor {
            kind: by.actor.kind().to_owned(),
            id: by.actor.id(),
            name: by.actor.name(),
            role: by.actor.role().map(Into::into),
        },
        address: by.address.clone(),
        request: by.request.clone(),
        action: action.clone(),
        target: target.clone(),
        detail: detail.clone(),
        result: result.clone(),
        previous: hex(&audit.previous(*seq).unwrap_or_default()),
        hash: hex(hash),
    }
}

fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from(*hash).to_hex().to_string()
}
