//! Which CPU does what, as docs/PLACEMENT.md reasons.

use fanblade_abi::limits::WORKERS_MAX;

use super::card::Card;
use super::cpus::{self, Cpus};
use super::machine::{Core, Machine};

/// CPUs of the data path, and of everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    /// How many CPUs a blade may use.
    pub(crate) allowed: usize,
    /// What is left to the kernel, to the blade's other threads and to all other programs.
    pub(crate) system: Cpus,
    /// None: there are too few CPUs, no thread is pinned and nothing is isolated.
    pub(crate) pinned: Option<Pinned>,
    /// How many workers there are.
    pub(crate) workers: usize,
    /// The CPUs that receive: queue `i` interrupts the one with number `i`, modulo their count.
    pub(crate) receivers: Vec<usize>,
    /// The arithmetic: what was decided, the result, the reason.
    pub(crate) steps: Vec<(&'static str, String, String)>,
}

/// One CPU for each thread of the data path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pinned {
    pub(crate) sequencer: usize,
    pub(crate) workers: Vec<usize>,
}

impl Placement {
    pub(crate) fn new(machine: &Machine) -> Placement {
        let nodes = machine.nodes();
        let mut steps = vec![(
            "CPUs",
            cpus::list(&machine.allowed),
            format!(
                "{} that a blade may use; cores: {}, NUMA nodes: {}",
                machine.allowed.len(),
                machine.cores.len(),
                nodes.len()
            ),
        )];
        let (cores, node, reason) = near(machine);
        if let Some(node) = node {
            steps.push(("node", node.to_string(), reason));
        }
        // A place is a core; where there are too few cores, a thread of one.
        let mut places: Vec<usize> = cores.iter().filter_map(|core| core.cpus.first().copied()).collect();
        let threads: Vec<usize> = cores.iter().flat_map(|core| core.cpus.iter().copied()).collect();
        let is_by_core = places.len() >= PLACES_MIN;
        if !is_by_core {
            places = threads;
            places.sort_unstable();
        }
        let &[system_cpu, sequencer, ref rest @ ..] = places.as_slice() else { return shared(machine, steps) };
        if rest.is_empty() {
            return shared(machine, steps);
        }
        let workers: Vec<usize> = rest.iter().take(WORKERS_MAX as usize).copied().collect();
        // Siblings of the data path's CPUs stay empty.
        let is_busy = |core: &&Core| core.cpus.iter().any(|cpu| *cpu == sequencer || workers.contains(cpu));
        let mut system = machine.allowed.clone();
        match is_by_core {
            true => machine.cores.iter().filter(is_busy).flat_map(|core| &core.cpus).for_each(|cpu| {
                system.remove(cpu);
            }),
            false => system.retain(|cpu| *cpu != sequencer && !workers.contains(cpu)),
        }
        let place = if is_by_core { "core" } else { "CPU" };
        let beyond = match system.len() > 1 {
            true => {
                format!("{place} {system_cpu} of this node, and what is left over: the kernel and all other threads")
            }
            false => "the first: the kernel, and all other threads".to_owned(),
        };
        steps.push(("system", cpus::list(&system), beyond));
        steps.push(("sequencer", sequencer.to_string(), format!("the second {place}; its sibling thread stays empty")));
        let cut = match rest.len() - workers.len() {
            0 => String::new(),
            idle => format!("; a blade has at most {WORKERS_MAX}, {idle} {place}s are left over"),
        };
        steps.push((
            "workers",
            workers.len().to_string(),
            format!(
                "{} {place}s - 1 for the system - 1 for the sequencer{cut}: CPUs {}",
                places.len(),
                cpus::list(&workers.iter().copied().collect())
            ),
        ));
        Placement {
            allowed: machine.allowed.len(),
            system,
            workers: workers.len(),
            receivers: workers.clone(),
            pinned: Some(Pinned { sequencer, workers }),
            steps,
        }
    }

