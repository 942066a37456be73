//! What clients have to send.

/// What is owed to a client that has sent a ping: a pong with the same bytes.
pub struct Pong {
    /// Who sends it.
    pub client: u32,
    /// What the ping held.
    pub payload: Vec<u8>,
}

/// What a client says by itself, in frames.
pub struct Speech {
    /// Who sends it.
    pub client: u32,
    /// Masked, ready to be sent.
    pub frames: Vec<u8>,
}
