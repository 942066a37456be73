//! Plans for machines as they are met, and one that is set for real.

use std::collections::{BTreeMap, BTreeSet};

use fanblade_abi::limits::WORKERS_MAX;
use fanblade_testkit::{Namespace, is_root};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use proptest::prelude::*;

use super::apply::{State, apply, look};
use super::card::{Card, Channels, Interrupt};
use super::cpus::{self, Cpus};
use super::host::Host;
use super::items::{Act, Item, Wanted, items};
use super::machine::{Core, Machine, Named};
use super::placement::Placement;
use super::recorded::Tree;

fn plan(tree: &Tree, clients: &[&str], feed: &[&str]) -> (Machine, Placement, Vec<Item>) {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let machine = Machine::read(&tree.host(), &Named { clients: names(clients), feed: names(feed) });
    let placement = Placement::new(&machine);
    let items = items(&machine, &placement, Wanted::default());
    (machine, placement, items)
}

fn item<'a>(items: &'a [Item], name: &str) -> &'a Item {
    let known: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
    items.iter().find(|item| item.name == name).unwrap_or_else(|| panic!("no {name} in {known:?}"))
}

/// The programs that an item would run, as one types them.
fn commands(item: &Item) -> Vec<String> {
    let command = |act: &Act| match act {
        Act::Run { program, args, is_so: false } => Some(format!("{program} {}", args.join(" "))),
        _ => None,
    };
    item.acts.iter().filter_map(command).collect()
}

/// Where each interrupt goes.
fn interrupts(item: &Item) -> BTreeMap<String, String> {
    let of = |act: &Act| match act {
        Act::Write { path, value, .. } => (path.split('/').nth(3).unwrap().to_owned(), value.clone()),
        other => panic!("{other:?}"),
    };
    item.acts.iter().map(of).collect()
}

#[test]
fn a_virtual_machine_of_two_cpus_shares_them() {
    let tree = Tree::new(2);
    tree.card("eth0", "virtio_net", "-1", (2, 2), 30);
    let (machine, placement, items) = plan(&tree, &[], &[]);
    assert_eq!((machine.cards[0].node, placement.workers, placement.pinned.is_none()), (None, 1, true));
    assert!(placement.cpus().is_empty());
    assert!(item(&items, "isolation").why.contains("too few CPUs"));
    assert!(item(&items, "governor").why.contains("no cpufreq"));
    assert!(item(&items, "idle states").why.contains("no cpuidle"));
    assert_eq!(commands(item(&items, "eth0 queues")), [""; 0], "it has a queue for each CPU");
    let expected = [("30", "0"), ("31", "1")].map(|(irq, cpu)| (irq.to_owned(), cpu.to_owned()));
    assert_eq!(interrupts(item(&items, "eth0 interrupts")), BTreeMap::from(expected));
    assert_eq!(item(&items, "eth0 RPS").goal, "off");
    // With one queue the kernel spreads.
    let tree = Tree::new(2);
    tree.card("eth0", "virtio_net", "", (1, 1), 30);
    let (_, _, items) = plan(&tree, &[], &[]);
    assert_eq!(item(&items, "eth0 RPS").goal, "0→0-1");
    assert!(item(&items, "eth0 XPS").acts.is_empty());
}

#[test]
fn a_server_of_one_node_gets_a_queue_for_each_worker() {
    let tree = Tree::new(16);
    tree.card("eth0", "ixgbe", "0", (16, 63), 100);
    tree.put("/usr/lib/systemd/system/fanblade.slice", "");
    tree.put("/sys/fs/cgroup/system.slice/cgroup.procs", "");
    tree.put("/sys/fs/cgroup/init.scope/cpuset.cpus", "0");
    let (_, placement, items) = plan(&tree, &[], &[]);
    assert_eq!(placement.cpus(), (1..16).collect::<Vec<_>>(), "the first CPU is the system's");
    assert_eq!(commands(item(&items, "eth0 queues")), ["ethtool -L eth0 combined 14"]);
    assert_eq!(commands(item(&items, "eth0 rings")), ["ethtool -G eth0 rx 4096 tx 4096"]);
    assert_eq!(commands(item(&items, "eth0 RSS")), ["ethtool -X eth0 equal 14"]);
    assert_eq!(commands(item(&items, "eth0 coalescing")), ["ethtool -C eth0 adaptive-rx off rx-usecs 10"]);
    let to = interrupts(item(&items, "eth0 interrupts"));
    assert_eq!((to.len(), to["100"].as_str(), to["113"].as_str()), (14, "2", "15"));
    assert_eq!(commands(item(&items, "isolation")), ["systemctl set-property --runtime system.slice AllowedCPUs=0"]);
    assert_eq!(item(&items, "work queues").goal, "CPUs 0");
    // The real-time clock's, and the one for the card's link.
    assert_eq!(interrupts(item(&items, "other interrupts")).into_keys().collect::<Vec<_>>(), ["116", "8"]);
}

