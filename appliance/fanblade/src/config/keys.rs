//! The keys of a configuration file and their values, to tell what has changed when it is read again.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// Each key in full (`data.listen`), with its value: the file's, or the default where the example has one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Keys(BTreeMap<String, Value>);

impl Keys {
    /// The keys of files that have been checked; of a key that several have, the last one's value.
    pub(super) fn of(sources: &[&str]) -> Keys {
        let mut keys = BTreeMap::new();
        // What they leave out has its default, so that writing a default down changes nothing.
        for text in [&EXAMPLE].into_iter().chain(sources) {
            flatten("", text.parse().unwrap_or_default(), &mut keys);
        }
        Keys(keys)
    }

    /// The keys whose values differ, in order.
    pub(crate) fn changed(&self, other: &Keys) -> Vec<String> {
        let mut names: Vec<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect()
    }
}

/// Whether a running blade takes a new value of this key.
pub(crate) fn is_live(key: &str) -> bool {
    LIVE.contains(&key)
}

fn flatten(prefix: &str, table: Table, keys: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            Value::Table(table) => flatten(&format!("{key}."), table, keys),
            value => {
                keys.insert(key, value);
            }
        }
    }
}

/// The keys that take effect at a reload: the log's level, and what `Limits::taking` takes.
const LIVE: [&str; 10] = [
    "log.level",
    "limits.filters_max",
    "limits.requests_per_s_max",
    "limits.pieces_per_s_max",
    "limits.handshake_ms_max",
    "limits.ping_interval_ms",
    "limits.pong_ms_max",
    "limits.lag_ms_max",
    "limits.half_closed_ms_max",
    "limits.held_bytes_max",
];

/// It has every key that has a default, with that default; a test of the configuration holds it to that.
const EXAMPLE: &str = include_str!("../../../../docs/fanblade.example.toml");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_named_and_a_default_written_down_is_no_change() {
        let changed = |before: &str, after: &str| Keys::of(&[before]).changed(&Keys::of(&[after]));
        assert!(changed("", "[data]\nlisten = \"127.0.0.1:7400\"\nbacklog = 65535\n").is_empty());
        let (before, after) =
            ("[limits]\nlag_ms_max = 1000\n", "[data]\nlisten = \"[::]:7400\"\n[log]\nlevel = \"debug\"\n");
        assert_eq!(changed(before, after), ["data.listen", "limits.lag_ms_max", "log.level"]);
        assert_eq!(changed(after, before), changed(before, after));
        let batched = "[[batching]]\nsubjects = \"/a/*\"\nms_max = 50\n";
        assert_eq!(changed("", batched), ["batching"]);
        assert!(changed(batched, batched).is_empty());
    }

    #[test]
    fn live_limits_are_those_that_workers_take() {
        use crate::config::Config;
        let defaults = fanblade_worker::Limits::default();
        let mut lines = String::new();
        for key in LIVE.iter().filter_map(|key| key.strip_prefix("limits.")) {
            lines += &format!("{key} = {}\n", if key == "held_bytes_max" { 1 << 20 } else { 4_321 });
        }
        let config = Config::parse(std::path::Path::new("f"), &format!("[limits]\n{lines}")).unwrap();
        let limits = config.settings().limits;
        assert_eq!(defaults.taking(&limits), limits, "each key that is called live is taken");
        let taken =
            defaults.taking(&fanblade_worker::Limits { sessions_max: 1, subscriptions_max: 1, ..defaults.clone() });
        assert_eq!(taken, defaults, "others are not");
    }
}
