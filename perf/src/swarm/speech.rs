//! What clients have to send.

/// What is owed to a client that has sent a ping: a pong with the same bytes.
pub(crate) struct Pong {
    pub(crate) client: u32,
    pub(crate) payload: Vec<u8>,
}

/// What a client says by itself, in frames.
pub(crate) struct Speech {
    pub(crate) client: u32,
    pub(crate) frames: Vec<u8>,
}
