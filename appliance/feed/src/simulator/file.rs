//! A simulated day as a file.

use std::io::{self, Write};

use super::{Simulator, SimulatorConfig};
use crate::moldudp64::Packet;

/// Writes the first so many messages of a day as a BinaryFILE, with the mark that ends it; fewer if the day ends
/// before. Returns how many there are.
///
/// # Errors
/// The settings are out of bounds (`InvalidInput`), or what `out` has to say.
pub fn write_binaryfile(config: &SimulatorConfig, messages: u64, mut out: impl Write) -> io::Result<u64> {
    let mut simulator = Simulator::new(config).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut written = 0;
    while written < messages && simulator.advance().is_some() {
        let packet = Packet::parse(simulator.packet()).map_err(io::Error::other)?;
        for message in packet.messages() {
            let (_, _, bytes) = message.map_err(io::Error::other)?;
            if written < messages {
                let len = u16::try_from(bytes.len()).map_err(io::Error::other)?;
                out.write_all(&len.to_be_bytes())?;
                out.write_all(bytes)?;
                written += 1;
            }
        }
    }
    out.write_all(&[0, 0])?;
    out.flush()?;
    Ok(written)
}
