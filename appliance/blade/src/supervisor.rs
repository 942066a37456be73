//! Tells the service manager that started the blade how it is: the protocol of sd_notify(3), one datagram a message to
//! the socket that `NOTIFY_SOCKET` names.
//!
//! | message | when |
//! |---|---|
//! | `READY=1` | the data port and the admin port are open, and every thread has begun to turn |
//! | `STATUS=` | a line for people, when it changes, at most every three seconds ([`crate::bulletins`]) |
//! | `WATCHDOG=1` | at half of `WATCHDOG_USEC`, while `/healthz` says 200 |
//! | `RELOADING=1`, then `READY=1` | around a reload ([`crate::reload`]) |
//! | `STOPPING=1` | the blade begins to end, with the time that this takes at most |
//!
//! A blade is ready before its feed is: a market that is closed, or an exchange that cannot be reached, is no reason to
//! start the blade again. `/readyz` tells balancers about the feed.
//!
//! No message may cost the blade anything: the socket never blocks, and what the manager does not take is counted and,
//! where it matters, sent again at the next look. The crate `sd-notify` opens a socket for each message and waits for
//! the manager while its queue is full, so it does not fit here.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The way to the service manager, if there is one. Any thread may use it: it has no lock, and it waits for nobody.
#[derive(Debug, Default)]
pub struct Supervisor {
    place: Option<Place>,
    /// How long the manager goes on without a `WATCHDOG=1`. None: it does not watch.
    watchdog: Option<Duration>,
    /// Messages that the manager's socket took, and those that it did not.
    told: AtomicU64,
    lost: AtomicU64,
    /// That messages are lost has been logged.
    is_loss_logged: AtomicBool,
    /// How long the end of the blade may take, in microseconds; 0: it has not begun.
    end_us: AtomicU64,
    is_end_told: AtomicBool,
}

/// The manager's socket.
#[derive(Debug)]
struct Place {
    socket: UnixDatagram,
    address: SocketAddr,
    /// As the manager wrote it.
    name: String,
}

impl Supervisor {
    /// The service manager that started this process. If it left an address that cannot be used, the log says so.
    #[must_use]
    pub fn from_env() -> Supervisor {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Supervisor::default();
        };
        let shown = name.to_string_lossy().into_owned();
        let place = match Place::new(&name) {
            Ok(place) => place,
            Err(error) => {
                tracing::warn!("NOTIFY_SOCKET={shown}: {error}; the service manager is told nothing, the blade serves");
                return Supervisor::default();
            }
        };
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (usec, pid) = (variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        let watchdog = watchdog(usec.as_deref(), pid.as_deref(), std::process::id()).unwrap_or_else(|wrong| {
            tracing::warn!("{wrong}; the service manager's watchdog is not answered");
            None
        });
        Supervisor { place: Some(place), watchdog, ..Supervisor::default() }
    }

    /// Sends a message. False: it was not taken, and has been counted.
    pub(crate) fn tell(&self, message: &str) -> bool {
        let Some(place) = &self.place else { return true };
        match place.socket.send_to_addr(message.as_bytes(), &place.address) {
            Ok(_) => {
                self.told.fetch_add(1, Relaxed);
                true
            }
            Err(error) => {
                self.lost.fetch_add(1, Relaxed);
                // A full queue is no fault: the manager is busy, and gets the message at the next look.
                if error.kind() != io::ErrorKind::WouldBlock && !self.is_loss_logged.swap(true, Relaxed) {
                    tracing::warn!(
                        "NOTIFY_SOCKET={}: {error}; the service manager does not hear the blade, which serves on",
                        place.name
                    );
                }
                false
            }
        }
    }

