//! What the appliance image promises of a running blade. On other machines this says nothing.

use super::finding::{Finding, State};
use crate::commands::tune::Host;

/// Is this the appliance image?
pub(super) fn is_here(host: &Host) -> bool {
    let release = host.text("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| matches!(line, "ID=fanblade" | "ID=\"fanblade\""))
}

pub(super) fn findings(host: &Host) -> Vec<Finding> {
    if !is_here(host) {
        return Vec::new();
    }
    vec![verity(host), command_line(host), watchdog(host), admin_side(host), journal(host)]
}

/// The device of `/` (proc_pid_mountinfo(5): the third field is its number, the fifth where it is mounted).
fn verity(host: &Host) -> Finding {
    let mounts = host.text("/proc/self/mountinfo").unwrap_or_default();
    let mut fields = mounts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let device =
        fields.find(|fields| fields.get(4) == Some(&"/")).and_then(|fields| fields.get(2).copied().map(str::to_owned));
    let uuid = device.and_then(|device| host.text(&format!("/sys/dev/block/{device}/dm/uuid"))).unwrap_or_default();
    if uuid.starts_with("CRYPT-VERITY") {
        return Finding::ok("root", "verified by dm-verity");
    }
    Finding::not_ok(
        State::Missing,
        "root",
        "not verified",
        "verified by dm-verity",
        "a changed or broken block of the program or its libraries is run",
        "start from the image's own boot entry; its command line has roothash=",
    )
}

fn command_line(host: &Host) -> Finding {
    let line = host.text("/proc/cmdline").unwrap_or_default();
    let is_there = |wanted: &&&str| line.split_whitespace().any(|word| word.starts_with(**wanted));
    let lacking: Vec<&str> = COMMAND_LINE.iter().filter(|wanted| !is_there(wanted)).copied().collect();
    if lacking.is_empty() {
        return Finding::ok("command line", COMMAND_LINE.join(" "));
    }
    Finding::not_ok(
        State::Warn,
        "command line",
        format!("lacks {}", lacking.join(" ")),
        COMMAND_LINE.join(" "),
        "a kernel that cannot go on stands still, where it should start again; or a changed disk is not noticed",
        "start from the image's own boot entry, without changes to its command line",
    )
}

fn watchdog(host: &Host) -> Finding {
    let state = |name: &String| host.text(&format!("/sys/class/watchdog/{name}/state")).unwrap_or_default();
    let devices = host.names("/sys/class/watchdog");
    let identity = |name: &String| host.text(&format!("/sys/class/watchdog/{name}/identity")).unwrap_or_default();
    if let Some(active) = devices.iter().find(|name| state(name) == "active") {
        return Finding::ok("watchdog", format!("{active} ({}) in use", identity(active)));
    }
    let (found, fix) = match devices.first() {
        Some(device) => (
            format!("{device} ({}) is not in use", identity(device)),
            "RuntimeWatchdogSec= of /etc/systemd/system.conf.d must not be 0; systemctl daemon-reexec",
        ),
        None => ("no device".to_owned(), "switch the watchdog on in the machine's firmware, or load its driver"),
    };
    let cost = "a machine that stands still stays so until someone comes";
    Finding::not_ok(State::Warn, "watchdog", found, "in use by systemd", cost, fix)
}

fn admin_side(host: &Host) -> Finding {
    let found = match host.tool("nft", &["list", "chain", "inet", "fanblade", "admin"]) {
        Ok(chain) if chain.contains("drop") => return Finding::ok("admin side", "nftables keeps strangers out"),
        Ok(_) => "the chain drops nothing".to_owned(),
        Err(reason) => format!("no chain `inet fanblade admin`: {reason}"),
    };
    Finding::not_ok(
        State::Missing,
        "admin side",
        found,
        "closed to all but private networks",
        "the admin port has no password: anybody who reaches it sees the blade's state",
        "systemctl restart nftables; journalctl -u nftables says why it failed",
    )
}

