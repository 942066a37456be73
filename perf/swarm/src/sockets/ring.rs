//! One io_uring with a table of direct descriptors: sockets are made, connected, read and closed in the ring, and have
//! no file descriptors.

#![expect(unsafe_code, reason = "io_uring's requests hold raw pointers")]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::Context as _;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{DestinationSlot, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode};
use nix::sys::socket::{SockaddrIn, SockaddrLike as _};

use crate::buffers::{Buffers, GROUP};

/// The size of a table that every limit of descriptors from 16,384 on permits. A lower limit makes smaller tables.
pub const SLOTS_MAX: u32 = 16_384;
const SUBMISSIONS: u32 = 256;
/// The queue is emptied after every twenty receives or so.
const COMPLETIONS: u32 = 2_048;

/// An io_uring with a table of sockets, its slots.
pub struct Ring {
    // Declared before the buffers, so that it is dropped first.
    uring: IoUring,
    buffers: Buffers,
}

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The making of a socket.
    Socket,
    /// A socket option.
    Option,
    /// The binding to a source address.
    Bind,
    /// The TCP handshake.
    Connect,
    /// The sending of the upgrade request.
    Request,
    /// Something that the client says itself.
    Speech,
    /// A pong, or whatever else a client says later on.
    Pong,
    /// A receive.
    Receive,
    /// The cancelling of a receive.
    Cancel,
    /// A close.
    Close,
    /// An accept of the bare server.
    Accept,
}

const KINDS: [Kind; 11] = [
    Kind::Socket,
    Kind::Option,
    Kind::Bind,
    Kind::Connect,
    Kind::Request,
    Kind::Speech,
    Kind::Pong,
    Kind::Receive,
    Kind::Cancel,
    Kind::Close,
    Kind::Accept,
];

/// A completion.
#[derive(Clone, Copy)]
pub struct Done {
    /// What the request was for.
    pub kind: Kind,
    /// The socket.
    pub slot: u32,
    /// The value that the request was given besides its slot.
    pub with: u32,
    /// Bytes, or 0.
    pub len: usize,
    /// 0, or why it failed.
    pub errno: i32,
    /// The buffer that was received into.
    pub buffer: Option<u16>,
    /// Further completions of the same request follow.
    pub is_more_to_come: bool,
}

