//! Parsers of what people and their programs write, for fuzzing (`appliance/fuzz`) and for nothing else.

use std::path::Path;

use crate::config::Config;
use crate::upstream::publisher::json;

/// Reads a configuration as if it stood in a file.
///
/// # Errors
/// What is wrong, as it is told.
pub fn config(text: &str) -> Result<(), String> {
    Config::parse(Path::new("fuzzed.toml"), text).map(drop).map_err(|error| error.to_string())
}

/// Takes a publisher's text message apart, each record to its fields.
///
/// # Errors
/// What is wrong, as it is told.
pub fn publisher_text(text: &str) -> Result<usize, String> {
    let mut records = 0;
    for (offset, element) in json::elements(text).map_err(|fault| fault.to_string())? {
        let entry = json::entry(element, offset).map_err(|fault| fault.to_string())?;
        entry.ts_ns().map_err(|()| "no time".to_owned())?;
        if let Some(value) = entry.d {
            json::check(value.get().as_bytes(), &mut String::new()).map_err(|fault| fault.to_string())?;
        }
        records += 1;
    }
    Ok(records)
}
