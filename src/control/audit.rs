//! `GET /admin/audit`: the audit trail, for the users of `security.admin_user_ids`. Each read is a row of the trail
//! itself, in the transaction of the read.

use super::{Control, extract::QueryString, operators::AdminReader, problem::Problem};
use axum::{Json as Reply, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Most rows of a page, and how many it has without `limit`.
pub(super) const ROWS_MAX: i64 = 100;
/// Longest name of an action or of the type of a target.
const NAME_BYTES_MAX: usize = 50;

#[derive(Deserialize)]
pub(super) struct AuditFilter {
    actor: Option<i64>,
    action: Option<String>,
    target: Option<String>,
    from: Option<String>,
    to: Option<String>,
    cursor: Option<i64>,
    limit: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct AuditPage {
    entries: Vec<Value>,
    /// The `cursor` of the next page; null after the last one.
    next_cursor: Option<i64>,
}

pub(super) async fn read(
    State(control): State<Control>,
    reader: AdminReader,
    QueryString(filter): QueryString<AuditFilter>,
) -> Result<Reply<AuditPage>, Problem> {
    let limit = checked_limit(filter.limit.unwrap_or(ROWS_MAX))?;
    let filter = filter.checked(limit)?;
    let entries = control.accounts().read_audit(&reader.caller, filter).await?;
    let oldest = entries.last().filter(|_| entries.len() as i64 == limit).and_then(|entry| entry["position"].as_i64());
    Ok(Reply(AuditPage { next_cursor: oldest, entries }))
}

impl AuditFilter {
    /// The filter in the form that PostgreSQL reads.
    fn checked(self, limit: i64) -> Result<Value, Problem> {
        let Self { actor, action, target, from, to, cursor, .. } = self;
        if action.as_ref().is_some_and(|action| action.len() > NAME_BYTES_MAX || action.contains('\0')) {
            return Err(Problem::bad_request("action: There is no action of this name."));
        }
        let target = target.map(|target| target_of(&target)).transpose()?;
        let (from, to) = (time_of("from", from)?, time_of("to", to)?);
        let (target_type, target_id) = target.unzip();
        Ok(given(json!({
            "actor": actor, "action": action, "target_type": target_type, "target_id": target_id, "from": from,
            "to": to, "before": cursor, "limit": limit,
        })))
    }
}

/// How many rows of a page are asked for.
pub(super) fn checked_limit(limit: i64) -> Result<i64, Problem> {
    if !(1..=ROWS_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: Must be 1 to {ROWS_MAX}.")));
    }
    Ok(limit)
}

/// A filter without the conditions that were not given.
pub(super) fn given(all: Value) -> Value {
    let fields = if let Value::Object(all) = all { all } else { Map::new() };
    Value::Object(fields.into_iter().filter(|(_, value)| !value.is_null()).collect())
}

/// `user:12`, `message:345`, or the id of a conversation as `conversation:24`.
fn target_of(text: &str) -> Result<(String, i64), Problem> {
    let parts = text.split_once(':').and_then(|(kind, id)| Some((kind, id.parse().ok()?)));
    let is_name = |kind: &str| kind.len() <= NAME_BYTES_MAX && kind.bytes().all(|byte| byte.is_ascii_lowercase());
    match parts {
        Some((kind, id)) if is_name(kind) => Ok((kind.to_owned(), id)),
        _ => Err(Problem::bad_request("target: Must be a type and a number, such as user:12.")),
    }
}

/// A time of a filter.
pub(super) fn time_of(name: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let time = OffsetDateTime::parse(&text, &Rfc3339).ok().filter(|time| (1970..=9999).contains(&time.year()));
    time.map(|_| Some(text)).ok_or_else(|| {
        Problem::bad_request(format!("{name}: Must be a time in RFC 3339, such as 2026-01-31T12:00:00Z."))
    })
}
