//! Whether the machine's time is synchronised, as the kernel was told by whoever sets it (adjtimex(2)).
#![expect(unsafe_code, reason = "nix has no adjtimex")]

use nix::libc;

use super::finding::{Finding, State};
use crate::commands::tune::Host;

pub(super) fn finding(host: &Host) -> Finding {
    let names = host.names("/sys/class/ptp").into_iter().map(|clock| {
        let name = host.text(&format!("/sys/class/ptp/{clock}/clock_name")).unwrap_or_default();
        format!("{clock} ({name})")
    });
    let clocks: Vec<String> = names.collect();
    let clocks = if clocks.is_empty() { "none".to_owned() } else { clocks.join(", ") };
    judge(status(), &clocks)
}

/// `clocks`: the PTP hardware clocks.
fn judge(status: Option<i32>, clocks: &str) -> Finding {
    let is_synchronised = status.is_some_and(|status| status & libc::STA_UNSYNC == 0);
    if is_synchronised {
        return Finding::ok("time", format!("synchronised; PTP hardware clocks: {clocks}"));
    }
    Finding::not_ok(
        State::Warn,
        "time",
        format!("not synchronised; PTP hardware clocks: {clocks}"),
        "synchronised by NTP or PTP",
        "timestamps in frames are off, and latencies from the exchange's clock mean nothing",
        "chronyc sources -v says which servers answer; name one in /var/lib/chrony/sources/NAME.sources",
    )
}

/// `status` of struct timex; None: the kernel does not say.
fn status() -> Option<i32> {
    // SAFETY: all of its fields are numbers, for which zero is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a timex of our own; with `modes` 0 the kernel only fills it.
    (unsafe { libc::adjtimex(&raw mut timex) } != -1).then_some(timex.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_nobody_sets_is_told() {
        assert_eq!(judge(Some(libc::STA_PLL), "none").state, State::Ok);
        for status in [Some(libc::STA_UNSYNC | libc::STA_PLL), None] {
            let finding = judge(status, "ptp0 (ice)");
            assert_eq!(finding.state, State::Warn);
            assert!(finding.found.contains("ptp0 (ice)"), "{finding:?}");
        }
        assert!(status().is_some(), "the kernel says how its clock is set");
    }
}
