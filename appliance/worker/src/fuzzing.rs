//! Parsers of what clients send, for fuzzing (`appliance/fuzz`) and for nothing else.

use crate::address;
use crate::protocol::{self, Refusal};

/// Reads a request.
///
/// # Errors
/// The reply that refuses it.
pub fn request(text: &str) -> Result<(), String> {
    protocol::parse(text).map(drop).map_err(|refusal| reply(&refusal))
}

/// Reads the query of an address; none where it asks for nothing.
///
/// # Errors
/// The reply that refuses it.
#[must_use]
pub fn query(query: &str) -> Option<Result<(), String>> {
    address::subscription(query).map(|asked| asked.map(drop).map_err(|refusal| reply(&refusal)))
}

fn reply(refusal: &Refusal) -> String {
    let mut out = String::new();
    refusal.write(&mut out);
    out
}
