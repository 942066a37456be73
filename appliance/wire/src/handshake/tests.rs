//! Handshakes as browsers, proxies and attackers send them; RFC 6455 sections 1.2, 4.1 and 4.2.

use proptest::prelude::*;

use super::*;

/// Section 1.2's example of a client's handshake.
const EXAMPLE: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn upgrade(head: &str) -> Upgrade<'_> {
    match parse(head.as_bytes(), 0) {
        Head::Upgrade(upgrade) => upgrade,
        other => panic!("{other:?}\n{head}"),
    }
}

fn rejection(head: &str) -> Rejection {
    match parse(head.as_bytes(), 0) {
        Head::Reject(rejection) => rejection,
        other => panic!("{other:?}\n{head}"),
    }
}

fn status(head: &str) -> u16 {
    rejection(head).status
}

fn response(rejection: &Rejection) -> String {
    let mut out = Vec::new();
    rejection.response(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn example_of_section_1() {
    let upgrade = upgrade(EXAMPLE);
    assert_eq!((upgrade.path, upgrade.query, upgrade.host), ("/chat", None, "server.example.com"));
    assert_eq!((upgrade.origin, upgrade.authorization), (Some("http://example.com"), None));
    assert_eq!(upgrade.head_len, EXAMPLE.len());
    assert_eq!(upgrade.protocols, ["chat", "superchat"]);
    assert!(upgrade.offers("superchat") && !upgrade.offers("super") && !upgrade.offers("Chat"));
    let mut out = Vec::new();
    upgrade.response(Some("chat"), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
}

#[test]
fn a_protocol_that_was_not_offered_is_not_answered() {
    let mut out = Vec::new();
    upgrade(EXAMPLE).response(Some("chat\r\nX: y"), &mut out);
    assert!(!String::from_utf8(out).unwrap().contains("Sec-WebSocket-Protocol"));
}

#[test]
fn incomplete_until_the_empty_line_and_frames_may_follow() {
    for cut in 0..EXAMPLE.len() {
        assert!(matches!(parse(&EXAMPLE.as_bytes()[..cut], cut.saturating_sub(1)), Head::Incomplete), "cut at {cut}");
    }
    assert!(matches!(parse(EXAMPLE.as_bytes(), EXAMPLE.len() - 1), Head::Upgrade(_)));
    let followed = [EXAMPLE.as_bytes(), b"\x81\x80\0\0\0\0\r\n\r\n"].concat();
    let Head::Upgrade(upgrade) = parse(&followed, 0) else { panic!() };
    assert_eq!(upgrade.head_len, EXAMPLE.len());
}

#[test]
fn what_was_scanned_is_not_scanned_again() {
    // The end lies in what the caller says was scanned: not found, so nobody looked there, but for the last 3 bytes.
    let head = b"GET / HTTP/1.1\r\n\r\n...................";
    assert_eq!(head_len(head, 0), Some(18));
    assert_eq!(head_len(head, 17), Some(18));
    assert_eq!(head_len(head, 18), None);
    assert_eq!(head_len(head, usize::MAX), None);
}

#[test]
fn browsers_and_proxies_vary() {
    upgrade(&EXAMPLE.replace("Upgrade: websocket", "upgrade: WebSocket"));
    upgrade(&EXAMPLE.replace("Connection: Upgrade", "connection: keep-alive, Upgrade"));
    upgrade(&EXAMPLE.replace("Connection: Upgrade", "Connection: keep-alive\r\nConnection:upgrade"));
    upgrade(&EXAMPLE.replace("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket"));
    upgrade(&EXAMPLE.replace("Origin:", "Content-Length: 0\r\nOrigin:"));
    let repeated = EXAMPLE.replace("chat, superchat", "chat ,\r\nSec-WebSocket-Protocol:\tsuperchat\t");
    assert_eq!(upgrade(&repeated).protocols, ["chat", "superchat"]);
    let none = EXAMPLE.replace("Sec-WebSocket-Protocol: chat, superchat\r\n", "");
    assert!(upgrade(&none).protocols.is_empty());
    // The key of section 4.1, whose last character has spare bits set.
    upgrade(&EXAMPLE.replace("dGhlIHNhbXBsZSBub25jZQ==", "AQIDBAUGBwgJCgsMDQ4PEC=="));
}

#[test]
fn targets() {
    let target = |target: &str| EXAMPLE.replace("/chat", target);
    let query = target("/v1/stream?subjects=/NASDAQ/AAPL/bbo&mode=all?");
    assert_eq!(
        (upgrade(&query).path, upgrade(&query).query),
        ("/v1/stream", Some("subjects=/NASDAQ/AAPL/bbo&mode=all?"))
    );
    let url = target("http://other.example:81/v1?x");
    let absolute = upgrade(&url);
    assert_eq!((absolute.host, absolute.path, absolute.query), ("other.example:81", "/v1", Some("x")));
    assert_eq!(upgrade(&target("http://other.example")).path, "/");
    assert_eq!(status(&url.replace("Host: server.example.com\r\n", "")), 400);
    for bad in ["*", "chat", "server.example.com:80", "/chat#part", "http://other.example?x", "http:///chat"] {
        assert_eq!(status(&target(bad)), 400, "{bad}");
    }
}

#[test]
fn missing_or_doubled_fields() {
    for (line, expected) in [
        ("Host: server.example.com\r\n", 400),
        ("Connection: Upgrade\r\n", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400),
        ("Sec-WebSocket-Version: 13\r\n", 426),
        ("Upgrade: websocket\r\n", 426),
    ] {
        assert_eq!(status(&EXAMPLE.replace(line, "")), expected, "without {line}");
    }
    for line in [
        "Host: server.example.com\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Sec-WebSocket-Version: 13\r\n",
        "Origin: http://example.com\r\n",
        "Sec-WebSocket-Protocol: chat, superchat\r\n",
    ] {
        assert_eq!(status(&EXAMPLE.replace(line, &line.repeat(2))), 400, "twice {line}");
    }
    let token = "Origin: http://example.com\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n";
    assert_eq!(status(&EXAMPLE.replace("Origin: http://example.com\r\n", token)), 400);
}

#[test]
fn wrong_fields() {
    for (from, to, expected) in [
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWQ=", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "not base64 at all!!!!!!!", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==", 400),
        ("Version: 13", "Version: 8", 426),
        ("Version: 13", "Version: 013", 426),
        ("Version: 13", "Version: 13, 8", 426),
        ("chat, superchat", "chat, super chat", 400),
        ("chat, superchat", "chat, chat", 400),
        ("chat, superchat", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", 431),
        ("server.example.com", "server.example.com/<script>", 400),
        ("server.example.com", "", 400),
        ("Origin: http", "Transfer-Encoding: chunked\r\nOrigin: http", 400),
        ("Origin: http", "Content-Length: 5\r\nOrigin: http", 400),
        ("HTTP/1.1", "HTTP/1.0", 505),
        ("HTTP/1.1", "HTTP/2.0", 505),
        ("GET", "POST", 405),
        ("GET", "get", 405),
        ("/chat HTTP/1.1", "/chat", 400),
        ("Host:", " Host:", 400),
        ("Host: server", "Host : server", 400),
        ("\r\nUpgrade", "\n\nUpgrade", 400),
    ] {
        let head = EXAMPLE.replacen(from, to, 1);
        assert_ne!(head, EXAMPLE);
        assert_eq!(status(&head), expected, "{from:?} became {to:?}");
    }
}

#[test]
fn not_http() {
    assert_eq!(status(&"\r\n".repeat(LEADING_LINES_MAX + 1)), 400);
    assert_eq!(status("{\"op\":\"subscribe\"}"), 400);
    assert_eq!(status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    let Head::Reject(tls) = parse(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01], 0) else { panic!() };
    assert!(tls.reason.contains("TLS"));
}

#[test]
fn limits() {
    let with_filler = |length: usize| EXAMPLE.replace("Origin:", &format!("X: {}\r\nOrigin:", "x".repeat(length)));
    let most = HEAD_LEN_MAX - EXAMPLE.len() - "X: \r\n".len();
    assert_eq!(upgrade(&with_filler(most)).head_len, HEAD_LEN_MAX);
    assert_eq!(status(&with_filler(most + 1)), 431);
    // Refused at the limit, not at an end that may never come.
    let endless = &with_filler(HEAD_LEN_MAX)[..HEAD_LEN_MAX];
    assert!(matches!(parse(&endless.as_bytes()[..HEAD_LEN_MAX - 1], 0), Head::Incomplete));
    assert_eq!(status(endless), 431);

    let with_fields = |count: usize| EXAMPLE.replace("Origin:", &format!("{}Origin:", "X: y\r\n".repeat(count)));
    upgrade(&with_fields(HEADERS_MAX - 7));
    assert_eq!(status(&with_fields(HEADERS_MAX - 6)), 431);
}

#[test]
fn responses_are_whole_and_close() {
    for (status, line) in [
        (400, "HTTP/1.1 400 Bad Request"),
        (401, "WWW-Authenticate: Bearer"),
        (405, "Allow: GET"),
        (426, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: Upgrade, close"),
        (503, "HTTP/1.1 503 Service Unavailable"),
    ] {
        let response = response(&Rejection::new(status, "Because."));
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(line), "{head}");
        assert!(head.contains("close\r\n") && head.contains("Content-Length: 9\r\n"), "{head}");
        assert_eq!(body, "Because.\n");
    }
    let head_only = response(&rejection("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(head_only.starts_with("HTTP/1.1 405") && head_only.ends_with("\r\n\r\n"));
}

#[test]
fn a_plain_get_is_told_what_this_is() {
    let text = response(&rejection("GET / HTTP/1.1\r\nHost: blade7:9001\r\nAccept: */*\r\n\r\n"));
    assert!(text.starts_with("HTTP/1.1 426 Upgrade Required\r\n"));
    assert!(text.contains("Content-Type: text/plain"));
    assert!(text.contains("websocat 'ws://blade7:9001/v1/stream?subjects="));
    assert!(text.contains("new WebSocket(\"ws://blade7:9001/v1/stream\""));
    let html = response(&rejection(
        "GET / HTTP/1.0\r\nhost: [::1]:80\r\naccept: application/xhtml+xml,text/html;q=0.9\r\n\r\n",
    ));
    assert!(html.contains("Content-Type: text/html") && html.contains("ws://[::1]:80/v1/stream"));
    let (head, body) = html.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
}

#[test]
fn a_hostile_host_does_not_reach_the_page() {
    for host in ["<script>alert(1)</script>", "x'; rm -rf /; '", "a\"onload=\"x", "x&y", "", "h\u{e9}", "x y"] {
        for accept in ["text/html", "*/*"] {
            let page = response(&rejection(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n")));
            assert!(page.contains("ws://blade.example/v1/stream"), "{page}");
        }
    }
}

#[test]
fn empty_lines_before_the_request_are_skipped_up_to_a_limit() {
    for count in 0..=LEADING_LINES_MAX {
        let head = "\r\n".repeat(count) + EXAMPLE;
        for cut in 0..head.len() {
            let outcome = parse(&head.as_bytes()[..cut], cut.saturating_sub(1));
            assert!(matches!(outcome, Head::Incomplete), "{count} lines, cut at {cut}: {outcome:?}");
        }
        assert_eq!(upgrade(&head).head_len, head.len());
        let Head::Upgrade(upgrade) = parse(head.as_bytes(), head.len() - 1) else { panic!("{count}") };
        assert_eq!((upgrade.head_len, upgrade.path), (head.len(), "/chat"));
    }
    assert_eq!(status(&("\r\n".repeat(LEADING_LINES_MAX + 1) + EXAMPLE)), 400);
    for wrong in ["\n", "\r\r\n", "\r\n\n", " \r\n"] {
        assert_eq!(status(&format!("{wrong}{EXAMPLE}")), 400, "{}", wrong.escape_debug());
    }
}

#[test]
fn schemes_may_be_in_capitals() {
    for target in ["HTTP://server.example.com/chat", "Ws://server.example.com/chat", "WSS://server.example.com/chat"] {
        let head = EXAMPLE.replace("/chat", target);
        let upgrade = upgrade(&head);
        assert_eq!((upgrade.path, upgrade.host), ("/chat", "server.example.com"), "{target}");
    }
    assert_eq!(status(&EXAMPLE.replace("/chat", "FTP://server.example.com/chat")), 400);
}

#[test]
fn a_proxy_header_that_is_not_expected_is_told_as_one() {
    for header in ["PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n", "\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c012345678901"] {
        let rejection = rejection(&format!("{header}{EXAMPLE}"));
        assert!(rejection.status == 400 && rejection.reason.contains("proxy_protocol_from"), "{rejection:?}");
    }
}

#[test]
fn what_proxies_say_of_the_client_is_handed_on_in_its_order() {
    let headers = "Connection: Upgrade\r\nx-forwarded-for: 1.1.1.1, 2.2.2.2\r\nForwarded: for=3.3.3.3\r\nX-Forwarded-For: 4.4.4.4";
    let head = EXAMPLE.replace("Connection: Upgrade", headers);
    assert_eq!(upgrade(&head).x_forwarded_for, ["1.1.1.1, 2.2.2.2", "4.4.4.4"]);
    assert_eq!(upgrade(&head).forwarded, ["for=3.3.3.3"]);
    assert!(upgrade(EXAMPLE).forwarded.is_empty());
}

#[test]
fn a_plain_request_can_be_answered_by_its_path() {
    for (request, path) in [
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "/healthz"),
        ("HEAD /healthz?x=1 HTTP/1.1\r\nHost: x\r\n\r\n", "/healthz"),
        ("GET /healthz HTTP/1.0\r\n\r\n", "/healthz"),
        ("GET http://x/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "/healthz"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "/"),
    ] {
        let plain = rejection(request);
        assert_eq!(plain.plain_path(), Some(path), "{request}");
        let answer = response(&plain.with(200, "ok"));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\nConnection: close\r\n"), "{answer}");
        assert!(answer.contains("Content-Length: 3\r\n"), "{answer}");
        assert!(answer.ends_with(if request.starts_with("HEAD") { "\r\n\r\n" } else { "\r\n\r\nok\n" }), "{answer}");
    }
    let upgrade = EXAMPLE.replace("GET /chat", "HEAD /chat");
    assert_eq!(rejection(&upgrade).status, 405);
    assert_eq!(rejection("POST /healthz HTTP/1.1\r\nHost: x\r\n\r\n").plain_path(), None);
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), scanned in any::<usize>()) {
        let _ = parse(&bytes, scanned);
        let _ = parse(&[b"GET / HTTP/1.1\r\n", &bytes[..], b"\r\n\r\n"].concat(), 0);
        let _ = parse(&[b"GET ", &bytes[..], b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat(), 0);
    }

    /// A valid head with one byte changed is either still a handshake or refused with a response that is whole.
    #[test]
    fn one_wrong_byte(at in 0..EXAMPLE.len(), byte in any::<u8>()) {
        let mut head = EXAMPLE.as_bytes().to_vec();
        head[at] = byte;
        if let Head::Reject(rejection) = parse(&head, 0) {
            prop_assert!(response(&rejection).contains("Content-Length"));
        }
    }
}
