//! What a client sends, from bytes as they arrive to whole messages (RFC 6455 sections 5.4 to 6.2, 7.1 and 8.1).

use crate::close;
use crate::error::InboundError;
use crate::frame::{CLIENT_HEADER_LEN_MAX, ClientHeader, Opcode};
use crate::limits::InboundLimits;
use crate::mask;

/// The inbound half of one session: 8 bytes while no frame or message is half here, which is nearly always.
///
/// There are millions of these. Whatever is incomplete hangs off it in a box, and goes when it is complete; so does, of
/// the few that are about to go altogether, that they are finished.
#[derive(Debug, Default)]
pub struct Inbound {
    partial: Option<Box<Partial>>,
}

const _: () = assert!(size_of::<Inbound>() == 8 || size_of::<usize>() != 8);

/// What a client said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message of text.
    Text(&'a str),
    /// A message of bytes.
    Binary(&'a [u8]),
    /// A message longer than [`InboundLimits::message_len_max`], which was not kept. Whether it was UTF-8 is not known.
    TooLong {
        /// Was it text?
        is_text: bool,
        /// Bytes of its payload, over all fragments.
        len: u64,
    },
    /// The client wants a pong of the same payload. To answer the latest is enough (section 5.5.3).
    Ping(&'a [u8]),
    /// An answer to a ping of ours, or unsolicited.
    Pong(&'a [u8]),
    /// The client closes; nothing follows. Answer with a close frame, unless one was sent before (5.5.1).
    Close {
        /// `None` if the frame was empty (section 7.1.5 calls that 1005).
        code: Option<u16>,
        /// The reason in words, for people; often empty.
        reason: &'a str,
    },
}

/// What the receiver of an event wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on with the bytes that follow.
    Continue,
    /// Drop the bytes that follow, those of later calls too.
    Stop,
}

impl Inbound {
    /// A session whose handshake is done.
    pub fn new() -> Inbound {
        Inbound::default()
    }

    /// Takes the bytes that came next, unmasks them in place, and calls `sink` for each event that they complete.
    ///
    /// A frame that is whole in `bytes` is lent from there; only what is split between calls or fragments is copied.
    /// After a close frame, [`Flow::Stop`] or an error, all further bytes are dropped (section 1.4: after a close frame
    /// "a peer discards any further data received"). On an error the caller closes with its
    /// [`close_code`](InboundError::close_code).
    pub fn push(
        &mut self,
        bytes: &mut [u8],
        limits: &InboundLimits,
        sink: &mut dyn FnMut(Event<'_>) -> Flow,
    ) -> Result<(), InboundError> {
        if self.is_finished() {
            return Ok(());
        }
        let result = self.advance(bytes, limits, sink);
        if result != Ok(Flow::Continue) {
            *self.partial.get_or_insert_default().as_mut() = Partial { is_finished: true, ..Partial::default() };
        }
        result.map(drop)
    }

    /// Is everything further dropped? So it is after a close frame, [`Flow::Stop`] or an error.
    pub fn is_finished(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| partial.is_finished)
    }

    /// Memory that hangs off it, in bytes: what is half here.
    pub fn heap_bytes(&self) -> usize {
        let Some(partial) = &self.partial else { return 0 };
        let message = partial.message.as_ref().map_or(0, |message| message.payload.capacity());
        size_of::<Partial>() + partial.header_bytes.capacity() + partial.control.capacity() + message
    }

    fn advance(
        &mut self,
        mut bytes: &mut [u8],
        limits: &InboundLimits,
        sink: &mut dyn FnMut(Event<'_>) -> Flow,
    ) -> Result<Flow, InboundError> {
        while !bytes.is_empty() {
            let frame = match self.partial.as_ref().and_then(|partial| partial.frame) {
                Some(frame) => frame,
                None => match self.read_header(&mut bytes)? {
                    Some(header) => self.admit(header, limits)?,
                    None => break,
                },
            };
            let take = frame.remaining().min(bytes.len());
            let (payload, rest) = std::mem::take(&mut bytes).split_at_mut(take);
            bytes = rest;
            mask::apply(payload, frame.header.mask, frame.received);
            let frame = Frame { received: frame.received + take, ..frame };
            let flow = if frame.header.opcode.is_control() {
                self.control(frame, payload, sink)?
            } else {
                self.data(frame, payload, sink)?
            };
            if flow == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::Continue)
    }

    /// Takes one frame header off `bytes`; `None` if it is not whole yet, and then what there is of it is kept.
    fn read_header(&mut self, bytes: &mut &mut [u8]) -> Result<Option<ClientHeader>, InboundError> {
        let kept = self.partial.as_ref().map_or(&[][..], |partial| &partial.header_bytes);
        let header = if kept.is_empty() {
            ClientHeader::parse(bytes)?
        } else {
            // Rare: the header was split between calls. Join it, then count only what of it lies in `bytes`.
            let kept_len = kept.len();
            let wanted_len = bytes.len().min(CLIENT_HEADER_LEN_MAX - kept_len);
            let joined = [kept, bytes.get(..wanted_len).unwrap_or_default()].concat();
            ClientHeader::parse(&joined)?.map(|(header, header_len)| (header, header_len - kept_len))
        };
        let Some((header, taken)) = header else {
            self.partial.get_or_insert_default().header_bytes.extend_from_slice(bytes);
            return Ok(None);
        };
        if let Some(partial) = &mut self.partial {
            partial.header_bytes.clear();
        }
        *bytes = std::mem::take(bytes).get_mut(taken..).unwrap_or_default();
        Ok(Some(header))
    }

    /// Checks whether this frame may come now, before any of its payload is looked at.
    fn admit(&mut self, header: ClientHeader, limits: &InboundLimits) -> Result<Frame, InboundError> {
        // Section 5.5: control frames "can be interjected in the middle of a fragmented message".
        if !header.opcode.is_control() {
            let message = self.partial.as_mut().and_then(|partial| partial.message.as_mut());
            let message_len = match (&message, header.opcode) {
                (None, Opcode::Continuation) => return Err(InboundError::UnexpectedContinuation),
                (None, _) => 0,
                (Some(message), Opcode::Continuation) => message.len,
                // Section 5.4: "fragments of one message MUST NOT be interleaved between the fragments of another".
                (Some(_), _) => return Err(InboundError::ExpectedContinuation),
            };
            // Section 10.4 asks for limits on frame size and on the size of a message after reassembly. No memory is
            // reserved on the strength of a header: buffers grow with what arrived.
            let len = message_len.saturating_add(header.payload_len);
            let is_too_long = len > limits.message_len_max as u64;
            if is_too_long && len > limits.skipped_len_max {
                return Err(InboundError::TooBig);
            }
            if let Some(message) = message {
                message.fragments += 1;
                if message.fragments > limits.fragments_max {
                    return Err(InboundError::TooManyFragments);
                }
                message.len = len;
                if is_too_long {
                    message.skip();
                }
            } else if is_too_long {
                let message = self.partial.get_or_insert_default().message.insert(Message::new(header));
                message.skip();
            }
        }
        Ok(Frame { header, received: 0 })
    }

    /// Payload of a text, binary or continuation frame.
    fn data(
        &mut self,
        frame: Frame,
        payload: &[u8],
        sink: &mut dyn FnMut(Event<'_>) -> Flow,
    ) -> Result<Flow, InboundError> {
        let is_last = frame.is_whole() && frame.header.is_final;
        let has_begun = self.partial.as_ref().is_some_and(|partial| partial.message.is_some());
        if is_last && !has_begun {
            self.partial = None;
            return deliver(frame.header.opcode, payload, sink);
        }
        let partial = self.partial.get_or_insert_default();
        let message = partial.message.get_or_insert_with(|| Message::new(frame.header));
        message.append(payload)?;
        partial.frame = (!frame.is_whole()).then_some(frame);
        if !is_last {
            return Ok(Flow::Continue);
        }
        match self.partial.take().and_then(|partial| partial.message) {
            Some(Message { opcode, len, is_skipped: true, .. }) => {
                Ok(sink(Event::TooLong { is_text: opcode == Opcode::Text, len }))
            }
            Some(message) => deliver(message.opcode, &message.payload, sink),
            None => Ok(Flow::Continue),
        }
    }

    /// Payload of a close, ping or pong frame.
    fn control(
        &mut self,
        frame: Frame,
        payload: &[u8],
        sink: &mut dyn FnMut(Event<'_>) -> Flow,
    ) -> Result<Flow, InboundError> {
        let is_split = frame.received != payload.len();
        if is_split || !frame.is_whole() {
            let partial = self.partial.get_or_insert_default();
            partial.control.extend_from_slice(payload);
            partial.frame = Some(frame);
            if !frame.is_whole() {
                return Ok(Flow::Continue);
            }
        }
        // The frame is whole: drop what was kept of it, and everything else if no message is under way.
        let control = match &mut self.partial {
            Some(partial) => {
                partial.frame = None;
                std::mem::take(&mut partial.control)
            }
            None => Vec::new(),
        };
        self.partial.take_if(|partial| partial.message.is_none());
        deliver(frame.header.opcode, if is_split { &control } else { payload }, sink)
    }
}

fn deliver(opcode: Opcode, payload: &[u8], sink: &mut dyn FnMut(Event<'_>) -> Flow) -> Result<Flow, InboundError> {
    match opcode {
        Opcode::Text => match simdutf8::basic::from_utf8(payload) {
            Ok(text) => Ok(sink(Event::Text(text))),
            // Section 8.1: "MUST _Fail the WebSocket Connection_".
            Err(_) => Err(InboundError::InvalidUtf8),
        },
        Opcode::Binary => Ok(sink(Event::Binary(payload))),
        Opcode::Ping => Ok(sink(Event::Ping(payload))),
        Opcode::Pong => Ok(sink(Event::Pong(payload))),
        Opcode::Close => {
            let event = close_event(payload)?;
            sink(event);
            Ok(Flow::Stop)
        }
        Opcode::Continuation => Err(InboundError::UnexpectedContinuation),
    }
}

/// Section 5.5.1: empty, or a two-byte code and then a reason in UTF-8.
fn close_event(payload: &[u8]) -> Result<Event<'_>, InboundError> {
    if payload.is_empty() {
        return Ok(Event::Close { code: None, reason: "" });
    }
    let (code, reason) = payload.split_first_chunk().ok_or(InboundError::CloseLength)?;
    let code = u16::from_be_bytes(*code);
    if !close::is_valid(code) {
        return Err(InboundError::CloseCode(code));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| InboundError::CloseReason)?;
    Ok(Event::Close { code: Some(code), reason })
}

/// What has come in part.
#[derive(Debug, Default)]
struct Partial {
    /// Nothing further is taken, and everything else here is empty.
    is_finished: bool,
    /// The first bytes of a frame header.
    header_bytes: Vec<u8>,
    /// The frame whose header has come whole, and whose payload has not.
    frame: Option<Frame>,
    /// What has come of a control frame's payload.
    control: Vec<u8>,
    /// The message whose final frame has not come whole.
    message: Option<Message>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    header: ClientHeader,
    received: usize,
}

impl Frame {
    fn remaining(&self) -> usize {
        // Admitted frames fit a message of `usize` bytes.
        usize::try_from(self.header.payload_len).unwrap_or(usize::MAX) - self.received
    }

    fn is_whole(&self) -> bool {
        self.remaining() == 0
    }
}

#[derive(Debug)]
struct Message {
    opcode: Opcode,
    fragments: u32,
    /// Payload bytes that the headers so far have announced.
    len: u64,
    /// It is longer than is kept, and what comes of it is dropped.
    is_skipped: bool,
    payload: Vec<u8>,
    /// Bytes of text that are whole characters and known to be valid.
    valid_len: usize,
}

impl Message {
    /// A message that begins with this frame.
    fn new(header: ClientHeader) -> Message {
        let ClientHeader { opcode, payload_len: len, .. } = header;
        Message { opcode, fragments: 1, len, is_skipped: false, payload: Vec::new(), valid_len: 0 }
    }

    /// Keeps nothing of it from here on.
    fn skip(&mut self) {
        self.is_skipped = true;
        self.payload = Vec::new();
    }

    /// Appends, and fails as soon as text cannot become valid UTF-8 any more, not only when it is whole.
    fn append(&mut self, payload: &[u8]) -> Result<(), InboundError> {
        if self.is_skipped {
            return Ok(());
        }
        self.payload.extend_from_slice(payload);
        if self.opcode == Opcode::Text {
            let fresh = self.payload.get(self.valid_len..).unwrap_or_default();
            self.valid_len += match simdutf8::compat::from_utf8(fresh) {
                Ok(text) => text.len(),
                // It may end amid a character: at most three bytes, looked at again next time.
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Err(_) => return Err(InboundError::InvalidUtf8),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
