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
        // Ready all the same: the process does what it was asked to, and no restart should come in a teardown's way.
        let torn_down = admin.metrics.torn_down.get() == 1;
        let text = if torn_down { "ok, but nothing is published: teardown was asked for\n" } else { "ok\n" };
        return (StatusCode::OK, text.into());
    }
    let names: Vec<&str> = missing.iter().map(|kind| kind.name()).collect();
    (StatusCode::SERVICE_UNAVAILABLE, format!("not listed yet: {}\n", names.join(", ")))
}

async fn text(State(admin): State<Admin>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], admin.metrics.text())
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_when_every_list_is_complete() {
        let (missing, receiver) = watch::channel(vec![Kind::Pod, Kind::Node]);
        let metrics = Metrics::default();
        let router = router(metrics.clone(), receiver);
        assert_eq!(get(&router, "/healthz").await.0, StatusCode::OK);
        let (status, text) = get(&router, "/readyz").await;
        assert_eq!((status, text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "not listed yet: Pod, Node\n"));
        missing.send_replace(vec![]);
        assert_eq!(get(&router, "/readyz").await, (StatusCode::OK, "ok\n".into()));
        metrics.torn_down.set(1);
        let (status, text) = get(&router, "/readyz").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("teardown was asked for"), "{text}");
        let (status, text) = get(&router, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
