//! Header fields of requests and responses about files.

use crate::control::problem::Problem;
use axum::http::header::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;

/// Sets a field. A value that no field can have is left out; ours are all made of visible ASCII.
pub(super) fn insert(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// A field with a number of bytes.
///
/// # Errors
/// It has something else.
pub(super) fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    number
        .and_then(|text| text.parse().ok())
        .map(Some)
        .ok_or_else(|| Problem::bad_request(format!("{name}: Must be a number of bytes below 2^64.")))
}
