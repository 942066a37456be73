//! Whether an item is as it should be, and making it so.

use std::io;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::cpus::{self, Cpus};
use super::host::Host;
use super::items::{Act, Form, Item};

/// How an item stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// There is nothing to set.
    Left,
    /// It was so already.
    Unchanged,
    /// So many things of it are not as they should be; nothing was written.
    Differs(usize),
    Set,
    /// So many things of it could not be set, and why the first could not.
    Refused {
        count: usize,
        reason: String,
        is_permission: bool,
    },
}

/// Only looks.
pub(crate) fn look(host: &Host, item: &Item) -> State {
    match item.acts.iter().filter(|act| !is_so(host, act)).count() {
        _ if item.acts.is_empty() => State::Left,
        0 => State::Unchanged,
        differing => State::Differs(differing),
    }
}

/// Sets what is not as it should be.
pub(crate) fn apply(host: &Host, item: &Item) -> State {
    let mut state = look(host, item);
    if !matches!(state, State::Differs(_)) {
        return state;
    }
    let mut count = 0;
    for act in item.acts.iter().filter(|act| !is_so(host, act)) {
        if let Err(refusal) = set(host, act) {
            count += 1;
            if count == 1 {
                let is_permission = refusal.kind() == io::ErrorKind::PermissionDenied;
                state = State::Refused { count, reason: refusal.to_string(), is_permission };
            }
        }
    }
    match state {
        State::Refused { reason, is_permission, .. } => State::Refused { count, reason, is_permission },
        _ => State::Set,
    }
}

fn is_so(host: &Host, act: &Act) -> bool {
    match act {
        Act::Run { is_so, .. } | Act::Affinity { is_so, .. } => *is_so,
        Act::Write { path, value, form } => {
            let found = host.text(path).unwrap_or_default();
            match form {
                Form::Text => found == *value,
                Form::List => cpus::parse_list(&found) == cpus::parse_list(value),
                Form::Mask => cpus::parse_mask(&found) == cpus::parse_mask(value),
            }
        }
    }
}

fn set(host: &Host, act: &Act) -> io::Result<()> {
    match act {
        Act::Write { path, value, .. } => {
            let named = |error: io::Error| {
                // Who may open the file may write it: EPERM is the kernel's word about this value, as for interrupts
                // that it has bound to a CPU itself.
                let is_refusal = error.raw_os_error() == Some(nix::libc::EPERM);
                let kind = if is_refusal { io::ErrorKind::Other } else { error.kind() };
                io::Error::new(kind, format!("{path}: {error}"))
            };
            host.write(path, value).map_err(named)?;
            if is_so(host, act) {
                return Ok(());
            }
            let found = host.text(path).unwrap_or_default();
            Err(io::Error::other(format!("{path}: the kernel took {value} and says {found}")))
        }
        Act::Run { program, args, .. } => {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            host.tool(program, &args).map(drop).map_err(|reason| {
                let is_permission = reason.contains("Operation not permitted") || reason.contains("Permission denied");
                let kind = if is_permission { io::ErrorKind::PermissionDenied } else { io::ErrorKind::Other };
                io::Error::new(kind, format!("{program} {}: {reason}", args.join(" ")))
            })
        }
        Act::Affinity { pid, cpus, .. } => match affinity(*pid, cpus) {
            // The thread has ended since.
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(()),
            result => result.map_err(|error| io::Error::new(error.kind(), format!("thread {pid}: {error}"))),
        },
    }
}

fn affinity(pid: u32, cpus: &Cpus) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus.iter().filter(|cpu| **cpu < CpuSet::count()) {
        set.set(*cpu)?;
    }
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    Ok(sched_setaffinity(Pid::from_raw(pid), &set)?)
}