fn two_nodes() -> Tree {
    let tree = Tree::new(128);
    tree.put("/sys/devices/system/node/node0/cpulist", "0-31,64-95");
    tree.put("/sys/devices/system/node/node1/cpulist", "32-63,96-127");
    for cpu in 0..128 {
        let directory = format!("/sys/devices/system/cpu/cpu{cpu}");
        tree.put(&format!("{directory}/topology/thread_siblings_list"), &format!("{},{}", cpu % 64, cpu % 64 + 64));
        tree.put(&format!("{directory}/cpufreq/scaling_available_governors"), "performance powersave");
        tree.put(&format!("{directory}/cpufreq/scaling_governor"), "powersave");
        for (state, latency) in ["0", "2", "10", "133"].into_iter().enumerate() {
            tree.put(&format!("{directory}/cpuidle/state{state}/latency"), latency);
            tree.put(&format!("{directory}/cpuidle/state{state}/disable"), "0");
        }
    }
    tree.card("eth0", "ice", "1", (64, 64), 200);
    tree
}

#[test]
fn of_two_nodes_the_card_s_is_taken() {
    let tree = two_nodes();
    let (_, placement, items) = plan(&tree, &[], &[]);
    let pinned = placement.pinned.as_ref().unwrap();
    assert_eq!((pinned.sequencer, pinned.workers.clone()), (33, (34..64).collect()));
    assert_eq!(cpus::list(&placement.system), "0-32,64-96", "the other node, and a core of this one");
    assert_eq!(commands(item(&items, "eth0 queues")), ["ethtool -L eth0 combined 30"]);
    assert_eq!(item(&items, "governor").goal, "performance on CPUs 33-63");
    let states = item(&items, "idle states");
    assert_eq!(states.acts.len(), 31 * 2, "10 and 133 µs");
    assert!(!items.iter().any(|item| item.name == "eth0 node"), "card and workers are on one node");
    // A node that is not known: the largest. A second card is far from the workers.
    tree.put("/sys/devices/pci/eth0/numa_node", "-1");
    tree.card("eth1", "ice", "1", (8, 8), 400);
    let (_, placement, items) = plan(&tree, &[], &[]);
    assert_eq!(placement.pinned.as_ref().unwrap().sequencer, 1);
    assert!(item(&items, "eth1 node").why.contains("another node"));
}

#[test]
fn what_is_set_is_unchanged_the_next_time() {
    let tree = two_nodes();
    let (_, _, items) = plan(&tree, &[], &[]);
    // Those that write files; nothing here answers to `ethtool -L`.
    let files = |item: &&Item| item.acts.iter().all(|act| matches!(act, Act::Write { .. })) && !item.acts.is_empty();
    let mut set = 0;
    for item in items.iter().filter(files) {
        let before = look(&tree.host(), item);
        let after = apply(&tree.host(), item);
        assert!(matches!((&before, &after), (State::Differs(_), State::Set) | (State::Unchanged, State::Unchanged)));
        set += usize::from(after == State::Set);
        assert_eq!(apply(&tree.host(), item), State::Unchanged, "{item:?}");
    }
    assert!(set >= 6, "only {set} were set");
    // A driver that refuses is a line; so is a file that has gone.
    let State::Refused { count, reason, is_permission } = apply(&tree.host(), item(&items, "eth0 queues")) else {
        panic!("nothing here takes this");
    };
    assert_eq!((count, is_permission), (1, false));
    assert_eq!(reason, "ethtool -L eth0 combined 30: Operation not supported");
    tree.remove("/sys/devices/system/cpu/cpu40/cpufreq/scaling_governor");
    let State::Refused { count: 1, reason, .. } = apply(&tree.host(), item(&items, "governor")) else {
        panic!("it has gone")
    };
    assert!(reason.contains("/cpu40/cpufreq/scaling_governor: No such file"), "{reason}");
}

