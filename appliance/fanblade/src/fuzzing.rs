//! The configuration parser for the fuzzer (`appliance/fuzz`), and for nothing else.

use std::path::Path;

use crate::config::Config;

/// Reads a configuration as if it stood in a file.
///
/// # Errors
/// What is wrong with the configuration, in the words that a user would see.
pub fn config(text: &str) -> Result<(), String> {
    Config::parse(Path::new("fuzzed.toml"), text).map(drop).map_err(|error| error.to_string())
}
