//! Refusals that help: a status, one sentence, and for a person with a browser or curl a page.

use super::authority::is_authority;

/// The answer to a request that does not become a WebSocket. The connection closes after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// HTTP status.
    pub status: u16,
    /// One sentence for the log and the body: what is wrong, and where it helps, what would be right.
    pub reason: &'static str,
    page: Option<Page>,
    /// The plain GET or HEAD that this answers, which asks for no upgrade.
    path: Option<Box<str>>,
    is_head: bool,
}

/// How to use the port, for somebody who asked it for a page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Page {
    host: Box<str>,
    is_html: bool,
}

impl Rejection {
    /// A refusal with a status and one sentence; also for the caller's own: an origin, a token, a path, no capacity.
    pub fn new(status: u16, reason: &'static str) -> Rejection {
        Rejection { status, reason, page: None, path: None, is_head: false }
    }

    /// What a plain GET or HEAD asks for: somebody who serves something there answers
    /// [`with`](Rejection::with).
    pub fn plain_path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Answers the same request otherwise.
    pub fn with(self, status: u16, text: &'static str) -> Rejection {
        Rejection { status, reason: text, page: None, ..self }
    }

    /// Appends the whole response.
    pub fn response(&self, out: &mut Vec<u8>) {
        let (body, content_type) = match &self.page {
            Some(Page { host, is_html: true }) => (PAGE_HTML.replace("HOST", host), "text/html"),
            Some(Page { host, is_html: false }) => (PAGE_TEXT.replace("HOST", host), "text/plain"),
            None => (format!("{}\n", self.reason), "text/plain"),
        };
        let (phrase, fields) = match self.status {
            200 => ("OK", ""),
            400 => ("Bad Request", ""),
            // RFC 9110 section 15.5.2: it must say how to authenticate.
            401 => ("Unauthorized", "WWW-Authenticate: Bearer\r\n"),
            403 => ("Forbidden", ""),
            404 => ("Not Found", ""),
            405 => ("Method Not Allowed", "Allow: GET\r\n"),
            // RFC 9110 section 15.5.22: it must name the protocol; RFC 6455 section 4.4: and its version.
            414 => ("URI Too Long", ""),
            426 => ("Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
            429 => ("Too Many Requests", ""),
            431 => ("Request Header Fields Too Large", ""),
            503 => ("Service Unavailable", ""),
            505 => ("HTTP Version Not Supported", ""),
            _ => ("Refused", ""),
        };
        // RFC 9110 section 7.8: who sends Upgrade must name it in Connection.
        let connection = if self.status == 426 { "Upgrade, close" } else { "close" };
        let head = format!(
            "HTTP/1.1 {} {phrase}\r\n{fields}Connection: {connection}\r\n\
             Content-Type: {content_type}; charset=utf-8\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n",
            self.status,
            body.len(),
        );
        out.extend_from_slice(head.as_bytes());
        // RFC 9110 section 9.3.2.
        if !self.is_head {
            out.extend_from_slice(body.as_bytes());
        }
    }

    /// The answer to a plain GET. Its examples name the host that was asked, if that is harmless text.
    pub(super) fn page(host: Option<&str>, path: &str, is_html: bool) -> Rejection {
        let host = host.filter(|host| is_authority(host)).unwrap_or("blade.example").into();
        let reason = "This is Fanblade's WebSocket data port; the request does not ask for an upgrade.";
        Rejection { page: Some(Page { host, is_html }), path: Some(path.into()), ..Rejection::new(426, reason) }
    }

    /// The same, in answer to a HEAD of this path.
    pub(super) fn of_head(self, path: &str) -> Rejection {
        Rejection { path: Some(path.into()), is_head: true, ..self }
    }
}

const PAGE_TEXT: &str = r#"This is Fanblade's WebSocket data port; plain HTTP has nothing to see here.

In a terminal:

  websocat 'ws://HOST/v1/stream?subjects=/NASDAQ/AAPL/bbo,/NASDAQ/AAPL/trade'

In a browser:

  const ws = new WebSocket("ws://HOST/v1/stream", "fanblade.v1.json");
  ws.onopen = () => ws.send(JSON.stringify({ op: "subscribe", id: 1, subjects: ["/NASDAQ/AAPL/bbo"] }));
  ws.onmessage = (event) => {
    const update = JSON.parse(event.data);
    console.log(update.s ?? update.op, update.d ?? update);
  };
"#;

const PAGE_HTML: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Fanblade: WebSocket data port</title>
<h1>This is Fanblade's WebSocket data port</h1>
<p>Plain HTTP has nothing to see here. In a terminal:</p>
<pre>websocat 'ws://HOST/v1/stream?subjects=/NASDAQ/AAPL/bbo,/NASDAQ/AAPL/trade'</pre>
<p>In a browser:</p>
<pre>const ws = new WebSocket("ws://HOST/v1/stream", "fanblade.v1.json");
ws.onopen = () =&gt; ws.send(JSON.stringify({ op: "subscribe", id: 1, subjects: ["/NASDAQ/AAPL/bbo"] }));
ws.onmessage = (event) =&gt; {
  const update = JSON.parse(event.data);
  console.log(update.s ?? update.op, update.d ?? update);
};</pre>
</html>
"#;
