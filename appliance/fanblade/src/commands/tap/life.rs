//! Whether a process is still alive.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::time::{Duration, Instant};

/// A process, held by an open /proc file: reads of it fail once the process has ended, even if its number is used
/// again.
#[derive(Debug)]
pub(super) struct Life {
    stat: File,
    asked: Instant,
}

impl Life {
    pub(super) fn of(pid: u32) -> io::Result<Life> {
        Ok(Life { stat: File::open(format!("/proc/{pid}/stat"))?, asked: Instant::now() })
    }

    /// Whether the process has ended. It is checked now and then; in between the answer is no.
    pub(super) fn is_over(&mut self) -> bool {
        if self.asked.elapsed() < INTERVAL {
            return false;
        }
        self.asked = Instant::now();
        let mut text = String::new();
        let read = self.stat.rewind().and_then(|()| self.stat.read_to_string(&mut text));
        // The format is `PID (NAME) STATE …`, where a name may hold anything. States Z and X mean ended, even if the
        // parent has not waited for it yet.
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
        // The process becomes a zombie as soon as it has noticed the end of its input.
        assert!((0..100).any(|_| look()));
        child.wait().unwrap();
        assert!(look());
    }
}
