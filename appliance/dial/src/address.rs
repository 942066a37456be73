//! Completes addresses of WebSockets as people write them.

/// A text that is no WebSocket address, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

/// `text` as `ws://` or `wss://` URL; `path` is added where it names none. Queries are kept.
///
/// # Errors
/// The text is no address, or not that of a WebSocket.
pub fn websocket_url(text: &str, path: &str) -> Result<String, AddressError> {
    let wrong = |what: String| Err(AddressError(what));
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => ("ws", rest),
            "wss" | "https" => ("wss", rest),
            _ => {
                return wrong(format!(
                    "`{scheme}://` is not supported; write wss://HOST{path}, or ws://HOST:PORT{path}"
                ));
            }
        },
        None => ("ws", text),
    };
    if let Some((_, fragment)) = rest.split_once('#') {
        return wrong(format!("`#{fragment}` cannot be part of a WebSocket's address (RFC 6455, 3); write # as %23"));
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.is_empty() {
        return wrong(format!("`{text}` names no host; write HOST:PORT, or wss://HOST"));
    }
    if !authority.contains('[') && authority.matches(':').count() > 1 {
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        return wrong(format!("`{authority}`: an IPv6 address stands in brackets: '[{host}]:{port}'"));
    }
    Ok(match rest.strip_prefix('/').unwrap_or(rest) {
        query if query.is_empty() || query.starts_with('?') => format!("{scheme}://{authority}{path}{query}"),
        _ => format!("{scheme}://{authority}{rest}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_made_whole() {
        for (text, url) in [
            ("127.0.0.1:7400", "ws://127.0.0.1:7400/v1/stream"),
            ("blade", "ws://blade/v1/stream"),
            ("[::1]:7400", "ws://[::1]:7400/v1/stream"),
            ("ws://blade:7400/", "ws://blade:7400/v1/stream"),
            ("http://blade:7400", "ws://blade:7400/v1/stream"),
            ("wss://md.example", "wss://md.example/v1/stream"),
            ("HTTPS://md.example/", "wss://md.example/v1/stream"),
            ("wss://md.example/feeds/1?key=a/b", "wss://md.example/feeds/1?key=a/b"),
            ("wss://md.example?key=1", "wss://md.example/v1/stream?key=1"),
            ("wss://md.example/?key=1", "wss://md.example/v1/stream?key=1"),
        ] {
            assert_eq!(websocket_url(text, "/v1/stream").unwrap(), url, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_told() {
        for (text, part) in [
            ("tcp://blade:7400", "`tcp://` is not supported"),
            ("::1:7400", "in brackets: '[::1]:7400'"),
            ("ws://fe80::1:7400/v1/stream", "'[fe80::1]:7400'"),
            ("wss://", "names no host"),
            ("/v1/stream", "names no host"),
            ("wss://md.example/#x", "`#x`"),
        ] {
            let error = websocket_url(text, "/v1/stream").unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
