//! When the kernel received each packet, and when the sequencer published what was in it.

use std::fs::{self, File};
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, ensure};
use fanblade_feed::moldudp64::{Kind, Packet};
use fanblade_net::datagram::{self, Batch, DatagramOptions, DatagramSocket, Membership};
use fanblade_ring::Reader;

/// A second receiver of the group. The kernel stamps a packet once, and gives both the same stamp.
pub(super) struct Kernel {
    socket: DatagramSocket,
    batch: Batch,
    /// The time of the message with number n is at index n - 1; 0: not seen.
    pub(super) times: Vec<u64>,
}

impl Kernel {
    pub(super) fn join(group: SocketAddrV4, messages: u64) -> anyhow::Result<Kernel> {
        let membership = Membership { group: group.into(), interface: Some("lo".to_owned()), source: None };
        let options = DatagramOptions { receive_buffer_bytes: RECEIVE_BUFFER_BYTES, busy_poll_us: None };
        let socket = datagram::join(&membership, &options)?;
        Ok(Kernel { socket, batch: Batch::new(), times: vec![0; usize::try_from(messages)?] })
    }

    /// Takes the packets that have come.
    pub(super) fn take(&mut self) -> anyhow::Result<()> {
        let Kernel { socket, batch, times } = self;
        socket.receive(batch, |packet| {
            if let (Ok(parsed), Some(ns)) = (Packet::parse(packet.bytes), packet.received_ns)
                && parsed.kind() == Kind::Messages(1)
                && let Some(place) = place(parsed.sequence()).and_then(|place| times.get_mut(place))
            {
                *place = ns;
            }
        })?;
        Ok(())
    }
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The ring of a blade, which records when the blade got each message.
pub(super) struct Ring(Reader);

impl Ring {
    pub(super) fn of(pid: u32) -> anyhow::Result<Ring> {
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let path = entry?.path();
            // Other descriptors come and go meanwhile.
            let is_ring = |target: std::path::PathBuf| target.to_string_lossy().starts_with("/memfd:fanblade-ring");
            if fs::read_link(&path).is_ok_and(is_ring) {
                let file = File::open(&path).with_context(|| format!("cannot open the ring of process {pid}"))?;
                return Ok(Ring(Reader::open(file.as_fd())?));
            }
        }
        anyhow::bail!("process {pid} has no ring")
    }

    /// The time of the message with number n is at index n - 1.
    pub(super) fn times(&self, messages: u64) -> anyhow::Result<Vec<u64>> {
        let mut times = vec![0; usize::try_from(messages)?];
        for index in self.0.oldest().until(self.0.tail()) {
            let Ok(descriptor) = self.0.descriptor(index) else { continue };
            if let Some(place) = place(descriptor.seq).and_then(|place| times.get_mut(place)) {
                *place = descriptor.ts_publish_ns.0;
            }
        }
        ensure!(times.iter().any(|ns| *ns > 0), "nothing was published");
        Ok(times)
    }
}

/// Where the message with this number stands.
pub(super) fn place(number: u64) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}

const RECEIVE_BUFFER_BYTES: u32 = 1 << 20;
