//! Recovers pongs that get lost on their way. `opening` resends whatever else a client sends, and the server resends
//! messages; the program sends a pong only once, and the server may say nothing for longer than it waits for the pong.
//! So we look through the entries. If a pong is not acknowledged from one look to the next, we make the server say
//! where it stands, and the program answers that with the pong.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use fanblade_swarm_abi::{AWAITED, OPEN, Settings};

use super::packet::{ACKNOWLEDGEMENT, Ends, Wire};
use super::table::Table;

/// The thread that recovers pongs, until the end.
pub(super) struct Pongs {
    end: Sender<()>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Pongs {
    pub(super) fn look_after(
        settings: &Settings,
        table: &Arc<Table>,
        server: SocketAddrV4,
        wire: Wire,
    ) -> anyhow::Result<Pongs> {
        let (end, ended) = channel();
        let (settings, table) = (*settings, Arc::clone(table));
        let thread = std::thread::Builder::new().name("pongs".into());
        let thread = thread
            .spawn(move || look(&settings, &table, server, wire, &ended))
            .context("cannot start the thread that recovers pongs")?;
        Ok(Pongs { end, thread })
    }

    pub(super) fn end(self) -> anyhow::Result<()> {
        drop(self.end);
        self.thread.join().map_err(|_| anyhow!("the thread that recovers pongs has panicked"))?
    }
}

fn look(
    settings: &Settings,
    table: &Table,
    server: SocketAddrV4,
    mut wire: Wire,
    ended: &Receiver<()>,
) -> anyhow::Result<()> {
    // How far each client had sent whose pong was awaited, at the last look and at this one.
    let (mut before, mut now) = (HashMap::new(), HashMap::new());
    while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        for (client, entry) in (0..).zip(table.iter()) {
            if entry.state != OPEN || entry.flags & AWAITED == 0 {
                continue;
            }
            now.insert(client, entry.sent);
            if before.get(&client) == Some(&entry.sent) {
                // The server answers what lies before its window with an acknowledgement (RFC 9293, 3.10.7.4).
                let ends = Ends::new(settings, client, server);
                wire.send(&ends, entry.sent.wrapping_sub(LONG_AGO), entry.next, ACKNOWLEDGEMENT, &[])?;
            }
        }
        std::mem::swap(&mut before, &mut now);
        now.clear();
    }
    Ok(())
}

/// The time between two looks. A delayed acknowledgement waits for 0.2 s at most.
const LOOK: Duration = Duration::from_secs(1);
/// More bytes than a pong has.
const LONG_AGO: u32 = 256;
