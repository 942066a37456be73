//! What is set on a machine so that it agrees with a placement: pure, from what was read to what is to be written.

use super::card::Card;
use super::cpus::{self, Cpus};
use super::machine::{IdleState, Machine, OWN_SLICE};
use super::placement::Placement;

/// One line: something to be as the plan wants it.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// How it should be.
    pub(crate) goal: String,
    pub(crate) why: String,
    /// What goes wrong otherwise.
    pub(crate) cost: &'static str,
    /// Empty: there is nothing to set, and `why` says why.
    pub(crate) acts: Vec<Act>,
    pub(crate) stage: Stage,
}

/// When an item is set, and whether `fanblade doctor` looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before the others: interrupts and queues are new ones afterwards.
    Card,
    /// Then this.
    Place,
    /// The same, but the kernel may rightly refuse a part, or change it: doctor does not judge.
    Sweep,
}

/// One thing to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// A file of the kernel's.
    Write { path: String, value: String, form: Form },
    /// A program with arguments; it was found to be so already, or not.
    Run { program: &'static str, args: Vec<String>, is_so: bool },
    /// The CPUs that a thread may use; as found.
    Affinity { pid: u32, cpus: Cpus, is_so: bool },
}

/// When two texts in a file mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    List,
    Mask,
}

/// What the caller asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// The sequencer never sleeps (`busy = true`): it takes no interrupts.
    pub(crate) is_busy: bool,
}

/// Everything, in the order in which it is set.
pub(crate) fn items(machine: &Machine, placement: &Placement, wanted: Wanted) -> Vec<Item> {
    let mut items: Vec<Item> =
        machine.cards.iter().flat_map(|card| of_card(card, machine, placement, wanted)).collect();
    if machine.cards.is_empty() {
        items.push(left("cards", "none", "no network card was found: nothing of one is set"));
    }
    items.extend([governor(machine, placement), idle(machine, placement)]);
    items.extend(isolation(machine, placement));
    if machine.is_irqbalance_running {
        items.push(left("irqbalance", "running", "it moves interrupts again: systemctl disable --now irqbalance"));
    }
    items.push(left("huge pages", "none", "the ring is shared memory in ordinary pages; nothing would use them"));
    items
}

fn of_card(card: &Card, machine: &Machine, placement: &Placement, wanted: Wanted) -> Vec<Item> {
    if card.is_feed {
        return vec![feed_interrupts(card, placement, wanted), coalescing(card, FEED_RX_USECS)];
    }
    let queues = match &card.channels {
        Ok(channels) => placement.queues(channels.max),
        Err(_) => placement.queues(card.rx_queues.min(card.tx_queues) as u64),
    };
    let mut items = vec![channels(card, placement, queues), rings(card), interrupts(card, placement, queues)];
    items.extend([xps(card, placement, queues), rps(card, placement, queues)]);
    items.extend([spread(card, queues), coalescing(card, CLIENTS_RX_USECS)]);
    if let (Some(node), Some(worker)) = (card.node, placement.receivers.first()) {
        let at = machine.cores.iter().find(|core| core.cpus.contains(worker)).map(|core| core.node);
        if at.is_some_and(|at| at != node) {
            let why = format!("the workers are on another node: their memory is remote to {}", card.name);
            items.push(left(&format!("{} node", card.name), &node.to_string(), &why));
        }
    }
    items
}

fn channels(card: &Card, placement: &Placement, queues: u64) -> Item {
    let name = format!("{} queues", card.name);
    let channels = match &card.channels {
        Ok(channels) => channels,
        Err(reason) => return left(&name, &format!("{} as they are", card.rx_queues), reason),
    };
    let why = match placement.receivers.len() as u64 {
        wanted if wanted > channels.max => format!("the card has no more for {wanted} CPUs that receive"),
        _ if placement.pinned.is_some() => "one for each worker".to_owned(),
        _ => "one for each CPU".to_owned(),
    };
    let count = queues.to_string();
    let args = match channels.is_separate {
        true => vec!["-L".to_owned(), card.name.clone(), "rx".to_owned(), count.clone(), "tx".to_owned(), count],
        false => vec!["-L".to_owned(), card.name.clone(), "combined".to_owned(), count],
    };
    Item {
        name,
        goal: queues.to_string(),
        why,
        cost: "workers share queues, or packets are received on CPUs that are not a worker's",
        acts: vec![Act::Run { program: ETHTOOL, args, is_so: channels.now == queues }],
        stage: Stage::Card,
    }
}

