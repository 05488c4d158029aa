//! Lists that the server answers page by page.

use crate::failure::Failure;
use crate::render::list;
use crate::session::Session;
use serde_json::{Value, json};

/// Rows in one answer of a `list_…` command.
const PAGE: i64 = 200;

/// All rows of a `list_…` command, page by page; `key` is what the answer calls them.
pub async fn all_pages(session: &Session, kind: &str, key: &str, query: Value) -> Result<Vec<Value>, Failure> {
    let (mut rows, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut data = query.clone();
        data["limit"] = json!(PAGE);
        if !cursor.is_null() {
            data["cursor"] = cursor.clone();
        }
        let page = session.command(kind, data).await?;
        rows.extend(list(&page[key]).iter().cloned());
        let next = page["next_cursor"].clone();
        // A server that repeats its cursor must not keep the client in this loop.
        if next.is_null() || next == cursor {
            return Ok(rows);
        }
        cursor = next;
    }
}
