//! `fanblade`: the program.

fn main() -> std::process::ExitCode {
    fanblade::main()
}
