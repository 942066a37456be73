//! `fanblade`: the program.

/// Its threads share no lock: glibc's arenas have one each, and a thread that stands still with it (a debugger, a page
/// that does not come, a scheduler that has no time for it) would stop every other that allocates or frees there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    fanblade::main()
}
