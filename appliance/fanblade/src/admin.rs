//! The admin port: metrics, health, status, and the live page. It has no password and changes nothing.

pub(crate) mod status;
mod thread;

pub(crate) use thread::AdminThread;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;

use crate::blade::Blade;
use crate::metrics;

/// What the handlers share.
#[derive(Clone)]
struct Admin {
    blade: Arc<Blade>,
    registry: Arc<Registry>,
}

/// Serves until `stopped` resolves.
pub(crate) async fn serve(
    listener: tokio::net::TcpListener,
    blade: Arc<Blade>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(blade)).with_graceful_shutdown(stopped).await
}

fn router(blade: Arc<Blade>) -> Router {
    let registry = Arc::new(metrics::registry(Arc::clone(&blade)));
    let mut router = Router::new()
        .route("/metrics", get(prometheus))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/v1/status", get(status::status));
    for Asset { path, content_type, body } in ASSETS {
        router =
            router.route(path, get(move |State(admin): State<Admin>| async move { asset(&admin, content_type, body) }));
    }
    router.fallback(unknown).with_state(Admin { blade, registry })
}

async fn prometheus(State(admin): State<Admin>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn healthz(State(admin): State<Admin>) -> Response {
    match admin.blade.ailment() {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(ailment) => (StatusCode::SERVICE_UNAVAILABLE, format!("{ailment}\n")).into_response(),
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    said(admin.blade.is_ready(), "ready", "not ready: stopping, or the feed has failed\n")
}

async fn unknown() -> Response {
    (StatusCode::NOT_FOUND, "there are /, /metrics, /healthz, /readyz and /v1/status\n").into_response()
}

fn said(is_well: bool, well: &'static str, ill: &'static str) -> Response {
    match is_well {
        true => (StatusCode::OK, format!("{well}\n")).into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, ill).into_response(),
    }
}

fn asset(admin: &Admin, content_type: &'static str, body: &'static str) -> Response {
    let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
    let headers = response.headers_mut();
    // The page may load what this port serves, and connect to the data port, wherever that is reached; nothing else.
    let port = admin.blade.data.port();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws://*:{port} \
         wss://*:{port}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in FIXED_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A file of the page, compiled in.
#[derive(Clone, Copy)]
struct Asset {
    path: &'static str,
    content_type: &'static str,
    body: &'static str,
}

const ASSETS: [Asset; 5] = [
    Asset { path: "/", content_type: "text/html; charset=utf-8", body: include_str!("../console/index.html") },
    Asset {
        path: "/console/console.css",
        content_type: "text/css; charset=utf-8",
        body: include_str!("../console/console.css"),
    },
    Asset {
        path: "/console/console.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_str!("../console/console.js"),
    },
    Asset {
        path: "/console/stream.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_str!("../console/stream.js"),
    },
    Asset { path: "/console/icon.svg", content_type: "image/svg+xml", body: include_str!("../console/icon.svg") },
];

const FIXED_HEADERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-cache"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
