//! Whether a process still lives.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::time::{Duration, Instant};

/// A process, recognised also when its number has been given to another: the open file of the old one then fails.
#[derive(Debug)]
pub(super) struct Life {
    stat: File,
    asked: Instant,
}

impl Life {
    pub(super) fn of(pid: u32) -> io::Result<Life> {
        Ok(Life { stat: File::open(format!("/proc/{pid}/stat"))?, asked: Instant::now() })
    }

    /// Has it ended? Looked up now and then; in between the answer is no.
    pub(super) fn is_over(&mut self) -> bool {
        if self.asked.elapsed() < INTERVAL {
            return false;
        }
        self.asked = Instant::now();
        let mut text = String::new();
        let read = self.stat.rewind().and_then(|()| self.stat.read_to_string(&mut text));
        // `PID (NAME) STATE …`, where a name may hold anything. Z and X: ended, and perhaps not waited for yet.
        let state = text.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        read.is_err() || matches!(state, None | Some('Z' | 'X'))
    }
}

const INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_seen_before_and_after_it_is_waited_for() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut life = Life::of(child.id()).unwrap();
        let mut look = || {
            std::thread::sleep(INTERVAL);
            life.is_over()
        };
        assert!(!look());
        drop(child.stdin.take());
        // It is a zombie as soon as it has noticed that its input has ended.
        assert!((0..100).any(|_| look()));
        child.wait().unwrap();
        assert!(look());
    }
}
