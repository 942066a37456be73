//! The live page in a real browser: quotes and trades move, by the real protocol; any other feed is shown as it is; and
//! where nothing comes the page says why.
//!
//! `FANBLADE_SCREENSHOT=PATH cargo test -p fanblade --test console` writes a picture of it.

mod common;
#[path = "common/venue.rs"]
mod venue;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::FANBLADE;
use fanblade_testkit::{Blade, Child, PATIENCE};
use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use venue::Venue;

#[tokio::test]
async fn quotes_and_trades_move_in_a_browser() {
    let Some(chromium) = chromium() else {
        println!("skipped: no chromium on this machine");
        return;
    };
    let picture = std::env::var_os("FANBLADE_SCREENSHOT").map(PathBuf::from);
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--workers", "2"]);
    // The picture also shows the kernel's counters, which need root; the test does not.
    if picture.is_none() {
        command.arg("--no-ebpf");
    }
    let mut blade = Blade::spawn(command);
    let mut page = Page::open(&chromium, &format!("http://{}/", blade.admin)).await;

    page.until("the stream is live", "state.dataset.state === 'live'").await;
    page.until("thirty symbols", "symbols.tBodies[0].rows.length === 30").await;

    // The shown symbols change, so the quotes of each are remembered by its name.
    page.eval(QUOTES).await;
    page.until("a quote moves", "quoteMoved()").await;
    page.eval("window.newest = trades.tBodies[0].rows[0]?.textContent; 0").await;
    page.until("a trade comes", "trades.tBodies[0].rows[0] && trades.tBodies[0].rows[0].textContent !== newest").await;
    page.until("quotes and trades agree on prices", "[...document.querySelectorAll('#symbols .last')].filter((cell) => /\\d\\.\\d\\d/.test(cell.textContent)).length > 20")
        .await;

    // The figures.
    for tile in ["messages", "published", "delivered", "bits", "sessions", "publish-p50", "send-p99"] {
        page.until(tile, &format!("/[1-9]/.test(document.getElementById('{tile}').textContent)")).await;
    }
    page.until("two workers", "workers.tBodies[0].rows.length === 2").await;
    if picture.is_none() {
        assert_eq!(page.eval("document.getElementById('ebpf').textContent").await, "not active");
    }
    if let Some(path) = picture {
        tokio::time::sleep(Duration::from_secs(20)).await;
        page.screenshot(&path).await;
    }

    // Only symbols that match the filter are shown.
    let name = page.eval("symbols.tBodies[0].rows[3].cells[0].firstChild.textContent").await;
    page.eval(&format!("filter.value = {name}; filter.dispatchEvent(new Event('input')); 0")).await;
    page.until(
        "the filtered symbol",
        &format!("symbols.tBodies[0].rows[0]?.cells[0].firstChild.textContent === {name}"),
    )
    .await;
    let all = format!("[...symbols.tBodies[0].rows].every((row) => row.cells[0].textContent.includes({name}))");
    assert_eq!(page.eval(&all).await, true);
    page.eval("filter.value = 'no such symbol'; filter.dispatchEvent(new Event('input')); 0").await;
    page.until(
        "an empty table says so",
        "document.getElementById('symbols-empty').textContent.startsWith('No symbol matches')",
    )
    .await;

    // When the blade ends, the page says so and goes on.
    blade.signal(Signal::SIGTERM);
    assert!(blade.wait().success());
    page.until("the loss is told", "state.dataset.state !== 'live'").await;
    // The browser reports every connection that it cannot make; it may report nothing else.
    let complaints: Vec<_> = page.complaints.iter().filter(|text| !text.contains("ERR_CONNECTION_REFUSED")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[tokio::test]
async fn any_feed_is_shown_as_it_is_and_stale_is_not_green() {
    let Some(chromium) = chromium() else {
        println!("skipped: no chromium on this machine");
        return;
    };
    let venue = Venue::new();
    let config = "[feed]\nsource = \"websocket\"\nvenue = \"V\"\n[feed.websocket]\nurl = \"ws://venue/feed\"\nreconnect_ms_min = \"10m\"\n\
                  reconnect_ms_max = \"10m\"\nsilent_ms_max = 0\nping_interval_ms = 0\nidle_ms_max = \"10m\"\n\
                  [[feed.websocket.map]]\nmatch = { \"/kind\" = \"*\" }\nsubject = \"/V/{/symbol}/{/kind}\"\ndata = \"/value\"\n";
    let blade = venue.blade(config, "");
    let mut upstream = venue.accept();
    let values = [
        ("A", "trade", r#"{"px":"64123.10","sz":1e-7,"id":12345678901234567890,"nested":{"deep":[1.50,{"x":null}]}}"#),
        ("A", "bbo", r#"{"bid":"64123.0","ask":"64124.0"}"#),
        ("B", "bbo", r#"{"bid":["0.1","5"],"ask":null,"incomplete":true}"#),
        ("B", "text", r#""<img src=x onerror=alert(1)>""#),
        ("B", "list", r#"[[1.10,2],["<b>",-0.0]]"#),
        ("C", "number", "-1.25E+30"),
        ("C", "markup", r#"{"<script>alert(1)</script>":"</td><td>","__proto__":{"x":1}}"#),
    ];
    for (symbol, kind, value) in values {
        upstream.send(&format!(r#"{{"kind":"{kind}","symbol":"{symbol}","value":{value}}}"#));
    }
    blade.until("all values", |status| status["ring"]["subjects"] == values.len());
    let mut page = Page::open(&chromium, &format!("http://{}/", blade.admin)).await;
    page.until("the stream is live", "state.dataset.state === 'live'").await;
    page.until(
        "a row for each subject",
        &format!("document.querySelectorAll('#values tbody tr').length === {}", values.len()),
    )
    .await;
    for (subject, text) in [
        ("/V/A/trade", "px 64123.10sz 1e-7id 12345678901234567890nested {deep: [1.50, {x: null}]}"),
        ("/V/A/bbo", "bid 64123.0ask 64124.0"),
        ("/V/B/bbo", "bid [\"0.1\", \"5\"]ask nullincomplete true"),
        ("/V/B/text", "<img src=x onerror=alert(1)>"),
        ("/V/B/list", "[[1.10, 2], [\"<b>\", -0.0]]"),
        ("/V/C/number", "-1.25E+30"),
        ("/V/C/markup", "<script>alert(1)</script> </td><td>__proto__ {x: 1}"),
    ] {
        let row = format!(
            "[...document.querySelectorAll('#values tbody tr')].find((row) => row.cells[0].firstChild.textContent === '{subject}')"
        );
        page.until(subject, &format!("{row}.cells[1].textContent === {}", json!(text))).await;
    }
    assert_eq!(page.eval("document.querySelectorAll('#values :is(img, script, b)').length").await, 0);
    assert_eq!(page.eval("/NaN|undefined/.test(document.body.innerText)").await, false);
    let tagged = "[...document.querySelectorAll('#values .halt')].filter((tag) => !tag.hidden).map((tag) => tag.closest('tr').cells[0].firstChild.textContent).join()";
    assert_eq!(page.eval(tagged).await, "/V/B/bbo");
    assert_eq!(page.eval("document.getElementById('alert').hidden").await, true);
    page.eval("document.getElementById('values-filter').value = '/B/'; document.getElementById('values-filter').dispatchEvent(new Event('input')); 0").await;
    page.until("three subjects of B", "document.querySelectorAll('#values tbody tr').length === 3").await;
    page.eval("document.getElementById('values-filter').value = ''; document.getElementById('values-filter').dispatchEvent(new Event('input')); 0").await;

    // A change is shown; then the venue goes.
    upstream.send(r#"{"kind":"number","symbol":"C","value":7e0}"#);
    page.until("a change", "document.getElementById('values').textContent.includes('7e0')").await;
    drop(upstream);
    page.until("stale is said", "state.dataset.state === 'stale' && state.textContent === 'stale'").await;
    page.until("and what that means", "!document.getElementById('alert').hidden && document.getElementById('alert').textContent.includes('may not be the present')").await;
    page.until("the trouble", "document.querySelector('#troubles tbody tr').textContent.startsWith('disconnected1')")
        .await;
    if let Some(path) = std::env::var_os("FANBLADE_SCREENSHOT") {
        page.screenshot(&PathBuf::from(path).with_extension("values.png")).await;
    }
    assert!(page.complaints.is_empty(), "{:#?}", page.complaints);
}

#[tokio::test]
async fn a_page_that_gets_nothing_says_why_and_what_to_configure() {
    let Some(chromium) = chromium() else {
        println!("skipped: no chromium on this machine");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    std::fs::write(&file, "[data]\nallowed_origins = [\"https://example.com\"]\n").unwrap();
    let blade = Blade::start(&["--workers", "1", "--config", file.to_str().unwrap()]);
    let mut page = Page::open(&chromium, &format!("http://{}/", blade.admin)).await;
    let line = format!("allowed_origins = [\"https://example.com\", \"http://{}\"] in [data]", blade.admin);
    page.until("what to write", &format!("document.getElementById('alert').textContent.includes({})", json!(line)))
        .await;
    assert_eq!(page.eval("state.dataset.state").await, "lost");
    assert!(page.complaints.is_empty(), "{:#?}", page.complaints);
    drop(page);

    // Nothing listens there: the page says which address it tried, and which key changes it.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(&file, format!("[admin]\nstream_url = \"ws://{nobody}/behind/v1/stream\"\n")).unwrap();
    let blade = Blade::start(&["--workers", "1", "--config", file.to_str().unwrap()]);
    let mut page = Page::open(&chromium, &format!("http://{}/", blade.admin)).await;
    let words = format!("ws://{nobody}/behind/v1/stream cannot be reached");
    page.until("where it has looked", &format!("document.getElementById('alert').textContent.includes('{words}')"))
        .await;
    page.until("the key", "document.getElementById('alert').textContent.includes('stream_url')").await;
}

#[tokio::test]
async fn behind_a_proxy_the_page_connects_where_it_is_told() {
    let Some(chromium) = chromium() else {
        println!("skipped: no chromium on this machine");
        return;
    };
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let address = proxy.local_addr().unwrap();
    std::fs::write(&file, format!("[admin]\nstream_url = \"ws://{address}/v1/stream\"\n")).unwrap();
    let blade = Blade::start(&["--workers", "1", "--config", file.to_str().unwrap()]);
    let data = blade.data;
    let forwarding = tokio::spawn(async move {
        let (mut from, _) = proxy.accept().await.unwrap();
        let mut to = TcpStream::connect(data).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
    });
    let mut page = Page::open(&chromium, &format!("http://{}/", blade.admin)).await;
    page.until("the stream is live", "state.dataset.state === 'live'").await;
    page.until("symbols", "symbols.tBodies[0].rows.length > 10").await;
    forwarding.abort();
    assert!(page.complaints.is_empty(), "{:#?}", page.complaints);
}

const QUOTES: &str = "
    window.before = new Map();
    window.quoteMoved = () => [...symbols.tBodies[0].rows].some((row) => {
        const name = row.cells[0].textContent;
        const quote = row.querySelector('.bid').textContent + row.querySelector('.ask').textContent;
        const isNews = /\\d.*\\d/.test(quote) && before.has(name) && before.get(name) !== quote;
        if (/\\d/.test(quote)) before.set(name, quote);
        return isNews;
    });
    0";

/// A browser with one page, controlled by the DevTools protocol.
struct Page {
    browser: Child,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    /// Exceptions and errors of the page, including violations of its security policy.
    complaints: Vec<String>,
    profile: tempfile::TempDir,
}

impl Page {
    async fn open(chromium: &str, url: &str) -> Page {
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Command::new(chromium);
        browser
            // Kill the browser's helpers, too; all files that it leaves are in its profile.
            .process_group(0)
            .env("TMPDIR", profile.path())
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let browser = Child::spawn(&mut browser);
        let deadline = Instant::now() + PATIENCE;
        let target = loop {
            if let Some(target) = debugger(&profile.path().join("DevToolsActivePort")) {
                break target;
            }
            assert!(Instant::now() < deadline, "the browser does not answer");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let (socket, _) = tokio_tungstenite::connect_async(target).await.unwrap();
        let mut page = Page { browser, socket, next_id: 1, complaints: Vec::new(), profile };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            page.call(domain, json!({})).await;
        }
        let size = json!({"width": 1600, "height": 1200, "deviceScaleFactor": 1, "mobile": false});
        page.call("Emulation.setDeviceMetricsOverride", size).await;
        let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
        page.call("Emulation.setEmulatedMedia", dark).await;
        page.call("Page.navigate", json!({ "url": url })).await;
        page
    }

    /// Calls a method of the DevTools protocol; notes complaints that come meanwhile.
    async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({ "id": id, "method": method, "params": params });
        self.socket.send(Message::text(request.to_string())).await.unwrap();
        loop {
            let message =
                tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("an answer").unwrap().unwrap();
            let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            let entry = &message["params"];
            let is_error = message["method"] == "Log.entryAdded" && entry["entry"]["level"] == "error";
            if is_error || message["method"] == "Runtime.exceptionThrown" {
                self.complaints.push(entry.to_string());
            }
        }
    }

    async fn eval(&mut self, expression: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true })).await;
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    async fn until(&mut self, what: &str, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        // The element may not exist yet.
        let question = format!("(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()");
        while self.eval(&question).await != true {
            assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}; complaints: {:#?}", self.complaints);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn screenshot(&mut self, path: &std::path::Path) {
        // The browser's own encoder makes the file; the protocol carries it as base64.
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let file = std::fs::File::create(path).unwrap();
        let mut decoded = Child::spawn(Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(file));
        let text = picture["data"].as_str().unwrap();
        std::io::Write::write_all(&mut decoded.stdin.take().unwrap(), text.as_bytes()).unwrap();
        assert!(decoded.wait().unwrap().success());
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.browser.id()) {
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.browser.wait();
        // Helpers that are just ending may still write.
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(100));
            if std::fs::remove_dir_all(self.profile.path()).is_ok() {
                break;
            }
        }
    }
}

/// The WebSocket of the browser's page, once it is there.
fn debugger(port_file: &std::path::Path) -> Option<String> {
    let port: u16 = std::fs::read_to_string(port_file).ok()?.lines().next()?.parse().ok()?;
    let (_, body) = fanblade_testkit::try_http(([127, 0, 0, 1], port).into(), "/json/list").ok()?;
    let targets: Vec<Value> = serde_json::from_str(&body).ok()?;
    let page = targets.into_iter().find(|target| target["type"] == "page")?;
    Some(page["webSocketDebuggerUrl"].as_str()?.to_owned())
}

fn chromium() -> Option<String> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.iter().find(|name| {
        let version = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    });
    found.map(|name| (*name).to_owned())
}