fn rings(card: &Card) -> Item {
    let name = format!("{} rings", card.name);
    let rings = match &card.rings {
        Ok(rings) => rings,
        Err(reason) => return left(&name, "as they are", reason),
    };
    // Larger ones are left: someone has chosen them.
    let want = |now: u64, max: u64| RING_ENTRIES.min(max).max(now);
    let (rx, tx) = (want(rings.now.0, rings.max.0), want(rings.now.1, rings.max.1));
    Item {
        name,
        goal: format!("rx {rx}, tx {tx} entries"),
        why: format!("up to {RING_ENTRIES}: a fan-out sends thousands of packets, and as many ACKs come back"),
        cost: "a burst finds the ring full: packets are dropped, and sent again 200 ms later",
        acts: vec![Act::Run {
            program: ETHTOOL,
            args: ["-G", &card.name, "rx", &rx.to_string(), "tx", &tx.to_string()].map(str::to_owned).to_vec(),
            is_so: rings.now == (rx, tx),
        }],
        stage: Stage::Card,
    }
}

fn interrupts(card: &Card, placement: &Placement, queues: u64) -> Item {
    // Vectors of queues that are switched off interrupt nobody.
    let used = card.interrupts.iter().filter(|interrupt| (interrupt.queue as u64) < queues);
    let acts = used.filter_map(|irq| Some(irq_act(irq.number, placement.receiver(irq.queue)?))).collect();
    interrupts_item(card, acts, "queue i interrupts the CPU of worker i: packets are received where they are sent")
}

fn feed_interrupts(card: &Card, placement: &Placement, wanted: Wanted) -> Item {
    let sequencer = placement.pinned.as_ref().map(|pinned| pinned.sequencer);
    let system = placement.system.first().copied();
    let (cpu, why) = match wanted.is_busy {
        true => (system, "the sequencer never sleeps and is left alone: the system's CPU takes the feed's"),
        false => (sequencer.or(system), "the feed's packets wake the sequencer where it sleeps"),
    };
    let acts = card.interrupts.iter().filter_map(|irq| Some(irq_act(irq.number, cpu?))).collect();
    interrupts_item(card, acts, why)
}

fn irq_act(number: u32, cpu: usize) -> Act {
    Act::Write { path: format!("/proc/irq/{number}/smp_affinity_list"), value: cpu.to_string(), form: Form::List }
}

fn interrupts_item(card: &Card, acts: Vec<Act>, why: &str) -> Item {
    let name = format!("{} interrupts", card.name);
    if acts.is_empty() {
        let why = match card.is_up {
            true => "no interrupt of /proc/interrupts has the name of a queue of this card",
            false => "the interface is down, most drivers have interrupts only when it is up: run this again then",
        };
        return left(&name, "as they are", why);
    }
    let of = |act: &Act| match act {
        Act::Write { path, value, .. } => {
            let number = path.split('/').nth(3).unwrap_or_default();
            format!("{number}→{value}")
        }
        _ => String::new(),
    };
    Item {
        name,
        goal: format!("to CPUs: {}", acts.iter().map(of).collect::<Vec<_>>().join(" ")),
        why: why.to_owned(),
        cost: "two CPUs work on a socket, and pass its memory from cache to cache",
        acts,
        stage: Stage::Place,
    }
}

fn xps(card: &Card, placement: &Placement, queues: u64) -> Item {
    let name = format!("{} XPS", card.name);
    if queues < 2 {
        return left(&name, "none", "there is one queue to send by");
    }
    let act = |queue: u64| Act::Write {
        path: format!("/sys/class/net/{}/queues/tx-{queue}/xps_cpus", card.name),
        value: cpus::mask(&placement.of_queue(queue, queues)),
        form: Form::Mask,
    };
    let goals = (0..queues).map(|queue| format!("{queue}←{}", cpus::list(&placement.of_queue(queue, queues))));
    Item {
        name,
        goal: format!("queues from CPUs: {}", goals.collect::<Vec<_>>().join(" ")),
        why: "worker i sends by queue i: no lock is shared, and completions come back to its CPU".to_owned(),
        cost: "workers wait for each other's queue locks",
        acts: (0..queues).map(act).collect(),
        stage: Stage::Place,
    }
}

