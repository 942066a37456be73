//! The host names that requests may use for the admin port. A stranger's page can point a name of its own at the
//! address of this port (DNS rebinding), and would then read everything here with the visitor's browser; but the
//! browser sends that name in the Host header.

use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::door::AdminStats;
use crate::limits::HOST_LEN_SHOWN_MAX;

/// The names that are allowed besides addresses and `localhost`, in lower case.
#[derive(Debug)]
struct Hosts(Vec<String>);

impl Hosts {
    fn new(names: &[String]) -> Hosts {
        Hosts(names.iter().map(|name| plain(name)).collect())
    }

    /// Whether `authority` (a host, perhaps with a port) is allowed.
    fn allows(&self, authority: &str) -> bool {
        let Ok(parsed) = Authority::from_str(authority) else { return false };
        // The text before an @ is no part of a host, and is not allowed in a request.
        if authority.contains('@') {
            return false;
        }
        let host = plain(parsed.host());
        host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() || self.0.contains(&host)
    }
}

/// Normalises a name: case and the final dot of the root make no difference.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// State of the check that every request passes.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    hosts: Arc<Hosts>,
    stats: Arc<AdminStats>,
}

impl Guard {
    pub(crate) fn new(names: &[String], stats: Arc<AdminStats>) -> Guard {
        Guard { hosts: Arc::new(Hosts::new(names)), stats }
    }
}

/// Refuses a request for another host name. A request without a host does not come from a browser.
pub(crate) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let stranger = {
        let named = request.headers().get_all(header::HOST).iter().map(|value| value.to_str().unwrap_or("?"));
        let asked = request.uri().authority().map(Authority::as_str);
        named.chain(asked).find(|host| !guard.hosts.allows(host)).map(shown)
    };
    let Some(host) = stranger else { return next.run(request).await };
    let advice = "use the port's address, or add this name to `allowed_hosts` of [admin]";
    if guard.stats.host_refused.fetch_add(1, Relaxed) == 0 {
        tracing::warn!("the admin port was called `{host}`, which is no name of it: refused, and counted; {advice}");
    }
    let text = format!("`{host}` is no name of this admin port: {advice}\n");
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

/// The host that a client sent, cut and escaped for the log.
fn shown(host: &str) -> String {
    host.chars().take(HOST_LEN_SHOWN_MAX).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_known_names_are_ours_whatever_their_spelling() {
        let hosts = Hosts::new(&["Blade-1.example.com".to_owned()]);
        for ours in [
            "127.0.0.1",
            "127.0.0.1:7401",
            "192.0.2.7:80",
            "[::1]",
            "[2001:db8::1]:7401",
            "localhost",
            "LocalHost.:7401",
            "blade-1.EXAMPLE.com:443",
            "blade-1.example.com.",
        ] {
            assert!(hosts.allows(ours), "{ours}");
        }
        for other in [
            "evil.example",
            "blade-1.example.com.evil.example",
            "xblade-1.example.com",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example@127.0.0.1",
            "127.0.0.1@evil.example",
            "",
            ":7401",
            "?",
            "a b",
        ] {
            assert!(!hosts.allows(other), "{other}");
        }
    }
}