    /// Says that the blade begins to end, and how long that may take: the manager waits for so long, whatever its own
    /// `TimeoutStopSec=` says.
    pub(crate) fn end_within(&self, time: Duration) {
        self.end_us.store(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
        self.tell_end();
    }

    /// Sends that message unless the manager has it.
    pub(crate) fn tell_end(&self) {
        let end_us = self.end_us.load(Relaxed);
        if end_us == 0 || self.is_end_told.load(Relaxed) {
            return;
        }
        let message = format!("STOPPING=1\nSTATUS=stopping: sessions are told\nEXTEND_TIMEOUT_USEC={end_us}");
        let is_told = self.tell(&message);
        self.is_end_told.fetch_or(is_told, Relaxed);
    }

    /// Whether there is anybody to be told.
    pub(crate) fn is_there(&self) -> bool {
        self.place.is_some()
    }

    /// How long the manager goes on without a `WATCHDOG=1`; None: it does not watch.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Messages that the manager's socket took, and those that it did not.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.told.load(Relaxed), self.lost.load(Relaxed))
    }
}

impl Place {
    fn new(name: &OsStr) -> io::Result<Place> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                return Err(io::Error::other(
                    "neither a path that begins with / nor an abstract name that begins with @",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Place { socket, address, name: name.to_string_lossy().into_owned() })
    }
}

/// The manager's watchdog, from `WATCHDOG_USEC` and `WATCHDOG_PID` (sd_watchdog_enabled(3)).
fn watchdog(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Result<Option<Duration>, String> {
    let Some(usec) = usec else { return Ok(None) };
    // It may be meant for a process that started us.
    if pid.is_some_and(|pid| pid != own_pid.to_string()) {
        return Ok(None);
    }
    match usec.parse() {
        Ok(usec) if usec > 0 => Ok(Some(Duration::from_micros(usec))),
        _ => Err(format!("WATCHDOG_USEC={usec} is not a number of microseconds")),
    }
}

/// What a reload begins with (sd_notify(3)): the time tells the manager that this is the answer to its newest request.
pub(crate) fn reloading() -> String {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_watchdog_is_ours_or_nobodys() {
        let seconds = |seconds| Ok(Some(Duration::from_secs(seconds)));
        assert_eq!(watchdog(None, None, 7), Ok(None));
        assert_eq!(watchdog(Some("20000000"), None, 7), seconds(20));
        assert_eq!(watchdog(Some("20000000"), Some("7"), 7), seconds(20));
        assert_eq!(watchdog(Some("20000000"), Some("8"), 7), Ok(None), "another process's");
        for wrong in ["0", "-1", "20s", "18446744073709551616"] {
            let told = watchdog(Some(wrong), None, 7).unwrap_err();
            assert!(told.contains(&format!("WATCHDOG_USEC={wrong} is not")), "{told}");
        }
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let place = Place::new(path.as_os_str()).unwrap();
        let supervisor = Supervisor { place: Some(place), ..Supervisor::default() };
        let begun = Instant::now();
        // The kernel's queue (net.unix.max_dgram_qlen) is ten or some hundred messages long.
        let taken = (0..100_000).take_while(|_| supervisor.tell("WATCHDOG=1")).count() as u64;
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody waited");
        assert_eq!(supervisor.counts(), (taken, 1));
        // The order to end is sent again once there is room.
        supervisor.end_within(Duration::from_secs(1));
        assert!(!supervisor.is_end_told.load(Relaxed));
        let mut bytes = [0; 4096];
        (0..taken).for_each(|_| assert_eq!(manager.recv(&mut bytes).unwrap(), "WATCHDOG=1".len()));
        supervisor.tell_end();
        supervisor.tell_end();
        let len = manager.recv(&mut bytes).unwrap();
        let told = String::from_utf8_lossy(&bytes[..len]).into_owned();
        assert!(told.starts_with("STOPPING=1\n") && told.ends_with("\nEXTEND_TIMEOUT_USEC=1000000"), "{told}");
        manager.set_nonblocking(true).unwrap();
        assert!(manager.recv(&mut bytes).is_err(), "once");
    }
}
