//! The admin port: metrics, health, status, and the live page. It has no password and changes nothing.

mod door;
mod hosts;
mod limits;
mod reserve;
pub(crate) mod status;
mod thread;

pub(crate) use thread::AdminThread;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fanblade_feed::injected;
use prometheus_client::registry::Registry;

use crate::blade::Blade;
use crate::config::AdminConfig;
use crate::metrics::{self, Format};
use door::Door;
use hosts::Hosts;

pub(crate) use door::AdminStats;

/// What the handlers share.
#[derive(Clone)]
struct Admin {
    blade: Arc<Blade>,
    registry: Arc<Registry>,
    hosts: Arc<Hosts>,
}

/// Serves until `stopped` resolves.
pub(crate) async fn serve(
    listener: tokio::net::TcpListener,
    blade: Arc<Blade>,
    config: AdminConfig,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let stats = Arc::clone(&blade.admin);
    Door::new(listener, router(blade, &config), stats, *config.connections_max.get_ref())?.serve(stopped).await;
    Ok(())
}

fn router(blade: Arc<Blade>, config: &AdminConfig) -> Router {
    let registry = Arc::new(metrics::registry(Arc::clone(&blade)));
    let hosts = Arc::new(Hosts::new(config.allowed_hosts.get_ref()));
    let admin = Admin { blade, registry, hosts };
    let mut router = Router::new()
        .route("/metrics", get(prometheus))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/v1/status", get(status::status));
    for Asset { path, content_type, body } in ASSETS {
        router =
            router.route(path, get(move |State(admin): State<Admin>| async move { asset(&admin, content_type, body) }));
    }
    let check = axum::middleware::from_fn_with_state(admin.clone(), hosts::check);
    router.fallback(unknown).layer(check).with_state(admin)
}

async fn prometheus(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let format = Format::wanted(&headers);
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => {
            let headers = [
                (header::CONTENT_TYPE, format.content_type()),
                (header::VARY, "Accept"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (headers, format.of(text)).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn healthz(State(admin): State<Admin>) -> Response {
    injected::panic_if_asked("admin");
    match admin.blade.ailment() {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(ailment) => (StatusCode::SERVICE_UNAVAILABLE, format!("{ailment}\n")).into_response(),
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match admin.blade.unready() {
        None => (StatusCode::OK, "ready\n").into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn unknown() -> Response {
    (StatusCode::NOT_FOUND, "there are /, /metrics, /healthz, /readyz and /v1/status\n").into_response()
}

fn asset(admin: &Admin, content_type: &'static str, body: &'static str) -> Response {
    let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
    let headers = response.headers_mut();
    // The page may load what this port serves, and connect to the data port, wherever that is reached; nothing else.
    let port = admin.blade.data.port();
    // Scheme, host and port. That it cannot say more than that was checked when it was read.
    let stream = match admin.blade.page.stream_url.splitn(4, '/').collect::<Vec<_>>()[..] {
        [scheme, "", host, ..] => format!(" {scheme}//{host}"),
        _ => String::new(),
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws://*:{port} \
         wss://*:{port}{stream}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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

const ASSETS: [Asset; 6] = [
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
    Asset {
        path: "/console/values.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_str!("../console/values.js"),
    },
    Asset { path: "/console/icon.svg", content_type: "image/svg+xml", body: include_str!("../console/icon.svg") },
];

const FIXED_HEADERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-cache"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];
