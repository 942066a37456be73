//! The terminal: taken over at the start, restored however the program ends.

use std::io::{self, stdout};
use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::{DefaultTerminal, Frame};

/// The whole screen. It is restored when this is dropped, and before a panic prints its message.
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    pub(super) fn open() -> io::Result<Screen> {
        // ratatui's own hook restores everything but the cursor.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let _ = execute!(stdout(), Show);
            hook(info);
        }));
        // On failure halfway, undo the steps that succeeded.
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore())?;
        Ok(Screen { terminal })
    }

    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(picture)?;
        Ok(())
    }
}

/// Ends the program when its terminal has gone: there is nothing to restore, and the thread that reads keys would read
/// nothing for ever. SIGHUP says so as well, but not every process gets it.
pub(super) fn end_with_terminal() -> io::Result<()> {
    let watch = || loop {
        // Without requested events `poll` reports only the end of the terminal.
        let terminal = stdout();
        let mut terminal = [PollFd::new(terminal.as_fd(), PollFlags::empty())];
        match poll(&mut terminal, PollTimeout::NONE) {
            Ok(_) if terminal[0].any() == Some(true) => std::process::exit(0),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    };
    std::thread::Builder::new().name("terminal".to_owned()).spawn(watch).map(drop)
}

impl Drop for Screen {
    fn drop(&mut self) {
        // If the terminal has gone, there is nobody to report an error to.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use nix::pty::{Winsize, openpty};
    use nix::sys::termios::{LocalFlags, tcgetattr};
    use ratatui::widgets::Paragraph;

    use super::*;

    #[test]
    fn a_panic_gives_the_terminal_back() {
        // This test is also the program that it starts.
        if std::env::var_os(ROLE).is_some() {
            let mut screen = Screen::open().unwrap();
            screen.draw(|frame| frame.render_widget(Paragraph::new("drawn"), frame.area())).unwrap();
            panic!("told after the terminal is back");
        }
        let (_, module) = module_path!().split_once("::").unwrap();
        let size = Winsize { ws_row: 10, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut child = Command::new("setsid")
            .arg("--ctty")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{module}::a_panic_gives_the_terminal_back"), "--nocapture"])
            .env(ROLE, "program")
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .unwrap();
        let mut master = File::from(pty.master);
        let slave = pty.slave.try_clone().unwrap();
        drop(pty.slave);
        let mut parser = vt100::Parser::new(10, 60, 100);
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        let mut was_taken = false;
        while !String::from_utf8_lossy(&bytes).contains("test result") {
            let len = master.read(&mut chunk).unwrap();
            bytes.extend_from_slice(&chunk[..len]);
            // Byte by byte, since a later part may wipe away what an earlier one has drawn.
            for byte in &chunk[..len] {
                parser.process(&[*byte]);
                let screen = parser.screen();
                was_taken |= screen.alternate_screen() && screen.hide_cursor() && screen.contents().contains("drawn");
            }
        }
        child.wait().unwrap();
        assert!(was_taken);
        let screen = parser.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
        assert!(String::from_utf8_lossy(&bytes).contains("told after the terminal is back"));
        let after = tcgetattr(&slave).unwrap();
        assert!(after.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
        assert_eq!((after.local_flags, after.input_flags), (before.local_flags, before.input_flags));
    }

    const ROLE: &str = "FANBLADE_TEST_PANIC_IN_A_TERMINAL";
}
