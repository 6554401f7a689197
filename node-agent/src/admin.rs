//! The port for probes and metrics.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::metrics::Metrics;

/// Whether the node is fit to enforce, and why not.
pub type Readiness = Result<(), String>;

#[derive(Clone)]
struct Shared {
    ready: watch::Receiver<Readiness>,
    metrics: Arc<Metrics>,
}

/// Binds the port.
///
/// # Errors
/// Where the address can't be bound.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves /healthz, /readyz and /metrics until the program ends.
///
/// # Errors
/// Where accepting connections fails.
pub async fn serve(
    listener: TcpListener,
    ready: watch::Receiver<Readiness>,
    metrics: Arc<Metrics>,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(figures))
        .with_state(Shared { ready, metrics });
    axum::serve(listener, router).await
}

async fn readyz(State(shared): State<Shared>) -> Response {
    match &*shared.ready.borrow() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn figures(State(shared): State<Shared>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match shared.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