fn rps(card: &Card, placement: &Placement, queues: u64) -> Item {
    let name = format!("{} RPS", card.name);
    let receivers = placement.receivers.len() as u64;
    let is_needed = queues < receivers;
    let of = |queue| if is_needed { placement.of_queue(queue, queues) } else { Cpus::new() };
    let act = |queue| Act::Write {
        path: format!("/sys/class/net/{}/queues/rx-{queue}/rps_cpus", card.name),
        value: cpus::mask(&of(queue)),
        form: Form::Mask,
    };
    let (goal, why) = match is_needed {
        true => (
            (0..queues).map(|queue| format!("{queue}→{}", cpus::list(&of(queue)))).collect::<Vec<_>>().join(" "),
            format!("{queues} queues for {receivers} CPUs: the kernel spreads what they receive"),
        ),
        false => ("off".to_owned(), "there is a queue for each CPU that receives: it would add a hop".to_owned()),
    };
    Item {
        name,
        goal,
        why,
        cost: "packets are received by CPUs that nobody chose",
        acts: (0..queues).map(act).collect(),
        stage: Stage::Place,
    }
}

fn spread(card: &Card, queues: u64) -> Item {
    let name = format!("{} RSS", card.name);
    let table = match &card.spread {
        Ok(table) => table,
        Err(reason) => return left(&name, "as it is", reason),
    };
    let (least, most) = (table.values().min(), table.values().max());
    let is_even = table.len() as u64 == queues && most.zip(least).is_some_and(|(most, least)| most - least <= 1);
    Item {
        name,
        goal: format!("equal over {queues} queues"),
        why: "each worker's CPU receives as many flows as the others".to_owned(),
        cost: "one CPU receives for many, and is full before the others",
        acts: vec![Act::Run {
            program: ETHTOOL,
            args: ["-X", &card.name, "equal", &queues.to_string()].map(str::to_owned).to_vec(),
            is_so: is_even,
        }],
        stage: Stage::Place,
    }
}

fn coalescing(card: &Card, usecs: u64) -> Item {
    let name = format!("{} coalescing", card.name);
    let now = match &card.coalescing {
        Ok(now) => *now,
        Err(reason) => return left(&name, "as it is", reason),
    };
    let mut args = vec!["-C".to_owned(), card.name.clone()];
    // A driver that cannot adapt refuses even to be told not to.
    args.extend(if now.0 { vec!["adaptive-rx".to_owned(), "off".to_owned()] } else { Vec::new() });
    args.extend(["rx-usecs".to_owned(), usecs.to_string()]);
    let why = match card.is_feed {
        true => "a packet of the feed is wanted at once".to_owned(),
        false => format!("ACKs and requests come many to an interrupt, and {usecs} µs late at most"),
    };
    Item {
        name,
        goal: format!("rx-usecs {usecs}, not adaptive"),
        why,
        cost: "packets wait in the card for longer, or each one interrupts",
        acts: vec![Act::Run { program: ETHTOOL, args, is_so: now == (false, usecs) }],
        stage: Stage::Place,
    }
}

fn governor(machine: &Machine, placement: &Placement) -> Item {
    let Some(governors) = &machine.governors else {
        return left("governor", "as it is", "the kernel has no cpufreq here; in a virtual machine the host decides");
    };
    let cpus: Cpus = placement.data_cpus().intersection(governors).copied().collect();
    if cpus.is_empty() {
        return left("governor", "as it is", "no CPU of the data path offers `performance`");
    }
    let act = |cpu: &usize| Act::Write {
        path: format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"),
        value: "performance".to_owned(),
        form: Form::Text,
    };
    Item {
        name: "governor".to_owned(),
        goal: format!("performance on CPUs {}", cpus::list(&cpus)),
        why: "a CPU that has slowed down in a quiet moment is slow when the market moves".to_owned(),
        cost: "the first messages of a burst take longer",
        acts: cpus.iter().map(act).collect(),
        stage: Stage::Place,
    }
}

