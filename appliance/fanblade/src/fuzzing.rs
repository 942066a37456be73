//! The parser of what people write, for fuzzing (`appliance/fuzz`) and for nothing else.

use std::path::Path;

use crate::config::Config;

/// Reads a configuration as if it stood in a file.
///
/// # Errors
/// What is wrong, as it is told.
pub fn config(text: &str) -> Result<(), String> {
    Config::parse(Path::new("fuzzed.toml"), text).map(drop).map_err(|error| error.to_string())
}