#[test]
fn the_ports_beneath_a_bond_and_a_vlan_are_tuned() {
    let tree = Tree::new(8);
    tree.card("eth0", "ixgbe", "0", (8, 8), 100);
    tree.card("eth1", "ixgbe", "0", (8, 8), 200);
    for (name, lower) in [("bond0", &["eth0", "eth1"][..]), ("bond0.5", &["bond0"])] {
        tree.put(&format!("/sys/class/net/{name}/type"), "1");
        lower.iter().for_each(|lower| tree.put(&format!("/sys/class/net/{name}/lower_{lower}/type"), "1"));
    }
    tree.put("/sys/class/net/bond0/bonding/slaves", "eth0 eth1");
    tree.card("eth2", "igb", "0", (2, 2), 300);
    let names = |machine: &Machine| machine.cards.iter().map(|card| card.name.clone()).collect::<Vec<_>>();
    let (machine, ..) = plan(&tree, &["bond0.5"], &[]);
    assert_eq!(names(&machine), ["eth0", "eth1"]);
    let (machine, ..) = plan(&tree, &[], &[]);
    assert_eq!(names(&machine), ["eth0", "eth1", "eth2"]);
    let left_out: BTreeMap<_, _> = machine.passed_over.into_iter().collect();
    assert_eq!(left_out["bond0"], "its ports are tuned");
    assert_eq!((left_out["bond0.5"].as_str(), left_out["lo"].as_str()), ("no card", "not Ethernet"));
    // The feed's card interrupts the sequencer, and has as many queues as it had.
    let (machine, placement, items) = plan(&tree, &[], &["eth2"]);
    assert!(machine.cards[2].is_feed && !machine.cards[0].is_feed);
    let to: BTreeSet<_> = interrupts(item(&items, "eth2 interrupts")).into_values().collect();
    assert_eq!(to.into_iter().collect::<Vec<_>>(), [placement.pinned.unwrap().sequencer.to_string()]);
    assert_eq!(commands(item(&items, "eth2 coalescing")), ["ethtool -C eth2 adaptive-rx off rx-usecs 0"]);
    assert!(!items.iter().any(|item| item.name == "eth2 queues"));
    let (machine, placement, _) = plan(&tree, &[], &["eth2"]);
    let busy = super::items::items(&machine, &placement, Wanted { is_busy: true });
    assert!(interrupts(item(&busy, "eth2 interrupts")).into_values().all(|cpu| cpu == "0"));
    // The only card is the clients' too.
    let (machine, ..) = plan(&tree, &["eth2"], &["eth2"]);
    assert!(!machine.cards[0].is_feed);
}

#[test]
fn a_machine_without_a_card_has_a_plan() {
    let tree = Tree::new(4);
    let (_, placement, items) = plan(&tree, &[], &[]);
    assert_eq!(placement.cpus(), [1, 2, 3]);
    assert!(item(&items, "cards").why.contains("no network card"));
    let (machine, ..) = plan(&tree, &["eth9", "../lo", ".."], &[]);
    assert_eq!(machine.passed_over.len(), 3, "{:?}", machine.passed_over);
}

#[test]
fn values_that_make_no_sense_are_survived() {
    let tree = Tree::new(8);
    tree.card("eth0", "ice", "", (4, 4), 100);
    // Holes, siblings that are offline or say nothing, a card that is down and one for a guest.
    tree.put("/sys/devices/system/cpu/online", "0-2,4,6-7");
    tree.put("/sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2-3");
    tree.put("/sys/devices/system/cpu/cpu4/topology/thread_siblings_list", "nonsense");
    tree.put("/sys/class/net/eth0/flags", "0x1002");
    tree.put("/proc/interrupts", "nothing: here\n: \n12\n");
    tree.card("eth1", "iavf", "0", (4, 4), 200);
    tree.put("/sys/devices/pci/eth1/physfn/vendor", "");
    let (machine, placement, items) = plan(&tree, &[], &[]);
    assert_eq!(cpus::list(&machine.allowed), "0-2,4,6-7");
    assert_eq!(placement.cpus(), [1, 2, 4, 6, 7]);
    assert!(item(&items, "eth0 interrupts").why.contains("is down"));
    assert!(machine.passed_over.iter().any(|(name, why)| name == "eth1" && why.contains("guest")));
    tree.put("/sys/devices/system/cpu/online", "");
    tree.remove("/sys/devices/system/node");
    tree.says(
        "ethtool -l eth0",
        "Pre-set maximums:\nCombined: n/a\nRX: 4\nTX: 8\nCurrent hardware settings:\nRX: 1\nTX: 1",
    );
    tree.says("ethtool -x eth0", "RX flow hash indirection table for eth0 with 1 RX ring(s):\nOperation not supported");
    tree.says("ethtool -g eth0", "garbage");
    let (_, placement, items) = plan(&tree, &[], &[]);
    assert_eq!(placement.cpus(), [1, 2, 4, 5, 6, 7], "as far as this process may go; 3 is a thread of 2's core");
    assert_eq!(commands(item(&items, "eth0 queues")), ["ethtool -L eth0 rx 4 tx 4"]);
    assert!(item(&items, "eth0 RSS").why.contains("no table"));
    assert!(item(&items, "eth0 rings").why.contains("names no sizes"));
    assert_eq!(item(&items, "eth0 RPS").goal, "0→2,7 1→4 2→5 3→6");
}

