//! Looks up a name where there is no runtime.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// All addresses of HOST:PORT, for callers that may block, but not for ever.
///
/// # Errors
/// The name has no address, or the name servers do not answer in time.
pub fn look_up(name: &str, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let (tell, told) = mpsc::sync_channel(1);
    let asked = name.to_owned();
    // The thread cannot be stopped; it ends when the resolver gives up.
    std::thread::Builder::new().name("look-up".to_owned()).spawn(move || {
        let _ = tell.send(asked.to_socket_addrs().map(Iterator::collect));
    })?;
    match told.recv_timeout(limit) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout) => {
            let words = format!("no answer from name servers within {} ms", limit.as_millis());
            Err(io::Error::new(io::ErrorKind::TimedOut, words))
        }
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the look-up has ended without an answer")),
    }
}

/// A name server that answers at all answers within this time.
pub const LOOK_UP_MAX: Duration = Duration::from_secs(10);
