//! Connections that are being opened: only a limited number at a time needs memory for what is sent and received.

use std::io;
use std::time::Instant;

use fanblade_wire::client::{KEY, ResponseError, read_response};

use super::ring::Kind;

pub(super) struct Openings {
    all: Vec<Opening>,
    free: Vec<u16>,
    most: u16,
}

/// A connection that is being opened.
pub(super) struct Opening {
    pub(super) begun: Instant,
    /// What is being sent.
    pub(super) out: Vec<u8>,
    /// The answer to the upgrade, so far.
    pub(super) head: Vec<u8>,
}

impl Openings {
    pub(super) fn new(most: u16) -> Openings {
        Openings { all: Vec::new(), free: Vec::new(), most }
    }

    /// Begins an opening, or returns none while there are as many as there may be.
    pub(super) fn begin(&mut self) -> Option<u16> {
        let number = if let Some(number) = self.free.pop() {
            number
        } else {
            let number = u16::try_from(self.all.len()).ok().filter(|number| *number < self.most)?;
            self.all.push(Opening { begun: Instant::now(), out: Vec::new(), head: Vec::new() });
            number
        };
        let it = &mut self.all[usize::from(number)];
        it.begun = Instant::now();
        it.out.clear();
        it.head.clear();
        Some(number)
    }

    pub(super) fn at(&mut self, number: u16) -> &mut Opening {
        &mut self.all[usize::from(number)]
    }

    /// Ends an opening. After the last one, the memory of all is given back.
    pub(super) fn end(&mut self, number: u16) {
        self.free.push(number);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.all.len()
    }

    /// Gives the openings' memory back, once all have ended.
    pub(super) fn clear(&mut self) {
        *self = Openings::new(self.most);
    }
}

impl Opening {
    /// Length of the head, once it is whole and acceptable to a client.
    pub(super) fn head_len(&self) -> Result<Option<usize>, ResponseError> {
        Ok(read_response(&self.head, KEY)?.map(|response| response.head_len))
    }
}

/// What a failed step means.
pub(super) fn failure(kind: Kind, errno: i32) -> String {
    let what = match kind {
        Kind::Socket => "making a socket",
        Kind::Option => "setting an option (the swarm needs Linux 6.11)",
        Kind::Bind => "binding to its source address (the swarm needs Linux 6.11)",
        Kind::Connect => "connecting",
        Kind::Request => "sending its upgrade request",
        _ => "waiting for the answer to its upgrade",
    };
    let why = match errno {
        0 => "the server has closed the connection".to_owned(),
        errno => io::Error::from_raw_os_error(errno).to_string(),
    };
    format!("{what}: {why}")
}