fn journal(host: &Host) -> Finding {
    let text = host.tool("systemd-analyze", &["cat-config", "systemd/journald.conf"]).unwrap_or_default();
    // The last one counts; an empty one is the default again.
    let limit = text.lines().rev().find_map(|line| line.trim().strip_prefix("SystemMaxUse=")).unwrap_or_default();
    if !limit.is_empty() {
        return Finding::ok("journal", format!("{limit} at most"));
    }
    Finding::not_ok(
        State::Warn,
        "journal",
        "no limit of its own",
        "SystemMaxUse= in journald.conf",
        "the journal fills a tenth of the state partition, which holds the configuration too",
        "remove what empties SystemMaxUse= in /etc/systemd/journald.conf.d",
    )
}

/// How options of the kernel's command line begin that every boot must have.
const COMMAND_LINE: [&str; 4] =
    ["roothash=", "systemd.verity_root_options=panic-on-corruption", "panic=", "oops=panic"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tune::recorded::Tree;

    fn blade() -> Tree {
        let tree = Tree::new(4);
        tree.put("/etc/os-release", "NAME=Fanblade\nID=fanblade");
        tree.put(
            "/proc/self/mountinfo",
            "25 1 254:0 / / ro,relatime shared:1 - erofs /dev/mapper/root ro\n26 25 8:3 / /var rw - ext4 x rw",
        );
        tree.put("/sys/dev/block/254:0/dm/uuid", "CRYPT-VERITY-0123-root");
        tree.put("/proc/cmdline", "roothash=ab systemd.verity_root_options=panic-on-corruption ro panic=5 oops=panic");
        tree.put("/sys/class/watchdog/watchdog0/state", "active");
        tree.put("/sys/class/watchdog/watchdog0/identity", "i6300ESB timer");
        tree.says("nft list chain inet fanblade admin", "chain admin { counter packets 0 bytes 0 drop }");
        tree.says("systemd-analyze cat-config systemd/journald.conf", "#SystemMaxUse=\n[Journal]\nSystemMaxUse=64M");
        tree
    }

    fn states(tree: &Tree) -> Vec<(String, State)> {
        findings(&tree.host()).into_iter().map(|finding| (finding.check, finding.state)).collect()
    }

    #[test]
    fn a_blade_as_it_should_be_and_another_machine_give_no_warning() {
        let tree = blade();
        assert!(
            findings(&tree.host()).iter().all(|finding| finding.state == State::Ok),
            "{:?}",
            findings(&tree.host())
        );
        assert_eq!(findings(&tree.host()).len(), 5);
        tree.put("/etc/os-release", "ID=debian");
        assert_eq!(states(&tree), []);
    }

    #[test]
    fn each_broken_promise_is_named() {
        let broken = |spoil: fn(&Tree), check: &str, state, words: &str| {
            let tree = blade();
            spoil(&tree);
            let bad: Vec<Finding> =
                findings(&tree.host()).into_iter().filter(|finding| finding.state != State::Ok).collect();
            assert_eq!((bad.len(), bad[0].check.as_str(), bad[0].state), (1, check, state), "{bad:?}");
            assert!(bad[0].found.contains(words) && !bad[0].cost.is_empty() && !bad[0].fix.is_empty(), "{bad:?}");
        };
        broken(|tree| tree.put("/sys/dev/block/254:0/dm/uuid", "LVM-1"), "root", State::Missing, "not verified");
        broken(|tree| tree.remove("/proc/self/mountinfo"), "root", State::Missing, "not verified");
        broken(
            |tree| tree.put("/proc/cmdline", "roothash=ab panic=5 oops=panic"),
            "command line",
            State::Warn,
            "lacks systemd.verity",
        );
        broken(
            |tree| tree.put("/sys/class/watchdog/watchdog0/state", "inactive"),
            "watchdog",
            State::Warn,
            "i6300ESB timer",
        );
        broken(|tree| tree.remove("/sys/class/watchdog"), "watchdog", State::Warn, "no device");
        broken(
            |tree| tree.says("nft list chain inet fanblade admin", "chain admin { }"),
            "admin side",
            State::Missing,
            "drops nothing",
        );
        broken(
            |tree| tree.remove("/programs/nft list chain inet fanblade admin"),
            "admin side",
            State::Missing,
            "no chain",
        );
        let empty = |tree: &Tree| {
            tree.says("systemd-analyze cat-config systemd/journald.conf", "SystemMaxUse=64M\nSystemMaxUse=");
        };
        broken(empty, "journal", State::Warn, "no limit");
    }
}
