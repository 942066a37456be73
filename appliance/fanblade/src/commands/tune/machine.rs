//! What a machine has: CPUs, cores, nodes, network cards, their queues and interrupts. Everything is read from /sys and
//! /proc, and from `ethtool`; what is not there, or makes no sense, is None.

use std::collections::{BTreeMap, BTreeSet};

use super::card::{self, Card};
use super::cpus::{self, Cpus};
use super::host::Host;

/// As found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    /// CPUs that a blade may use.
    pub(crate) allowed: Cpus,
    /// Cores, with the allowed ones of their CPUs, by their first CPU.
    pub(crate) cores: Vec<Core>,
    /// Network cards to tune.
    pub(crate) cards: Vec<Card>,
    /// Interfaces that are left alone, and why.
    pub(crate) passed_over: Vec<(String, String)>,
    /// Interrupts of everything but the cards' queues.
    pub(crate) other_interrupts: Vec<u32>,
    /// Threads of the kernel that may be moved, and where each may run.
    pub(crate) kernel_threads: Vec<(u32, Cpus)>,
    /// Units of systemd that hold everything but the blade, each with its CPUs (empty: all); none: the blade has no
    /// slice of its own.
    pub(crate) other_slices: Vec<(String, Cpus)>,
    /// CPUs whose governor can be `performance`; None: there is no cpufreq.
    pub(crate) governors: Option<Cpus>,
    pub(crate) idle_states: Vec<IdleState>,
    pub(crate) is_irqbalance_running: bool,
}

/// A physical core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Core {
    /// Its sibling threads.
    pub(crate) cpus: Vec<usize>,
    /// The NUMA node.
    pub(crate) node: usize,
}

/// A state in which an idle CPU waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdleState {
    pub(crate) cpu: usize,
    /// Its directory.
    pub(crate) path: String,
    /// The time that it takes to leave it, in µs.
    pub(crate) exit_us: u64,
}

/// What the caller knows about the cards.
#[derive(Debug, Clone, Default)]
pub(crate) struct Named {
    /// Clients' interfaces; empty: every physical one.
    pub(crate) clients: Vec<String>,
    /// The feed's interfaces.
    pub(crate) feed: Vec<String>,
}

impl Machine {
    pub(crate) fn read(host: &Host, named: &Named) -> Machine {
        let allowed = allowed(host);
        let cores = cores(host, &allowed);
        let mut passed_over = Vec::new();
        let mut ports_of = |interfaces: &[String]| {
            let mut names = BTreeSet::new();
            for name in interfaces {
                match ports(host, name) {
                    ports if ports.is_empty() => {
                        passed_over.push((name.clone(), "there is no such interface".to_owned()));
                    }
                    ports => names.extend(ports),
                }
            }
            names
        };
        let (clients, feed) = (ports_of(&named.clients), ports_of(&named.feed));
        let mut names = &clients | &feed;
        if named.clients.is_empty() {
            for name in host.names("/sys/class/net") {
                match why_not(host, &name) {
                    None => drop(names.insert(name)),
                    Some(reason) if !names.contains(&name) => passed_over.push((name, reason.to_owned())),
                    Some(_) => {}
                }
            }
        }
        let interrupts = interrupts(host);
        let mut cards: Vec<Card> = names.iter().map(|name| card::read(host, name, &interrupts)).collect();
        // A card that both use, and the only one, are the clients'.
        if names.iter().any(|name| !feed.contains(name)) || !clients.is_empty() {
            cards.iter_mut().for_each(|card| card.is_feed = feed.contains(&card.name) && !clients.contains(&card.name));
        }
        let of_cards: BTreeSet<u32> = cards.iter().flat_map(|card| &card.interrupts).map(|irq| irq.number).collect();
        let movable = |number: &&u32| !of_cards.contains(number);
        Machine {
            other_interrupts: interrupts.keys().filter(movable).copied().collect(),
            kernel_threads: kernel_threads(host),
            other_slices: other_slices(host),
            is_irqbalance_running: is_running(host, "irqbalance"),
            governors: governors(host, &allowed),
            idle_states: idle_states(host, &allowed),
            allowed,
            cores,
            cards,
            passed_over,
        }
    }

    /// The nodes of the allowed CPUs.
    pub(crate) fn nodes(&self) -> BTreeSet<usize> {
        self.cores.iter().map(|core| core.node).collect()
    }
}

