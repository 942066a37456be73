//! Pongs that get lost on their way. What a client sends besides is sent again by `opening`, and a message by the
//! server; a pong is sent once, by the program, and the server may say nothing for longer than it waits. So we look
//! through the entries, and where a pong is not acknowledged from one look to the next, we make the server say where it
//! stands. The program answers that with the pong.

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

/// The thread that does so, until the end.
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
        let thread = thread.spawn(move || look(&settings, &table, server, wire, &ended)).context("a thread")?;
        Ok(Pongs { end, thread })
    }

    pub(super) fn end(self) -> anyhow::Result<()> {
        drop(self.end);
        self.thread.join().map_err(|_| anyhow!("the thread that looks after pongs has panicked"))?
    }
}

fn look(
    settings: &Settings,
    table: &Table,
    server: SocketAddrV4,
    mut wire: Wire,
    ended: &Receiver<()>,
) -> anyhow::Result<()> {
    // Up to where each of those had sent whose pong was awaited.
    let (mut before, mut now) = (HashMap::new(), HashMap::new());
    while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        for (client, entry) in (0..).zip(table.iter()) {
            if entry.state != OPEN || entry.flags & AWAITED == 0 {
                continue;
            }
            now.insert(client, entry.sent);
            if before.get(&client) == Some(&entry.sent) {
                // What lies before the window is answered by an acknowledgement (RFC 9293, 3.10.7.4).
                let ends = Ends::new(settings, client, server);
                wire.send(&ends, entry.sent.wrapping_sub(LONG_AGO), entry.next, ACKNOWLEDGEMENT, &[])?;
            }
        }
        std::mem::swap(&mut before, &mut now);
        now.clear();
    }
    Ok(())
}

/// Between two looks. An acknowledgement that waits for company waits for 0.2 s at most.
const LOOK: Duration = Duration::from_secs(1);
/// More than a pong has.
const LONG_AGO: u32 = 256;
