//! What the kernel's verifier wants to see.

use core::arch::asm;

/// Returns the value, but the compiler forgets what it knows of it: the verifier wants to see the value compared.
#[inline(always)]
pub fn forgotten(value: u64) -> u64 {
    let mut value = value;
    // SAFETY: a register is copied to itself.
    unsafe { asm!("{0} = {0}", inout(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}