/// The CPUs that are online and that the machine's control group admits. This process may itself be confined to the
/// CPUs that tuning leaves to the system; only a narrower affinity of its own (taskset(1)) counts.
pub(crate) fn allowed(host: &Host) -> Cpus {
    let online = host.text(&format!("{CPUS}/online")).and_then(|text| cpus::parse_list(&text));
    let status = host.text("/proc/self/status").unwrap_or_default();
    let affinity = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).and_then(cpus::parse_list);
    let affinity = affinity.filter(|cpus| !cpus.is_empty());
    let online = online.filter(|cpus| !cpus.is_empty()).or_else(|| affinity.clone()).unwrap_or_default();
    let effective = |group: &str| {
        let text = host.text(&format!("{CGROUPS}{group}/cpuset.cpus.effective"));
        text.and_then(|text| cpus::parse_list(&text)).filter(|cpus| !cpus.is_empty())
    };
    let groups = host.text("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).filter(|_| host.exists(CGROUPS_MARK));
    let confined_by_group = own.and_then(|own| {
        // Where the controller is not switched on, the group above says.
        let mut group = own.trim_end_matches('/');
        loop {
            match (effective(group), group.rsplit_once('/')) {
                (Some(cpus), _) => break Some(cpus),
                (None, Some((above, _))) => group = above,
                (None, None) => break None,
            }
        }
    });
    let machine = match own {
        // Only the root group of a container has this file.
        Some(_) if host.exists(&format!("{CGROUPS}/cpuset.cpus")) => effective("").unwrap_or_else(|| online.clone()),
        Some(_) => online.clone(),
        None => affinity.clone().unwrap_or_else(|| online.clone()),
    };
    let machine: Cpus = machine.intersection(&online).copied().collect();
    match affinity {
        Some(affinity)
            if affinity.is_subset(&machine) && confined_by_group.is_some_and(|group| affinity.len() < group.len()) =>
        {
            affinity
        }
        _ => machine,
    }
}

fn cores(host: &Host, allowed: &Cpus) -> Vec<Core> {
    let mut node_of = BTreeMap::new();
    for name in host.names(NODES) {
        let Some(node) = name.strip_prefix("node").and_then(|number| number.parse().ok()) else { continue };
        let list = host.text(&format!("{NODES}/{name}/cpulist")).unwrap_or_default();
        for cpu in cpus::parse_list(&list).unwrap_or_default() {
            node_of.insert(cpu, node);
        }
    }
    let (mut cores, mut seen) = (Vec::new(), Cpus::new());
    for &cpu in allowed {
        let list = host.text(&format!("{CPUS}/cpu{cpu}/topology/thread_siblings_list"));
        let siblings = list.and_then(|list| cpus::parse_list(&list)).unwrap_or_default();
        let is_new = |sibling: &usize| allowed.contains(sibling) && !seen.contains(sibling);
        let mut of_core: Cpus = siblings.into_iter().filter(is_new).collect();
        if seen.insert(cpu) {
            of_core.insert(cpu);
            seen.extend(&of_core);
            let node = node_of.get(&cpu).copied().unwrap_or(0);
            cores.push(Core { cpus: of_core.into_iter().collect(), node });
        }
    }
    cores
}

/// The physical ports that carry an interface: itself, or what a bond, bridge or VLAN lies on. Empty: it does not
/// exist.
fn ports(host: &Host, name: &str) -> Vec<String> {
    let mut ports = Vec::new();
    // A name with a slash would lead elsewhere.
    let mut left: Vec<String> = [name]
        .into_iter()
        .filter(|name| !name.contains('/') && ![".", ".."].contains(name))
        .map(str::to_owned)
        .collect();
    // An interface lies on few others; this ends even if /sys shows a circle.
    for _ in 0..PORTS_MAX {
        let Some(name) = left.pop() else { break };
        let entries = host.names(&format!("/sys/class/net/{name}"));
        let lower: Vec<String> =
            entries.iter().filter_map(|entry| entry.strip_prefix("lower_")).map(str::to_owned).collect();
        if entries.iter().any(|entry| entry == "device") || lower.is_empty() {
            ports.extend((!entries.is_empty()).then_some(name));
        } else {
            left.extend(lower);
        }
    }
    ports.sort();
    ports.dedup();
    ports
}

/// Why an interface that nobody named is not tuned.
fn why_not(host: &Host, name: &str) -> Option<&'static str> {
    let has = |entry: &str| host.exists(&format!("/sys/class/net/{name}/{entry}"));
    match () {
        () if !has("type") => Some("no interface"),
        () if host.text(&format!("/sys/class/net/{name}/type")).as_deref() != Some(ETHERNET) => Some("not Ethernet"),
        () if has("bonding") || has("bridge") => Some("its ports are tuned"),
        () if !has("device") => Some("no card"),
        () if has("wireless") || has("phy80211") => Some("wireless"),
        () if has("device/physfn") => Some("a virtual function: tune it in the guest that it is for"),
        () => None,
    }
}

