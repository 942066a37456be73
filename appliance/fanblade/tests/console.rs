//! The live page in a real browser: quotes and trades move, by the real protocol.
//!
//! `FANBLADE_SCREENSHOT=PATH cargo test -p fanblade --test console` writes a picture of it.

mod common;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Blade, FANBLADE, PATIENCE};
use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

#[tokio::test]
async fn quotes_and_trades_move_in_a_browser() {
    let Some(chromium) = chromium() else {
        println!("skipped: no chromium on this machine");
        return;
    };
    let picture = std::env::var_os("FANBLADE_SCREENSHOT").map(PathBuf::from);
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--workers", "2"]);
    // The picture is to show the kernel's counters as well, which needs root; the test does not.
    if picture.is_none() {
        command.arg("--no-ebpf");
    }
    let mut blade = Blade::spawn(command);
    let mut page = Page::open(&chromium, &format!("http://{}/", blade.admin)).await;

    page.until("the stream is live", "state.dataset.state === 'live'").await;
    page.until("thirty symbols", "symbols.tBodies[0].rows.length === 30").await;

    // Which symbols are shown changes, so the quotes of each are remembered by its name.
    page.eval(QUOTES).await;
    page.until("a quote moves", "quoteMoved()").await;
    page.eval("window.newest = trades.tBodies[0].rows[0]?.textContent; 0").await;
    page.until("a trade comes", "trades.tBodies[0].rows[0] && trades.tBodies[0].rows[0].textContent !== newest").await;
    page.until("quotes and trades agree on prices", "[...document.querySelectorAll('#symbols .last')].filter((cell) => /\\d\\.\\d\\d/.test(cell.textContent)).length > 20")
        .await;

    // Figures.
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

    // The filter shows what it says, and only that.
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

    // The end of the blade is told, and the page does not mind.
    blade.signal(Signal::SIGTERM);
    assert!(blade.wait().success());
    page.until("the loss is told", "state.dataset.state !== 'live'").await;
    // A browser reports every connection that it cannot make; nothing else may be wrong.
    let complaints: Vec<_> = page.complaints.iter().filter(|text| !text.contains("ERR_CONNECTION_REFUSED")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
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

/// A browser with one page, spoken to by the DevTools protocol.
struct Page {
    browser: Child,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    /// Exceptions and errors of the page, violations of its security policy included.
    complaints: Vec<String>,
    profile: tempfile::TempDir,
}

impl Page {
    async fn open(chromium: &str, url: &str) -> Page {
        let profile = tempfile::tempdir().unwrap();
        let browser = Command::new(chromium)
            // Its helpers go with it, and what it leaves lies in its profile.
            .process_group(0)
            .env("TMPDIR", profile.path())
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
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
        // What is asked for may not be there yet.
        let question = format!("(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()");
        while self.eval(&question).await != true {
            assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}; complaints: {:#?}", self.complaints);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn screenshot(&mut self, path: &std::path::Path) {
        // The file is written by the browser's own encoder; base64 is how the protocol carries it.
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let decoded =
            Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(std::fs::File::create(path).unwrap()).spawn();
        let mut decoded = decoded.unwrap();
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
    let (_, body) = common::try_http(([127, 0, 0, 1], port).into(), "/json/list").ok()?;
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
