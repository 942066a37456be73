//! What the admin port answers.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use fanblade_blade::Blade;
use fanblade_feed::injected;
use prometheus_client::registry::Registry;

use crate::door::{AdminStats, Door};
use crate::hosts::{self, Guard};
use crate::metrics::{self, Format};
use crate::reserve::Reserve;
use crate::settings::{Page, Settings};
use crate::status::Status;

/// State shared by the handlers.
#[derive(Clone)]
struct Admin {
    blade: Arc<Blade>,
    registry: Arc<Registry>,
    page: Arc<Page>,
}

/// The door, with the routes behind it.
pub(crate) fn door(
    listener: tokio::net::TcpListener,
    reserve: Reserve,
    blade: Arc<Blade>,
    settings: Settings,
) -> std::io::Result<Door> {
    let stats = Arc::<AdminStats>::default();
    let connections_max = settings.connections_max;
    let router = router(blade, Arc::clone(&stats), settings);
    Door::new(listener, reserve, router, stats, connections_max)
}

fn router(blade: Arc<Blade>, stats: Arc<AdminStats>, settings: Settings) -> Router {
    let registry = Arc::new(metrics::registry(Arc::clone(&blade), Arc::clone(&stats)));
    let guard = Guard::new(&settings.allowed_hosts, stats);
    let admin = Admin { blade, registry, page: Arc::new(settings.page) };
    let mut router = Router::new()
        .route("/metrics", get(prometheus))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/v1/status", get(status));
    for Asset { path, content_type, body } in ASSETS {
        router =
            router.route(path, get(move |State(admin): State<Admin>| async move { asset(&admin, content_type, body) }));
    }
    let check = axum::middleware::from_fn_with_state(guard, hosts::check);
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

async fn status(State(admin): State<Admin>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(Status::of(&admin.blade, &admin.page))).into_response()
}

async fn unknown() -> Response {
    (StatusCode::NOT_FOUND, "there are /, /metrics, /healthz, /readyz and /v1/status\n").into_response()
}

fn asset(admin: &Admin, content_type: &'static str, body: &'static str) -> Response {
    let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
    let headers = response.headers_mut();
    // The page may load what this port serves, and connect to the data port under any host name; nothing else.
    let port = admin.blade.data.port();
    // Only scheme, host and port. The URL was checked for other characters when the configuration was read.
    let stream = match admin.page.stream_url.splitn(4, '/').collect::<Vec<_>>()[..] {
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
