//! Whether queues, interrupts, governors and other programs are where `fanblade tune` puts them.

use std::path::Path;

use super::finding::{Finding, State};
use crate::commands::tune::{self, Host, Item, Stage};

/// `config`: the blade's configuration, which names the feed's interfaces.
pub(super) fn findings(host: &Host, config: Option<&Path>) -> Vec<Finding> {
    let (items, refusals) = tune::items_on(host, config);
    let items = items.into_iter().filter(|item| item.stage != Stage::Sweep);
    let refusal = |item: &Item| refusals.get(&(item.name.clone(), item.goal.clone())).map(String::as_str);
    let mut findings: Vec<Finding> = items.filter_map(|item| judge(host, &item, refusal(&item))).collect();
    findings.extend([irqbalance(host), huge_pages(host)].into_iter().flatten());
    findings
}

/// None: there is nothing to set on this machine. What was refused cannot be mended, and is told without blame.
fn judge(host: &Host, item: &Item, refusal: Option<&str>) -> Option<Finding> {
    match (tune::look(host, item), refusal) {
        (tune::State::Left, _) => None,
        (tune::State::Differs(_), Some(reason)) => Some(Finding::ok(&item.name, format!("as it is: {reason}"))),
        (tune::State::Differs(count), None) => Some(Finding::not_ok(
            State::Warn,
            &item.name,
            format!("{count} of {} not as planned", item.acts.len()),
            format!("{} ({})", item.goal, item.why),
            item.cost,
            "fanblade tune, as root",
        )),
        _ => Some(Finding::ok(&item.name, &item.goal)),
    }
}

fn irqbalance(host: &Host) -> Option<Finding> {
    tune::is_running(host, "irqbalance").then(|| {
        Finding::not_ok(
            State::Warn,
            "irqbalance",
            "running",
            "not running",
            "it moves interrupts away from the workers' CPUs, every ten seconds",
            "systemctl disable --now irqbalance, then fanblade tune",
        )
    })
}

/// The ring is shared memory in ordinary pages (memfd without MFD_HUGETLB).
fn huge_pages(host: &Host) -> Option<Finding> {
    let pages = host.number("/proc/sys/vm/nr_hugepages").filter(|pages| *pages > 0)?;
    Some(Finding::not_ok(
        State::Warn,
        "huge pages",
        format!("{pages} reserved"),
        "none",
        "this memory is lost to sessions: the blade uses none",
        "sysctl -w vm.nr_hugepages=0, unless another program uses them",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tune::recorded::Tree;

    #[test]
    fn each_thing_out_of_place_is_named_with_its_cost() {
        let tree = Tree::new(4);
        tree.card("eth0", "ixgbe", "0", (4, 4), 100);
        let find = |check: &str| findings(&tree.host(), None).into_iter().find(|finding| finding.check == check);
        for check in
            ["eth0 queues", "eth0 rings", "eth0 interrupts", "eth0 XPS", "eth0 RSS", "eth0 coalescing", "work queues"]
        {
            let finding = find(check).unwrap_or_else(|| panic!("no {check}"));
            assert_eq!(finding.state, State::Warn, "{finding:?}");
            assert!(finding.fix.contains("fanblade tune") && !finding.cost.is_empty(), "{finding:?}");
        }
        let interrupts = find("eth0 interrupts").unwrap();
        assert!(interrupts.found.starts_with("2 of 2") && interrupts.wanted.contains("100→2 101→3"), "{interrupts:?}");
        // As planned.
        tree.put("/proc/irq/100/smp_affinity_list", "2");
        tree.put("/proc/irq/101/smp_affinity_list", "3");
        assert_eq!(find("eth0 interrupts").unwrap().state, State::Ok);
        // Someone has moved one since.
        tree.put("/proc/irq/101/smp_affinity_list", "0-3");
        assert!(find("eth0 interrupts").unwrap().found.starts_with("1 of 2"));
        // What the driver refused is no fault of the operator's.
        tree.put("/run/fanblade-tune/refused", "eth0 queues\t2\tethtool -L eth0 combined 2: Device or resource busy");
        let queues = find("eth0 queues").unwrap();
        assert!(queues.state == State::Ok && queues.found.contains("resource busy"), "{queues:?}");
        // There is nothing to set, and nothing is said.
        assert!(find("governor").is_none() && find("irqbalance").is_none() && find("huge pages").is_none());
        tree.put("/proc/77/comm", "irqbalance");
        tree.put("/proc/sys/vm/nr_hugepages", "512");
        assert_eq!(find("irqbalance").unwrap().state, State::Warn);
        assert!(find("huge pages").unwrap().found.contains("512 reserved"));
    }
}