fn idle(machine: &Machine, placement: &Placement) -> Item {
    let cpus = placement.data_cpus();
    let is_deep = |state: &&IdleState| state.exit_us >= IDLE_US && cpus.contains(&state.cpu);
    let deep: Vec<&IdleState> = machine.idle_states.iter().filter(is_deep).collect();
    if deep.is_empty() {
        let why = match machine.idle_states.is_empty() {
            true => "the kernel has no cpuidle here; in a virtual machine the host decides".to_owned(),
            false => format!("none takes {IDLE_US} µs to leave"),
        };
        return left("idle states", "as they are", &why);
    }
    let act = |state: &&IdleState| Act::Write {
        path: format!("{}/disable", state.path),
        value: "1".to_owned(),
        form: Form::Text,
    };
    Item {
        name: "idle states".to_owned(),
        goal: format!("none of {IDLE_US} µs or more on CPUs {}", cpus::list(&cpus)),
        why: "waking up is most of the latency of a quiet market; it costs power".to_owned(),
        cost: "a sleeping CPU takes tens to hundreds of µs until it works",
        acts: deep.iter().map(act).collect(),
        stage: Stage::Place,
    }
}

fn isolation(machine: &Machine, placement: &Placement) -> Vec<Item> {
    let system = &placement.system;
    if placement.pinned.is_none() {
        return vec![left("isolation", "none", "too few CPUs: each has something else to do")];
    }
    let units: Vec<&str> = machine.other_slices.iter().map(|(unit, _)| unit.as_str()).collect();
    let slice = |(unit, cpus): &(String, Cpus)| Act::Run {
        program: "systemctl",
        args: ["set-property", "--runtime", unit, &format!("AllowedCPUs={}", cpus::list(system))]
            .map(str::to_owned)
            .to_vec(),
        is_so: cpus == system,
    };
    let mut items = vec![match machine.other_slices.is_empty() {
        true => {
            let why =
                format!("the blade has no slice of its own ({OWN_SLICE}): other programs are not kept off its CPUs");
            left("isolation", "none", &why)
        }
        false => Item {
            name: "isolation".to_owned(),
            goal: format!("{} on CPUs {}", units.join(", "), cpus::list(system)),
            why: "other programs stay off the data path's CPUs".to_owned(),
            cost: "workers wait for other programs: milliseconds at the tail",
            acts: machine.other_slices.iter().map(slice).collect(),
            stage: Stage::Place,
        },
    }];
    let file = |name: &str, path: &str, why: &str| Item {
        name: name.to_owned(),
        goal: format!("CPUs {}", cpus::list(system)),
        why: why.to_owned(),
        cost: "the kernel works beside the data path: a longer tail",
        acts: vec![Act::Write { path: path.to_owned(), value: cpus::mask(system), form: Form::Mask }],
        stage: Stage::Place,
    };
    items.push(file("work queues", WORKQUEUES, "deferred work of the kernel that may run anywhere"));
    items.push(file("new interrupts", DEFAULT_IRQ, "where interrupts go that come later"));
    let sweep = |name: &str, acts: Vec<Act>, why: &str| Item {
        name: name.to_owned(),
        goal: format!("{} to CPUs {}", acts.len(), cpus::list(system)),
        why: why.to_owned(),
        cost: "",
        acts,
        stage: Stage::Sweep,
    };
    let irq = |number: &u32| Act::Write {
        path: format!("/proc/irq/{number}/smp_affinity_list"),
        value: cpus::list(system),
        form: Form::List,
    };
    let others = machine.other_interrupts.iter().map(irq).collect();
    items.push(sweep("other interrupts", others, "of disks and the rest; some belong to a CPU, and stay there"));
    let thread = |(pid, cpus): &(u32, Cpus)| Act::Affinity { pid: *pid, cpus: system.clone(), is_so: cpus == system };
    let threads = machine.kernel_threads.iter().map(thread).collect();
    items.push(sweep("kernel threads", threads, "those that are not bound to a CPU"));
    items
}

fn left(name: &str, goal: &str, why: &str) -> Item {
    Item {
        name: name.to_owned(),
        goal: goal.to_owned(),
        why: why.to_owned(),
        cost: "",
        acts: Vec::new(),
        stage: Stage::Place,
    }
}

const ETHTOOL: &str = "ethtool";
const WORKQUEUES: &str = "/sys/devices/virtual/workqueue/cpumask";
const DEFAULT_IRQ: &str = "/proc/irq/default_smp_affinity";
/// Entries in each ring of a card, where it has so many.
const RING_ENTRIES: u64 = 4_096;
/// `rx-usecs` of the clients' cards, and of the feed's (docs/PLACEMENT.md).
const CLIENTS_RX_USECS: u64 = 10;
const FEED_RX_USECS: u64 = 0;
/// Idle states that take so many µs to leave are switched off (docs/PLACEMENT.md: `cpupower idle-set -D 10`).
const IDLE_US: u64 = 10;
