//! `fanblade top` in a real terminal, beside a real blade.

mod common;

use std::process::{Command, Stdio};

use common::terminal::Terminal;
use common::{FANBLADE, fanblade};
use fanblade_testkit::{Blade, Child};
use nix::sys::signal::Signal;

#[test]
fn it_draws_a_blade_takes_keys_and_gives_the_terminal_back() {
    let mut blade = Blade::start(&["--workers", "2"]);
    let mut subscribers = blade.subscriber(&["/NASDAQ/**", "--check", "--connections", "3"]);
    let mut subscribers = Child::spawn(subscribers.stdout(Stdio::null()).stderr(Stdio::null()));
    let mut terminal = Terminal::run(&["top", &blade.admin.to_string()], (40, 130));
    terminal.until("a live feed that moves", |text| {
        text.contains("live  a simulated market") && figure(text, " messages/s").is_some_and(|rate| rate > 0.0)
    });
    let text = terminal.until("the sessions", |text| {
        text.contains("3 sessions") && figure(text, " frames/s and").is_some_and(|rate| rate > 0.0)
    });
    let epoch = blade.status()["epoch"].as_str().unwrap().to_owned();
    assert!(text.contains(&format!("epoch {epoch}")) && text.contains(" ready "), "{text}");
    terminal.until("subjects from the ring", |text| text.contains("/NASDAQ/") && text.contains("frames/s▼"));
    terminal.until("why there are no flows", |text| text.contains("the blade runs without eBPF"));
    terminal.until("a latency", |text| text.contains("ring → sent  p50 "));

    terminal.keys("\t\t\ts");
    terminal.until("subjects by bytes", |text| text.contains("JSON/s▼"));
    terminal.keys("?");
    terminal.until("help", |text| text.contains("Help: any key closes it"));
    terminal.keys("x");
    terminal.until("no help", |text| !text.contains("Help"));
    terminal.keys("p");
    terminal.until("a pause", |text| text.contains("paused"));
    terminal.keys(" ");
    terminal.until("no pause", |text| !text.contains("paused"));

    // It follows the size of its terminal, down to sizes that show nothing.
    terminal.resize(12, 60);
    terminal.until("one pane", |text| text.contains("Feed │ Latency") && text.contains("JSON/s▼"));
    terminal.resize(4, 20);
    terminal.until("an apology", |text| text.contains("a terminal of"));
    terminal.resize(40, 130);
    terminal.until("all panes", |text| text.contains("JSON/s▼") && text.contains("worker▼"));

    // The blade is stopped, and another one is started in its place.
    blade.signal(Signal::SIGTERM);
    blade.wait();
    let admin = blade.admin.to_string();
    terminal.until("the loss", |text| {
        text.contains(&format!("nothing listens at {admin}")) && text.contains("trying again")
    });
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "1", "--listen", "127.0.0.1:0", "--admin", &admin]);
    let mut next = Child::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    terminal.until("the next blade", |text| {
        text.contains("1 workers") && text.contains(" ready ") && text.contains("/NASDAQ/")
    });
    next.kill().unwrap();
    next.wait().unwrap();
    subscribers.kill().unwrap();
    subscribers.wait().unwrap();

    terminal.keys("q");
    assert!(terminal.end().success());
}

#[test]
fn a_signal_gives_the_terminal_back() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // The screen is drawn even if nothing listens.
        let mut terminal = Terminal::run(&["top", "127.0.0.1:1"], (24, 80));
        terminal.until("a picture", |text| text.contains("nothing listens at 127.0.0.1:1"));
        terminal.signal(signal);
        assert!(terminal.end().success());
    }
}

#[test]
fn one_picture_can_be_had_as_text() {
    let blade = Blade::start(&["--workers", "1"]);
    let (code, text, stderr) = fanblade(&["top", "--once", &format!("http://{}/", blade.admin)]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(text.starts_with("fanblade ") && text.lines().count() == 40 && !text.contains('\x1b'), "{text}");
    assert!(figure(&text, " messages/s").is_some_and(|rate| rate > 0.0), "{text}");
    assert!(text.contains("/NASDAQ/") && text.contains("the blade runs without eBPF"), "{text}");

    let fails = |address: &str, part: &str| {
        let (code, stdout, stderr) = fanblade(&["top", "--once", address]);
        assert!(code != 0 && stderr.contains(part), "{address} does not say {part:?} but: {stdout}{stderr}");
    };
    fails("127.0.0.1:1", "nothing listens at 127.0.0.1:1; is the blade running?");
    fails(&blade.data.to_string(), "it is not the admin port of a blade");
    fails("7401", "an admin port is written HOST:PORT");
    let (code, _, stderr) = fanblade(&["top", &blade.admin.to_string()]);
    assert!(code == 1 && stderr.contains("standard output is not a terminal"), "{stderr}");
}

/// The number before `unit`, as shown: `81.5k`.
fn figure(text: &str, unit: &str) -> Option<f64> {
    let before = text.split_once(unit)?.0;
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '│').next()?;
    let number = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    number.parse().ok()
}

#[test]
fn on_a_console_it_names_the_machine_and_ends_when_the_blade_is_gone() {
    let mut blade = Blade::start(&["--workers", "1"]);
    let admin = blade.admin.to_string();
    let args = ["top", &admin, "--heading", "10.0.0.7 on eth0", "--end-when-lost", "1"];
    let mut terminal = Terminal::run(&args, (30, 100));
    terminal.until("the heading", |text| text.contains(" ready ") && text.contains("10.0.0.7 on eth0"));
    blade.signal(Signal::SIGTERM);
    blade.wait();
    assert_eq!(terminal.exit().code(), Some(1));
    terminal.until("why", |text| text.contains("no answer for 1 s") && text.contains("nothing listens at"));
}