    /// The CPUs that must not sleep deeply or run slowly.
    pub(crate) fn data_cpus(&self) -> Cpus {
        match &self.pinned {
            Some(pinned) => pinned.workers.iter().copied().chain([pinned.sequencer]).collect(),
            None => self.system.clone(),
        }
    }

    /// The sequencer's CPU, then the workers'; empty: they are not pinned.
    pub(crate) fn cpus(&self) -> Vec<usize> {
        let pinned = self.pinned.iter();
        pinned.flat_map(|pinned| [pinned.sequencer].into_iter().chain(pinned.workers.iter().copied())).collect()
    }

    /// How many queues a card should have.
    pub(crate) fn queues(&self, max: u64) -> u64 {
        (self.receivers.len() as u64).clamp(1, max.max(1))
    }

    /// The CPUs whose packets queue `queue` of `queues` carries.
    pub(crate) fn of_queue(&self, queue: u64, queues: u64) -> Cpus {
        let every = (0_u64..).zip(&self.receivers);
        every.filter(|(number, _)| number % queues.max(1) == queue).map(|(_, cpu)| *cpu).collect()
    }

    /// The CPU that queue `queue` interrupts.
    pub(crate) fn receiver(&self, queue: usize) -> Option<usize> {
        self.receivers.get(queue % self.receivers.len().max(1)).copied()
    }
}

/// The cores to use: those of the clients' card, if they are enough; the node, if there are several; why this one.
fn near(machine: &Machine) -> (Vec<Core>, Option<usize>, String) {
    let nodes = machine.nodes();
    let of_node =
        |node: usize| -> Vec<Core> { machine.cores.iter().filter(|core| core.node == node).cloned().collect() };
    let largest = || nodes.iter().copied().max_by_key(|node| (of_node(*node).len(), std::cmp::Reverse(*node)));
    if nodes.len() < 2 {
        return (machine.cores.clone(), None, String::new());
    }
    let card = principal(machine);
    let (node, reason) = match card.and_then(|card| Some((card.node?, card))) {
        Some((node, card)) if of_node(node).len() >= PLACES_MIN => (Some(node), format!("{}'s", card.name)),
        Some((node, card)) => {
            let reason =
                format!("{} is on node {node}, which has fewer than {PLACES_MIN} cores: the largest", card.name);
            (largest(), reason)
        }
        None => (largest(), "no card says on which node it is: the largest".to_owned()),
    };
    match node.map(|node| (node, of_node(node))) {
        Some((node, cores)) if cores.len() >= PLACES_MIN => {
            (cores, Some(node), format!("{reason}; memory of other nodes is remote"))
        }
        _ => (machine.cores.clone(), None, String::new()),
    }
}

/// The card that decides on the node: the clients' with the most queues. Whether a cable is in does not count, so that
/// the plan is the same at boot and later.
pub(crate) fn principal(machine: &Machine) -> Option<&Card> {
    let queues = |card: &&Card| card.channels.as_ref().map_or(0, |channels| channels.max);
    let clients = machine.cards.iter().filter(|card| !card.is_feed);
    clients.max_by_key(|card| (queues(card), std::cmp::Reverse(&card.name)))
}

fn shared(machine: &Machine, mut steps: Vec<(&'static str, String, String)>) -> Placement {
    let workers = fanblade_blade::workers_for(machine.allowed.len());
    let reason =
        format!("fewer than {PLACES_MIN} CPUs: sequencer, worker and system share them, none is pinned or isolated");
    steps.push(("workers", workers.to_string(), reason));
    Placement {
        allowed: machine.allowed.len(),
        system: machine.allowed.clone(),
        pinned: None,
        workers,
        receivers: machine.allowed.iter().copied().collect(),
        steps,
    }
}

/// One for the system, one for the sequencer, one for a worker.
pub(crate) const PLACES_MIN: usize = 3;