#[test]
fn limits_count_and_isolation_does_not() {
    let allowed = |tree: &Tree| cpus::list(&Machine::read(&tree.host(), &Named::default()).allowed);
    let status = |tree: &Tree, list: &str| tree.put("/proc/self/status", &format!("Cpus_allowed_list:\t{list}"));
    let tree = Tree::new(8);
    // Control groups of version 1, or none: what this process may use.
    status(&tree, "2-5");
    assert_eq!(allowed(&tree), "2-5");
    // A shell in a slice that was confined to the system's CPU: the plan is the machine's.
    tree.put("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu");
    tree.put("/sys/fs/cgroup/cpuset.cpus.effective", "0-7");
    tree.put("/sys/fs/cgroup/system.slice/cpuset.cpus.effective", "0");
    tree.put("/proc/self/cgroup", "0::/system.slice/shell.service");
    status(&tree, "0");
    assert_eq!(allowed(&tree), "0-7");
    // taskset in a group that has all.
    tree.put("/proc/self/cgroup", "0::/");
    status(&tree, "4-7");
    assert_eq!(allowed(&tree), "4-7");
    // A container, whose root group has a limit.
    tree.put("/sys/fs/cgroup/cpuset.cpus", "1-3");
    tree.put("/sys/fs/cgroup/cpuset.cpus.effective", "1-3");
    status(&tree, "1-3");
    assert_eq!(allowed(&tree), "1-3");
}

#[test]
fn interrupts_are_known_by_their_drivers_names() {
    let tree = Tree::new(4);
    tree.card("eth0", "none", "0", (1, 1), 100);
    let names = [
        ("eth0-TxRx-3", Some(3)),
        ("ice-eth0-TxRx-3", Some(3)),
        ("virtio2-input.3", Some(3)),
        ("virtio2-output.1", Some(1)),
        ("mlx5_comp3@pci:0000:01:00.0", Some(3)),
        ("eth0-Tx-Rx-3", Some(3)),
        ("eth0-rx-3", Some(3)),
        ("eth0-3", Some(3)),
        ("eth0", None),
        ("virtio2-config", None),
        ("mlx5_async0@pci:0000:01:00.0", None),
        ("i40e-eth0-fdir-TxRx-0", None),
        ("ice-0000:17:00.0:misc", None),
    ];
    for (name, queue) in names {
        tree.put("/proc/interrupts", &format!("100: 1 2 PCI-MSIX-0000:00:03.0 1-edge {name}"));
        let card = &Machine::read(&tree.host(), &Named::default()).cards[0];
        assert_eq!(card.interrupts.first().map(|interrupt| interrupt.queue), queue, "{name}");
    }
}

fn card(node: Option<usize>, (now, max): (u64, u64), vectors: usize) -> Card {
    let none = || "not asked".to_owned();
    Card {
        name: "eth0".to_owned(),
        driver: "ice".to_owned(),
        node,
        is_up: true,
        is_feed: false,
        channels: Ok(Channels { now, max, is_separate: false }),
        rings: Err(none()),
        coalescing: Err(none()),
        spread: Err(none()),
        tx_queues: 1,
        rx_queues: 1,
        interrupts: (100..).zip(0..vectors).map(|(number, queue)| Interrupt { number, queue }).collect(),
    }
}

