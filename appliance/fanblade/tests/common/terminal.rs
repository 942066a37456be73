//! The program in a real terminal, and what a person would see in it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fanblade_testkit::{Child, PATIENCE};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{Termios, tcgetattr};

use super::FANBLADE;

/// A program in a terminal of its own; it ends with its test.
pub struct Terminal {
    child: Child,
    keyboard: File,
    /// Used to read the terminal's settings, and to change its size.
    line: OwnedFd,
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    pub fn run(args: &[&str], (rows, columns): (u16, u16)) -> Terminal {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        // A session of its own, so that the size is that of this terminal and not that of the one in which the test
        // runs.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(FANBLADE).args(args).env("TERM", "xterm-256color");
        let child = Child::spawn(command.stdin(slave()).stdout(slave()).stderr(slave()));
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

    /// Waits until the screen's text passes `holds`, and returns it.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
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

    pub fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().unwrap().set_size(rows, columns);
        let size = [("rows", rows), ("columns", columns)].map(|(what, size)| [what.to_owned(), size.to_string()]);
        let line = Stdio::from(self.line.try_clone().unwrap());
        assert!(Command::new("stty").args(size.concat()).stdin(line).status().unwrap().success());
    }

    pub fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Waits for its end, and checks what it leaves behind: settings, screen and cursor must be as before.
    pub fn end(&mut self) -> ExitStatus {
        let status = self.exit();
        self.until("an empty screen", str::is_empty);
        let parser = self.screen.lock().unwrap();
        assert!(!parser.screen().alternate_screen() && !parser.screen().hide_cursor());
        let after = tcgetattr(&self.line).unwrap();
        assert_eq!((after.local_flags, after.input_flags), (self.before.local_flags, self.before.input_flags));
        assert_eq!((after.output_flags, after.control_chars), (self.before.output_flags, self.before.control_chars));
        status
    }

    /// Waits for its end.
    pub fn exit(&mut self) -> ExitStatus {
        self.child.end()
    }
}