impl Ring {
    /// A ring with this many slots. Must be called in the thread that will use it.
    pub fn new(slots: u32) -> anyhow::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_cqsize(COMPLETIONS);
        let uring = builder.build(SUBMISSIONS).context("cannot make an io_uring (the swarm needs Linux 6.11)")?;
        uring.submitter().register_files_sparse(slots).context("cannot register a table of direct descriptors")?;
        let buffers = Buffers::new(&uring)?;
        Ok(Ring { uring, buffers })
    }

    /// User memory of a ring: its queues, which are mapped, and its buffers.
    pub(crate) const fn bytes() -> usize {
        SUBMISSIONS as usize * (size_of::<Entry>() + size_of::<u32>())
            + COMPLETIONS as usize * size_of::<cqueue::Entry>()
            + Buffers::bytes()
    }

    /// Makes a socket in a slot, connects it, sends a request and begins to receive. A step that fails ends the chain,
    /// and only such a step completes before something is received. Without a request, the connecting completes.
    pub(crate) fn connect(&mut self, slot: u32, dial: &Dial<'_>) -> anyhow::Result<()> {
        let socket = Fixed(slot);
        let source = dial.source.map(|source| SockaddrIn::from(SocketAddrV4::new(source, 0)));
        let addr = SockaddrIn::from(dial.addr);
        let place = DestinationSlot::try_from_slot_target(slot).ok().context("there is no such slot")?;
        let make = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).file_index(Some(place)).build();
        let mut chain = vec![(Kind::Socket, make)];
        let bind_no_port = source.is_some().then_some(&SocketOption::BIND_NO_PORT);
        for SocketOption { level, name, value } in bind_no_port.into_iter().chain(dial.options) {
            let (value, len): (*const i32, _) = (value, i32::BITS / 8);
            chain.push((Kind::Option, opcode::SetSockOpt::new(socket, *level, *name, value.cast(), len).build()));
        }
        if let Some(source) = &source {
            chain.push((Kind::Bind, opcode::Bind::new(socket, source.as_ptr(), source.len()).build()));
        }
        chain.push((Kind::Connect, opcode::Connect::new(socket, addr.as_ptr(), addr.len()).build()));
        if !dial.request.is_empty() {
            let (request, len) = (dial.request.as_ptr(), send_len(dial.request)?);
            chain.push((Kind::Request, opcode::Send::new(socket, request, len).flags(libc::MSG_NOSIGNAL).build()));
        }
        let tells = if dial.request.is_empty() { Kind::Connect } else { Kind::Receive };
        chain.push((Kind::Receive, if dial.keeps_receiving { receive(slot) } else { receive_once(slot, 0) }));
        // A chain ends where a submission does, so all of it must fit into one.
        let submissions = self.uring.submission();
        let has_room = submissions.capacity() - submissions.len() >= chain.len();
        drop(submissions);
        if !has_room {
            self.uring.submit()?;
        }
        let last = chain.len() - 1;
        for (at, (kind, entry)) in chain.into_iter().enumerate() {
            let silence = if kind == tells { Flags::empty() } else { Flags::SKIP_SUCCESS };
            // The last entry, which receives, has flags of its own.
            let entry = if at == last { entry } else { entry.flags(silence | Flags::IO_LINK) };
            self.push(entry, kind, slot, 0)?;
        }
        // The addresses are locals, which the kernel reads at submission.
        self.uring.submit()?;
        Ok(())
    }

    /// Receives from now on, as often as something comes.
    pub fn receive(&mut self, slot: u32) -> anyhow::Result<()> {
        self.push(receive(slot), Kind::Receive, slot, 0)
    }

    /// Receives once, at most `len` bytes; 0: as many as fit a buffer.
    pub(crate) fn receive_once(&mut self, slot: u32, len: u32) -> anyhow::Result<()> {
        self.push(receive_once(slot, len), Kind::Receive, slot, 0)
    }

    /// Accepts a connection into a slot.
    pub fn accept(&mut self, listener: &impl AsRawFd, slot: u32) -> anyhow::Result<()> {
        let place = DestinationSlot::try_from_slot_target(slot).ok().context("there is no such slot")?;
        let (address, len) = (std::ptr::null_mut(), std::ptr::null_mut());
        let entry = opcode::Accept::new(Fd(listener.as_raw_fd()), address, len).file_index(Some(place)).build();
        self.push(entry, Kind::Accept, slot, 0)
    }

    /// Sends `bytes`, which must stay where they are until it has completed.
    pub fn send(&mut self, kind: Kind, slot: u32, with: u32, bytes: &[u8]) -> anyhow::Result<()> {
        let entry = opcode::Send::new(Fixed(slot), bytes.as_ptr(), send_len(bytes)?).flags(libc::MSG_NOSIGNAL);
        self.push(entry.build(), kind, slot, with)
    }

    /// Cancels what is being received from a slot.
    pub(crate) fn cancel(&mut self, slot: u32) -> anyhow::Result<()> {
        self.push(opcode::AsyncCancel::new(user_data(Kind::Receive, slot, 0)).build(), Kind::Cancel, slot, 0)
    }

    /// Closes the socket in a slot.
    pub fn close(&mut self, slot: u32) -> anyhow::Result<()> {
        self.push(opcode::Close::new(Fixed(slot)).build(), Kind::Close, slot, 0)
    }

    /// Lets the kernel do its pending work, and appends what has completed.
    pub fn turn(&mut self, done: &mut Vec<Done>) -> anyhow::Result<()> {
        if self.has_requests_or_work() {
            self.uring.submit()?;
        }
        done.extend(self.uring.completion().filter_map(|completion| {
            let (data, result) = (completion.user_data(), completion.result());
            Some(Done {
                kind: KINDS.get((data >> 56) as usize).copied()?,
                slot: slot_of(data),
                with: (data >> 32) as u32 & WITH_MAX,
                len: usize::try_from(result).unwrap_or(0),
                errno: (-result).max(0),
                buffer: cqueue::buffer_select(completion.flags()),
                is_more_to_come: cqueue::more(completion.flags()),
            })
        }));
        Ok(())
    }

    /// Has the kernel write `eventfd` when something happens, while [`Self::notify`] says so. The caller keeps it open.
    pub fn tell(&mut self, eventfd: BorrowedFd<'_>) -> anyhow::Result<()> {
        self.uring
            .submitter()
            .register_eventfd(eventfd.as_raw_fd())
            .context("cannot register an eventfd with the ring")?;
        self.notify(false);
        Ok(())
    }

    /// Whether the eventfd is written. The ring's own descriptor would not do: it does not become readable by work that
    /// waits for us to run it.
    pub fn notify(&mut self, on: bool) {
        let completions = self.uring.completion();
        if on { completions.enable_eventfd() } else { completions.disable_eventfd() }
    }

    /// Whether [`Self::turn`] would find something to do.
    pub fn has_work(&mut self) -> bool {
        self.has_requests_or_work() || !self.uring.completion().is_empty()
    }

    fn has_requests_or_work(&mut self) -> bool {
        let submissions = self.uring.submission();
        !submissions.is_empty() || submissions.taskrun() || submissions.cq_overflow()
    }

    /// What has been received, until [`Self::give_back`].
    pub fn received(&self, buffer: u16, len: usize) -> &[u8] {
        self.buffers.filled(buffer, len)
    }

    /// Lets the kernel fill a buffer again.
    pub fn give_back(&mut self, buffer: u16) {
        self.buffers.provide(buffer);
    }

    fn push(&mut self, entry: Entry, kind: Kind, slot: u32, with: u32) -> anyhow::Result<()> {
        if self.uring.submission().is_full() {
            self.uring.submit()?;
        }
        // SAFETY: what the request points to stays where it is until it has completed, by the promises of our callers:
        // addresses and options until they are submitted (options are static), buffers for as long as the ring.
        unsafe { self.uring.submission().push(&entry.user_data(user_data(kind, slot, with))) }
            .ok()
            .context("the submission queue stays full")
    }
}