proptest! {
    #[test]
    fn a_plan_makes_sense_on_every_machine(
        nodes in prop::collection::vec(prop::collection::vec(1_usize..3, 1..40), 1..4),
        offset in 0_usize..3,
        card_node in prop::option::of(0_usize..5),
        max in 1_u64..130,
        vectors in 0_usize..130,
    ) {
        let mut next = offset;
        let mut cores = Vec::new();
        for (node, threads) in nodes.iter().enumerate() {
            for threads in threads {
                cores.push(Core { cpus: (next..next + threads).collect(), node });
                next += threads;
            }
        }
        let allowed: Cpus = cores.iter().flat_map(|core| core.cpus.clone()).collect();
        let machine = Machine { allowed: allowed.clone(), cores: cores.clone(), cards: vec![card(card_node, (1, max), vectors)], ..Machine::default() };
        let placement = Placement::new(&machine);
        let of_core = |cpu: usize| cores.iter().position(|core| core.cpus.contains(&cpu)).unwrap();
        if allowed.len() >= 3 {
            let pinned = placement.pinned.clone().unwrap();
            let mut all = vec![pinned.sequencer];
            all.extend(&pinned.workers);
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "each has a CPU of its own");
            if cores.len() >= 3 {
                let own: BTreeSet<usize> = all.iter().map(|cpu| of_core(*cpu)).collect();
                prop_assert_eq!(own.len(), all.len(), "each has a core of its own");
                prop_assert!(placement.system.iter().all(|cpu| !own.contains(&of_core(*cpu))));
            }
            prop_assert!(all.iter().all(|cpu| allowed.contains(cpu) && !placement.system.contains(cpu)));
            prop_assert!(!placement.system.is_empty() && placement.system.is_subset(&allowed));
            prop_assert!((1..=WORKERS_MAX as usize).contains(&pinned.workers.len()));
        } else {
            prop_assert!(placement.pinned.is_none() && placement.workers == 1);
        }
        let queues = placement.queues(max);
        prop_assert!(queues >= 1 && queues <= max && queues <= placement.receivers.len() as u64);
        let sends: Vec<Cpus> = (0..queues).map(|queue| placement.of_queue(queue, queues)).collect();
        prop_assert!(sends.iter().all(|cpus| !cpus.is_empty()), "no queue without a CPU");
        let sent: Cpus = sends.into_iter().flatten().collect();
        prop_assert_eq!(&sent, &placement.receivers.iter().copied().collect::<Cpus>(), "no worker without a queue");
        for item in items(&machine, &placement, Wanted::default()) {
            for act in &item.acts {
                let Act::Write { path, value, .. } = act else { continue };
                let cpus = if path.contains("affinity_list") { cpus::parse_list(value) } else { cpus::parse_mask(value) };
                prop_assert!(cpus.unwrap().is_subset(&allowed), "{}: {}", path, value);
            }
        }
    }
}

/// A real interface with four queues, in a network of its own.
#[test]
fn an_interface_of_the_kernel_is_set() {
    if !is_root("an interface of its own") {
        return;
    }
    if let Err(reason) = (Host::here().run)("/".as_ref(), "ethtool", &["--version"]) {
        println!("skipped: {reason}");
        return;
    }
    let namespace = Namespace::new();
    let queues = ["numtxqueues", "4", "numrxqueues", "4"];
    namespace
        .ip(&[&["link", "add", "tuned0"], &queues[..], &["type", "veth", "peer", "name", "tuned1"], &queues[..]]
            .concat());
    namespace.ip(&["link", "set", "tuned0", "up"]);
    namespace.run(|| {
        // /sys shows the network of who mounts it.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).unwrap();
        let (host, named) = (Host::here(), Named { clients: vec!["tuned0".to_owned()], feed: Vec::new() });
        // The rest is the whole machine's.
        let of_card = || -> Vec<Item> {
            let machine = Machine::read(&host, &named);
            assert!(machine.cards[0].channels.is_ok(), "{:?}", machine.cards);
            let items = items(&machine, &Placement::new(&machine), Wanted::default());
            items.into_iter().filter(|item| item.name.starts_with("tuned0 ")).collect()
        };
        // The second time, queues have their new number.
        for _ in 0..2 {
            of_card().iter().for_each(|item| drop(apply(&host, item)));
        }
        let machine = Machine::read(&host, &named);
        let (placement, card) = (Placement::new(&machine), &machine.cards[0]);
        let wanted = placement.queues(4);
        assert_eq!(card.channels.as_ref().unwrap().now, wanted);
        assert_eq!((card.tx_queues as u64, card.rx_queues as u64), (wanted, wanted));
        for queue in 0..if wanted > 1 { wanted } else { 0 } {
            let mask = host.text(&format!("/sys/class/net/tuned0/queues/tx-{queue}/xps_cpus")).unwrap();
            assert_eq!(cpus::parse_mask(&mask), Some(placement.of_queue(queue, wanted)));
        }
        for item in of_card() {
            assert!(matches!(look(&host, &item), State::Unchanged | State::Left), "{item:?}");
        }
    });
}
