//! What a driver or the kernel refused when `fanblade tune` last ran: `fanblade doctor` does not ask for it again.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::apply::State;
use super::host::Host;
use super::items::Item;

/// By an item's name and goal: the reason.
pub(crate) type Refusals = BTreeMap<(String, String), String>;

/// Replaces what was kept. What this user may not do is no refusal of the machine's.
pub(super) fn keep(host: &Host, items: &[(Item, State)]) -> io::Result<()> {
    let line = |(item, state): &(Item, State)| match state {
        State::Refused { reason, is_permission: false, .. } => {
            Some(format!("{}\t{}\t{}\n", item.name, item.goal, reason.replace(['\n', '\t'], " ")))
        }
        _ => None,
    };
    let file = host.path(FILE);
    file.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(file, items.iter().filter_map(line).collect::<String>())
}

pub(super) fn read(host: &Host) -> Refusals {
    let text = host.text(FILE).unwrap_or_default();
    let line = |line: &str| {
        let mut fields = line.splitn(3, '\t').map(str::to_owned);
        Some(((fields.next()?, fields.next()?), fields.next()?))
    };
    text.lines().filter_map(line).collect()
}

/// Gone when the machine is started again, as what was set.
const FILE: &str = "/run/fanblade-tune/refused";
