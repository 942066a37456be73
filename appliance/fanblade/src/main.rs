//! `fanblade`: the program.

use fanblade_worker::allocator::{self, Allocator};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> std::process::ExitCode {
    allocator::give_back_at_once();
    fanblade::main()
}
