//! libFuzzer over the target that `FANBLADE_FUZZ_TARGET` names. `cargo xtask fuzz` builds and runs it.
#![no_main]
#![expect(unsafe_code, reason = "libFuzzer's entry points are C functions")]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FANBLADE_FUZZ_TARGET").unwrap_or_default();
    fanblade_fuzz::target(&name).unwrap_or_else(|| panic!("FANBLADE_FUZZ_TARGET: there is no target `{name}`")).run
});

fuzz_target!(|bytes: &[u8]| (*RUN)(bytes));
