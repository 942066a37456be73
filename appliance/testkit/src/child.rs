//! Processes that end with their test.
#![expect(unsafe_code, reason = "what a child does between fork and exec")]

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt as _;
use std::process::{self, Command, ExitStatus, Output};

use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;

use crate::wait::until;

/// A process that is killed when this is dropped, and by the kernel when the thread that started it ends: even if the
/// test leaks it, panics, or is killed itself. So the thread that starts a child must live as long as the child should.
pub struct Child {
    /// `None` once the output has been taken.
    process: Option<process::Child>,
}

impl Child {
    /// Starts the process.
    ///
    /// # Panics
    ///
    /// The process cannot be started.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Child {
        Child::try_spawn(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Starts the process, or returns an error: the program may be missing on this machine.
    pub fn try_spawn(command: &mut Command) -> io::Result<Child> {
        let before_exec = || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The tests may have been started with SIGHUP ignored (`nohup`), and the child would inherit that.
            // SAFETY: there is no handler that could be called.
            unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl)? };
            Ok(())
        };
        // SAFETY: between fork and exec only two system calls are made; nothing is allocated, no lock is taken.
        unsafe { command.pre_exec(before_exec) };
        Ok(Child { process: Some(command.spawn()?) })
    }

    /// Sends a signal to the process.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().cast_signed()), signal).unwrap();
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    ///
    /// The process does not end within [`crate::PATIENCE`].
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        until("the end of a child", || self.try_wait().unwrap())
    }

    /// Waits for the end of the process, and returns its output to pipes that the test has not taken.
    #[track_caller]
    pub fn output(mut self) -> Output {
        self.process.take().and_then(|process| process.wait_with_output().ok()).expect("a child's output")
    }
}

impl Deref for Child {
    type Target = process::Child;

    fn deref(&self) -> &process::Child {
        self.process.as_ref().expect("it is there until its output is taken")
    }
}

impl DerefMut for Child {
    fn deref_mut(&mut self) -> &mut process::Child {
        self.process.as_mut().expect("it is there until its output is taken")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Both fail if the process has already ended and been waited for.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