/// Interrupts by number, with the name of who handles them. /proc/interrupts: number, a count for each CPU,
/// controller, …, name.
fn interrupts(host: &Host) -> BTreeMap<u32, String> {
    let text = host.text("/proc/interrupts").unwrap_or_default();
    let read = |line: &str| {
        let (number, rest) = line.split_once(':')?;
        Some((number.trim().parse().ok()?, rest.split_whitespace().next_back()?.to_owned()))
    };
    text.lines().filter_map(read).collect()
}

/// Threads of the kernel whose CPUs may be changed (proc_pid_stat(5): flags are the seventh field after the name).
fn kernel_threads(host: &Host) -> Vec<(u32, Cpus)> {
    let read = |name: String| {
        let pid: u32 = name.parse().ok()?;
        let stat = host.text(&format!("/proc/{pid}/stat"))?;
        let (before, after) = stat.rsplit_once(')')?;
        let flags: u32 = after.split_whitespace().nth(6)?.parse().ok()?;
        // A thread of an interrupt or of a queue goes where that goes.
        let follows = ["(irq/", "(napi/"].iter().any(|prefix| before.contains(prefix));
        if flags & PF_KTHREAD == 0 || flags & PF_NO_SETAFFINITY != 0 || follows {
            return None;
        }
        let status = host.text(&format!("/proc/{pid}/status"))?;
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        Some((pid, cpus::parse_list(allowed)?))
    };
    host.names("/proc").into_iter().filter_map(read).collect()
}

/// What systemd runs beside the blade's own slice.
fn other_slices(host: &Host) -> Vec<(String, Cpus)> {
    let has_own = UNIT_DIRS.iter().any(|dir| host.exists(&format!("{dir}/{OWN_SLICE}")));
    let exists = |unit: &&&str| has_own && host.exists(&format!("{CGROUPS}/{unit}"));
    let cpus =
        |unit: &str| host.text(&format!("{CGROUPS}/{unit}/cpuset.cpus")).and_then(|text| cpus::parse_list(&text));
    OTHER_SLICES.iter().filter(exists).map(|unit| ((*unit).to_owned(), cpus(unit).unwrap_or_default())).collect()
}

fn governors(host: &Host, allowed: &Cpus) -> Option<Cpus> {
    let offered = |cpu: usize| host.text(&format!("{CPUS}/cpu{cpu}/cpufreq/scaling_available_governors"));
    let found: Vec<(usize, String)> = allowed.iter().filter_map(|cpu| Some((*cpu, offered(*cpu)?))).collect();
    let is_offered = |(_, names): &(usize, String)| names.split_whitespace().any(|name| name == "performance");
    (!found.is_empty()).then(|| found.into_iter().filter(is_offered).map(|(cpu, _)| cpu).collect())
}

fn idle_states(host: &Host, allowed: &Cpus) -> Vec<IdleState> {
    let states = |cpu: &usize| {
        let (cpu, directory) = (*cpu, format!("{CPUS}/cpu{cpu}/cpuidle"));
        let names = host.names(&directory).into_iter().filter(|name| name.starts_with("state"));
        names.map(|name| (cpu, format!("{directory}/{name}"))).collect::<Vec<_>>()
    };
    let read =
        |(cpu, path): (usize, String)| Some(IdleState { exit_us: host.number(&format!("{path}/latency"))?, cpu, path });
    allowed.iter().flat_map(states).filter_map(read).collect()
}

/// Is there a process of this name?
pub(crate) fn is_running(host: &Host, program: &str) -> bool {
    let pids = host.names("/proc").into_iter().filter(|name| name.parse::<u32>().is_ok());
    pids.into_iter().any(|pid| host.text(&format!("/proc/{pid}/comm")).as_deref() == Some(program))
}

/// The unit that the blade's service lies in where it has CPUs of its own.
pub(crate) const OWN_SLICE: &str = "fanblade.slice";
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";
const CGROUPS_MARK: &str = "/sys/fs/cgroup/cgroup.controllers";
const OTHER_SLICES: [&str; 3] = ["init.scope", "system.slice", "user.slice"];
const UNIT_DIRS: [&str; 3] = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"];
const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";
/// ARPHRD_ETHER.
const ETHERNET: &str = "1";
const PORTS_MAX: usize = 64;
/// Flags of a task (include/linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;
const PF_NO_SETAFFINITY: u32 = 0x0400_0000;
