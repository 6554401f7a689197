//! The admin port: is the process alive, is it ready, what does it count.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::watch::Kind;

/// The kinds whose lists are not complete yet: ready means none.
pub type Missing = Vec<Kind>;

#[derive(Clone)]
struct Admin {
    metrics: Metrics,
    missing: watch::Receiver<Missing>,
}

/// Routes of the admin port.
pub fn router(metrics: Metrics, missing: watch::Receiver<Missing>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(text))
        .with_state(Admin { metrics, missing })
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    let missing = admin.missing.borrow();
    if missing.is_empty() {
        return (StatusCode::OK, "ok\n".into());
    }
    let names: Vec<&str> = missing.iter().map(|kind| kind.name()).collect();
    (StatusCode::SERVICE_UNAVAILABLE, format!("not listed yet: {}\n", names.join(", ")))
}

async fn text(State(admin): State<Admin>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], admin.metrics.text())
}
