//! `fanblade top` in a real terminal, beside a real blade.

mod common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Blade, FANBLADE, PATIENCE, fanblade};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;

#[test]
fn it_draws_a_blade_takes_keys_and_gives_the_terminal_back() {
    let mut blade = Blade::start(&["--workers", "2"]);
    let mut subscribers = blade.subscriber(&["/NASDAQ/**", "--check", "--connections", "3"]);
    let mut subscribers = subscribers.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
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

    // It follows the size of its terminal, down to one that shows nothing any more.
    terminal.resize(12, 60);
    terminal.until("one pane", |text| text.contains("Feed │ Latency") && text.contains("JSON/s▼"));
    terminal.resize(4, 20);
    terminal.until("an apology", |text| text.contains("a terminal of"));
    terminal.resize(40, 130);
    terminal.until("all panes", |text| text.contains("JSON/s▼") && text.contains("worker▼"));

    // The blade is stopped, and another one started in its place.
    blade.signal(Signal::SIGTERM);
    blade.wait();
    let admin = blade.admin.to_string();
    terminal.until("the loss", |text| {
        text.contains(&format!("nothing listens at {admin}")) && text.contains("trying again")
    });
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "1", "--listen", "127.0.0.1:0", "--admin", &admin]);
    let mut next = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
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
        // Where nothing listens there is a picture, too.
        let mut terminal = Terminal::run(&["top", "127.0.0.1:1"], (24, 80));
        terminal.until("a picture", |text| text.contains("nothing listens at 127.0.0.1:1"));
        kill(Pid::from_raw(terminal.child.id().cast_signed()), signal).unwrap();
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
    fails(&blade.data.to_string(), "it is no admin port of a blade");
    fails("7401", "an admin port is written HOST:PORT");
    let (code, _, stderr) = fanblade(&["top", &blade.admin.to_string()]);
    assert!(code == 1 && stderr.contains("standard output is no terminal"), "{stderr}");
}

/// The number before `unit`, as it is shown: `81.5k`.
fn figure(text: &str, unit: &str) -> Option<f64> {
    let before = text.split_once(unit)?.0;
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '│').next()?;
    let number = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    number.parse().ok()
}

/// A program in a terminal of its own; killed when dropped.
struct Terminal {
    child: Child,
    keyboard: File,
    /// To look at the settings, and to change the size.
    line: OwnedFd,
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn run(args: &[&str], (rows, columns): (u16, u16)) -> Terminal {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        // Its own session, so that the size is that of this terminal and not of the one that the test runs in.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(FANBLADE).args(args).env("TERM", "xterm-256color");
        let child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let mut master = File::from(pty.master);
        let keyboard = master.try_clone().unwrap();
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = master.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..len]);
            }
        });
        Terminal { child, keyboard, line: pty.slave, before, screen }
    }

    /// What is on the screen, once it is this.
    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.screen.lock().unwrap().screen().contents();
            if holds(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().unwrap().set_size(rows, columns);
        let size = [("rows", rows), ("columns", columns)].map(|(what, size)| [what.to_owned(), size.to_string()]);
        let line = Stdio::from(self.line.try_clone().unwrap());
        assert!(Command::new("stty").args(size.concat()).stdin(line).status().unwrap().success());
    }

    /// Waits for its end, and looks at what it leaves behind: the settings, the screen and the cursor as they were.
    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        self.until("an empty screen", str::is_empty);
        let parser = self.screen.lock().unwrap();
        assert!(!parser.screen().alternate_screen() && !parser.screen().hide_cursor());
        let after = tcgetattr(&self.line).unwrap();
        assert_eq!((after.local_flags, after.input_flags), (self.before.local_flags, self.before.input_flags));
        assert_eq!((after.output_flags, after.control_chars), (self.before.output_flags, self.before.control_chars));
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
