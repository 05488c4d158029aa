//! The handler of `GET /metrics`.

use crate::control::Control;
use crate::control::operators::Operator;
use crate::control::problem::Problem;
use axum::{extract::State, http::header, response::IntoResponse};

pub(in crate::control) async fn page(
    State(control): State<Control>,
    _: Operator,
) -> Result<impl IntoResponse, Problem> {
    let text = control.metrics().render(&control.health().checks()).map_err(|error| {
        crate::faults::error_limited!(%error, "the metrics page could not be built");
        Problem::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}
