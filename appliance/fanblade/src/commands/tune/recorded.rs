//! Machines for tests: trees of files as /sys and /proc have them, and what programs say.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::host::Host;

/// A tree in a directory of its own.
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    /// CPUs without sibling threads, all on node 0, and no card.
    pub(crate) fn new(cpus: usize) -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.put("/sys/devices/system/cpu/online", &format!("0-{}", cpus - 1));
        tree.put("/sys/devices/system/node/node0/cpulist", &format!("0-{}", cpus - 1));
        tree.put("/sys/class/net/lo/type", "772");
        tree.put("/sys/devices/virtual/workqueue/cpumask", "ffffffff");
        tree.put("/proc/irq/default_smp_affinity", "ffffffff");
        tree.put("/proc/self/status", &format!("Name:\tfanblade\nCpus_allowed_list:\t0-{}\n", cpus - 1));
        tree.put(
            "/proc/interrupts",
            "           CPU0       CPU1\n  8:          0          0 IO-APIC 8-edge rtc0\nNMI: 1 2\n",
        );
        tree.put("/proc/irq/8/smp_affinity_list", "0-1");
        tree
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.0.path().join(path.trim_start_matches('/'));
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    /// What a program prints when it is called like this. Others fail.
    pub(crate) fn says(&self, command: &str, output: &str) {
        self.put(&format!("/programs/{command}"), output);
    }

    /// A card that is up, with as many queues as given now, of at most `max`; its interrupts have numbers from `irq`
    /// on.
    pub(crate) fn card(&self, name: &str, driver: &str, node: &str, (now, max): (usize, usize), irq: usize) {
        let device = format!("/sys/devices/pci/{name}");
        self.put(&format!("{device}/numa_node"), node);
        self.put(&format!("/sys/drivers/{driver}/bind"), "");
        let net = format!("/sys/class/net/{name}");
        self.put(&format!("{net}/type"), "1");
        self.put(&format!("{net}/flags"), "0x1003");
        symlink(self.0.path().join(&device[1..]), self.0.path().join(&net[1..]).join("device")).unwrap();
        symlink(format!("../../../drivers/{driver}"), self.0.path().join(&device[1..]).join("driver")).unwrap();
        let mut interrupts = self.host().text("/proc/interrupts").unwrap();
        for queue in 0..now {
            self.put(&format!("{net}/queues/rx-{queue}/rps_cpus"), "00000000");
            self.put(&format!("{net}/queues/tx-{queue}/xps_cpus"), "00000000");
            let number = irq + queue;
            self.put(&format!("{device}/msi_irqs/{number}"), "msix");
            self.put(&format!("/proc/irq/{number}/smp_affinity_list"), "0-1");
            write!(interrupts, "\n{number}: 7 0 PCI-MSIX-0000:00:03.0 1-edge {driver}-{name}-TxRx-{queue}").unwrap();
        }
        // For the link.
        self.put(&format!("{device}/msi_irqs/{}", irq + now), "msix");
        write!(interrupts, "\n{}: 7 0 PCI-MSIX-0000:00:03.0 0-edge {driver}-{name}", irq + now).unwrap();
        self.put(&format!("/proc/irq/{}/smp_affinity_list", irq + now), "0");
        self.put("/proc/interrupts", &interrupts);
        self.says(
            &format!("ethtool -l {name}"),
            &format!(
                "Channel parameters for {name}:\nPre-set maximums:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t{max}\n\
                 Current hardware settings:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t{now}"
            ),
        );
        let ring = |entries| format!("RX:\t\t{entries}\nRX Mini:\tn/a\nTX:\t\t{entries}\n");
        self.says(
            &format!("ethtool -g {name}"),
            &format!("Pre-set maximums:\n{}Current hardware settings:\n{}", ring(8_160), ring(512)),
        );
        self.says(&format!("ethtool -c {name}"), "Adaptive RX: on  TX: on\nrx-usecs: 50\nrx-frames: n/a");
        let table = (0..128).fold(String::new(), |mut table, entry| {
            let start = if entry % 8 == 0 { format!("\n{entry:5}:") } else { String::new() };
            let _ = write!(table, "{start} {}", entry % now);
            table
        });
        self.says(
            &format!("ethtool -x {name}"),
            &format!("RX flow hash indirection table for {name} with {now} RX ring(s):{table}\nRSS hash key:\n6d:5a"),
        );
    }

    pub(crate) fn host(&self) -> Host {
        Host { root: self.0.path().to_owned(), run: answer }
    }
}

fn answer(root: &Path, program: &str, args: &[&str]) -> Result<String, String> {
    let command = format!("{program} {}", args.join(" "));
    fs::read_to_string(root.join("programs").join(command)).map_err(|_| "Operation not supported".to_owned())
}
