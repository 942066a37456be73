//! The blade.
fn main() {}
