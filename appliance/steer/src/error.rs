//! Errors: what is missing, what the blade loses without it, and how to mend it.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

/// Why a part of the kernel programs is not at work. None of these keeps the blade from serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SteerError {
    /// The process is not allowed to use eBPF.
    #[error(
        "missing {missing}: no flow counters, and connections are spread by the kernel's hash instead of by load; \
         run as root, or: setcap cap_bpf,cap_net_admin,cap_perfmon+ep {program}"
    )]
    Privileges {
        /// Names of the missing capabilities.
        missing: String,
        /// Path of this program.
        program: String,
    },

    /// The kernel did not take the programs or their maps.
    #[error("the kernel did not take {what}: {cause}; {mend}")]
    Load {
        /// The program or map.
        what: String,
        /// What the kernel said.
        cause: String,
        /// How to mend it.
        mend: &'static str,
    },

    /// The maps could not be pinned: they work, but only this process sees them.
    #[error("no pinned maps in {}: {cause}; `fanblade flows` and bpftool see nothing; {mend}", dir.display())]
    Pin {
        /// The directory for the pins.
        dir: PathBuf,
        /// What went wrong.
        cause: String,
        /// How to mend it.
        mend: String,
    },

    /// There is no such interface in this network namespace.
    #[error("no interface {interface} in this network namespace: its packets are not counted; see: ip link")]
    UnknownInterface {
        /// The name as configured.
        interface: String,
    },

    /// The interface's packets do not begin with an Ethernet header.
    #[error(
        "{interface} is not an Ethernet interface (see: ip link show dev {interface}): its packets are not counted; \
         name the Ethernet interface below it"
    )]
    NotEthernet {
        /// The interface.
        interface: String,
    },

    /// Another XDP program is on the interface; we do not replace it.
    #[error(
        "another XDP program is on {interface}: incoming packets are not counted; see: ip link show dev {interface}; \
         if it is not wanted: ip link set dev {interface} xdp off"
    )]
    InterfaceTaken {
        /// The interface.
        interface: String,
    },

    /// The interface takes the program neither in its driver nor in the kernel's generic mode.
    #[error("{interface} takes no XDP program: incoming packets are not counted; native: {native}; generic: {generic}")]
    Ingress {
        /// The interface.
        interface: String,
        /// What the driver said.
        native: io::Error,
        /// What the kernel said to the generic mode.
        generic: io::Error,
    },

    /// The interface takes no tcx program, which needs Linux 6.6.
    #[error(
        "{interface} takes no tcx program: outgoing packets are not counted; {cause}; tcx needs Linux 6.6 or later \
         (uname -r)"
    )]
    Egress {
        /// The interface.
        interface: String,
        /// What the kernel said.
        cause: io::Error,
    },

    /// A listener could not be entered in the map, or the program could not be attached to the group.
    #[error(
        "listener of worker {worker} not steered: {cause}; its group stays with the kernel's hash; the listeners must be \
         listening TCP sockets of one SO_REUSEPORT group, and in no other map"
    )]
    Listener {
        /// Index of the worker.
        worker: u32,
        /// What the kernel said.
        cause: io::Error,
    },

    /// An argument is out of range.
    #[error("{what} is {value}, must be {allowed}")]
    OutOfRange {
        /// The argument.
        what: &'static str,
        /// Its value.
        value: u64,
        /// What is allowed.
        allowed: String,
    },

    /// A flow that has a lane was to get another one.
    #[error("the flow has lane {lane} already: it leaves that one first")]
    FlowTaken {
        /// The lane that it has.
        lane: u32,
    },

    /// A map could not be read or written.
    #[error("map {map}: {cause}")]
    Map {
        /// The map.
        map: &'static str,
        /// What the kernel said.
        cause: MapError,
    },

    /// Nothing is pinned in the directory, or maps of another version are.
    #[error("no maps of a running blade in {}: {cause}; is the daemon running, with its pins there, and are you root?", dir.display())]
    NothingPinned {
        /// The directory that was looked in.
        dir: PathBuf,
        /// What was found.
        cause: String,
    },
}

impl SteerError {
    /// An index that is not below `len`.
    pub(crate) fn beyond(what: &'static str, value: u32, len: usize) -> Self {
        Self::OutOfRange { what, value: value.into(), allowed: format!("less than {len}") }
    }

    pub(crate) fn load(what: &str, error: &(dyn Error + 'static)) -> Self {
        let mend = match errno(error) {
            Some(libc::EPERM) => {
                "check the capabilities with `fanblade doctor`, and before Linux 5.11 the limit: ulimit -l unlimited"
            }
            Some(libc::ENOMEM | libc::E2BIG) => "make the flow table smaller",
            _ => "Linux 6.6 or later has all that is needed (uname -r)",
        };
        Self::Load { what: what.to_owned(), cause: chain(error), mend }
    }
}

impl From<EbpfError> for SteerError {
    fn from(error: EbpfError) -> Self {
        Self::load("the maps", &error)
    }
}

/// The operating system's error number, found anywhere in the chain of causes.
pub(crate) fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        next = error.source();
    }
    None
}

/// The operating system's error in the chain of causes, or the whole chain as text.
pub(crate) fn io_error(error: &ProgramError) -> io::Error {
    errno(error).map_or_else(|| io::Error::other(chain(error)), io::Error::from_raw_os_error)
}

/// An error with its causes in one line. Of the verifier's log, which may be long, only the end is kept: it has the
/// reason.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    if text.chars().count() > CHAIN_CHARS_MAX {
        let skipped = text.chars().count() - CHAIN_CHARS_MAX;
        text = format!("… {}", text.chars().skip(skipped).collect::<String>());
    }
    text
}

const CHAIN_CHARS_MAX: usize = 600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_number_is_found_below_other_errors() {
        let error =
            MapError::CreateError { name: "FLOWS".into(), io_error: io::Error::from_raw_os_error(libc::ENOMEM) };
        assert_eq!(errno(&error), Some(libc::ENOMEM));
        let error = SteerError::load("FLOWS", &error);
        assert!(error.to_string().contains("make the flow table smaller"), "{error}");
    }

    #[test]
    fn a_long_cause_keeps_its_end() {
        let error = io::Error::other(format!("{}the reason", "x".repeat(10_000)));
        let text = chain(&error);
        assert!(text.ends_with("the reason") && text.chars().count() < 610);
    }
}
