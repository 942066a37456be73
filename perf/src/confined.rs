//! A measured worker is confined as in the blade.

use fanblade_net::Engine;

/// Confines the calling thread, which serves with `engine`. Where the kernel does not take the filter (nor does
/// valgrind), the thread goes on without it, as in the blade.
pub(crate) fn confine(engine: &dyn Engine) {
    if let Err(error) = fanblade_sandbox::confine(engine.may_make_rings()) {
        eprintln!("the worker goes on without a sandbox: {error}");
    }
}
