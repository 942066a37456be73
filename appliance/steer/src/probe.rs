//! Checks what the machine has and lacks for the kernel programs.

use std::fs;
use std::path::Path;

use aya::programs::ProgramType;
use aya::sys::is_program_supported;
use aya::util::KernelVersion;

use crate::error::{SteerError, chain};
use crate::pins::{BPFFS, is_bpffs};

/// One thing that the programs need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is needed.
    pub name: &'static str,
    /// Is it there?
    pub is_ok: bool,
    /// What was found.
    pub found: String,
    /// What the blade loses without it.
    pub cost: &'static str,
    /// The command or change that provides it.
    pub mend: String,
}

/// Checks everything that [`crate::Steer`] needs. Changes nothing, and needs no privileges itself.
#[must_use]
pub fn probe() -> Vec<Check> {
    let held = effective_capabilities();
    let mut checks: Vec<Check> = CAPABILITIES.iter().map(|capability| capability.check(held)).collect();
    let may_load = missing(held).is_empty();

    let has_btf = Path::new(KERNEL_BTF).exists();
    checks.push(Check {
        name: "BTF",
        is_ok: has_btf,
        found: format!("{KERNEL_BTF} {}", if has_btf { "is there" } else { "is missing" }),
        cost: "maps without field names in bpftool",
        mend: "a kernel with CONFIG_DEBUG_INFO_BTF=y (all current distributions' kernels)".into(),
    });
    let mounted = is_bpffs(Path::new(BPFFS));
    checks.push(Check {
        name: "bpffs",
        is_ok: mounted,
        found: format!("{BPFFS} is {}a BPF file system", if mounted { "" } else { "not " }),
        cost: "without pinned maps `fanblade flows` and bpftool see nothing; the daemon mounts it if it may",
        mend: format!("mount -t bpf bpf {BPFFS}"),
    });
    checks.push(supported("XDP", ProgramType::Xdp, may_load, "incoming packets are not counted"));
    checks.push(tcx());
    let cost = "connections are spread by the kernel's hash instead of by weight and load";
    checks.push(supported("sk_reuseport", ProgramType::SkReuseport, may_load, cost));
    let jit = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").ok();
    // The file cannot be read without privileges, and does not exist in a kernel that always compiles.
    checks.push(Check {
        name: "BPF JIT",
        is_ok: jit.as_deref().is_none_or(|value| value.trim() != "0"),
        found: format!("net.core.bpf_jit_enable = {}", jit.as_deref().map_or("unreadable", str::trim)),
        cost: "interpreted programs take several times as long per packet",
        mend: "sysctl net.core.bpf_jit_enable=1".into(),
    });
    checks
}

pub(crate) fn require_capabilities() -> Result<(), SteerError> {
    let missing = missing(effective_capabilities());
    if missing.is_empty() {
        return Ok(());
    }
    Err(SteerError::Privileges { missing: missing.join(", "), program: program_path() })
}

fn supported(name: &'static str, program_type: ProgramType, may_load: bool, cost: &'static str) -> Check {
    let mend = "a kernel with CONFIG_BPF_SYSCALL=y, Linux 5.18 or later".to_owned();
    let (is_ok, found) = if may_load {
        match is_program_supported(program_type) {
            Ok(true) => (true, "the kernel takes such programs".into()),
            Ok(false) => (false, "the kernel takes no such programs".into()),
            Err(error) => (false, chain(&error)),
        }
    } else {
        (false, "cannot be tried without the capabilities above".into())
    };
    Check { name, is_ok, found, cost, mend }
}

fn tcx() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Check {
        name: "tcx",
        is_ok: KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0)),
        found: format!("Linux {}", release.trim()),
        cost: "outgoing packets are not counted",
        mend: "Linux 6.6 or later".into(),
    }
}

struct Capability {
    name: &'static str,
    bit: u32,
    /// CAP_SYS_ADMIN includes this capability (capabilities(7)).
    in_sys_admin: bool,
    cost: &'static str,
}

impl Capability {
    fn is_held(&self, held: u64) -> bool {
        held & (1 << self.bit) != 0 || self.in_sys_admin && held & (1 << CAP_SYS_ADMIN) != 0
    }

    fn check(&self, held: u64) -> Check {
        let is_ok = self.is_held(held);
        Check {
            name: self.name,
            is_ok,
            found: if is_ok { "held" } else { "not held" }.into(),
            cost: self.cost,
            mend: format!("run as root, or: setcap cap_bpf,cap_net_admin,cap_perfmon+ep {}", program_path()),
        }
    }
}

const CAPABILITIES: [Capability; 3] = [
    Capability {
        name: "CAP_BPF",
        bit: 39,
        in_sys_admin: true,
        cost: "no flow counters, no steering: nothing can be loaded",
    },
    Capability {
        name: "CAP_NET_ADMIN",
        bit: 12,
        in_sys_admin: false,
        cost: "no flow counters: nothing can be attached",
    },
    Capability { name: "CAP_PERFMON", bit: 38, in_sys_admin: true, cost: "the kernel's verifier refuses the programs" },
];

fn missing(held: u64) -> Vec<&'static str> {
    CAPABILITIES.iter().filter(|capability| !capability.is_held(held)).map(|capability| capability.name).collect()
}

/// `CapEff` of this process (proc_pid_status(5)).
fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn program_path() -> String {
    std::env::current_exe().map_or_else(|_error| "fanblade".into(), |path| path.display().to_string())
}

const CAP_SYS_ADMIN: u32 = 21;
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named_when_they_are_missing() {
        assert_eq!(missing(0), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(missing(1 << 21), ["CAP_NET_ADMIN"]);
        assert_eq!(missing(1 << 39 | 1 << 12 | 1 << 38), [""; 0]);
    }

    #[test]
    fn every_check_says_what_it_costs_and_what_mends_it() {
        let checks = probe();
        assert_eq!(checks.len(), 9);
        for check in checks {
            assert!(!check.found.is_empty() && !check.cost.is_empty() && !check.mend.is_empty(), "{check:?}");
        }
    }
}