/// How to connect.
pub(crate) struct Dial<'a> {
    pub(crate) addr: SocketAddrV4,
    pub(crate) source: Option<Ipv4Addr>,
    pub(crate) options: &'static [SocketOption],
    /// The bytes must stay where they are until an answer comes or something fails.
    pub(crate) request: &'a [u8],
    /// Whether to receive whatever comes, or once only.
    pub(crate) keeps_receiving: bool,
}

fn receive(slot: u32) -> Entry {
    opcode::RecvMulti::new(Fixed(slot), GROUP).build()
}

fn receive_once(slot: u32, len: u32) -> Entry {
    let entry = opcode::Recv::new(Fixed(slot), std::ptr::null_mut(), len).buf_group(GROUP).build();
    entry.flags(Flags::BUFFER_SELECT)
}

/// An option of a socket that is an integer.
pub(crate) struct SocketOption {
    level: u32,
    name: u32,
    value: i32,
}

impl SocketOption {
    /// Chooses the port at connect, by the whole 4-tuple.
    const BIND_NO_PORT: SocketOption =
        SocketOption { level: libc::IPPROTO_IP as u32, name: libc::IP_BIND_ADDRESS_NO_PORT as u32, value: 1 };

    /// A small window, and segments several of which fit into it: a slow reader is behind at once, not after megabytes.
    pub(crate) const SMALL_WINDOW: &'static [SocketOption] = &[
        SocketOption { level: libc::SOL_SOCKET as u32, name: libc::SO_RCVBUF as u32, value: 4_096 },
        SocketOption { level: libc::IPPROTO_TCP as u32, name: libc::TCP_MAXSEG as u32, value: 536 },
    ];
}

const WITH_MAX: u32 = (1 << 24) - 1;

fn send_len(bytes: &[u8]) -> anyhow::Result<u32> {
    u32::try_from(bytes.len()).context("a send has less than 4 GiB")
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is the slot")]
fn slot_of(user_data: u64) -> u32 {
    user_data as u32
}

fn user_data(kind: Kind, slot: u32, with: u32) -> u64 {
    (kind as u64) << 56 | u64::from(with & WITH_MAX) << 32 | u64::from(slot)
}
