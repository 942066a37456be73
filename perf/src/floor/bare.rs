//! `floor-server`: the bare loop. It accepts, and sends the same bytes to every socket when told to: the least that any
//! server on the kernel's sockets costs. It has no Fanblade code but the listener's options.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use fanblade_measure::sys::pin;

use super::args::{EngineKind, ServerArgs};
use super::listener::listen;
use crate::direct::{Direct, send_whole};
use crate::message::Messages;

pub(crate) fn run(args: &ServerArgs) -> anyhow::Result<()> {
    pin(args.cpu)?;
    let listener = listen()?;
    println!("{}", listener.local_addr());
    std::io::stdout().flush()?;
    let listener = TcpListener::from(OwnedFd::from(listener));
    listener.set_nonblocking(false)?;
    let mut sockets = match args.engine {
        EngineKind::Uring => Sockets::Direct(Box::new(Direct::new(args.subscribers)?)),
        EngineKind::Epoll => Sockets::Descriptors(Vec::with_capacity(args.subscribers)),
    };
    for at in 0..args.subscribers {
        let socket = OwnedFd::from(listener.accept().context("cannot accept a connection")?.0);
        match &mut sockets {
            Sockets::Direct(ring) => ring.install(at, socket)?,
            Sockets::Descriptors(sockets) => sockets.push(socket),
        }
    }
    let mut messages = Messages::new(args.payload_bytes);
    let mut number = 0;
    let mut bytes = Vec::new();
    // Each byte says how many messages are due at once. They leave as one send, as a server should send them if it can.
    let mut due = [0];
    while std::io::stdin().read(&mut due)? == 1 {
        bytes.clear();
        for _ in 0..due[0] {
            bytes.extend_from_slice(messages.frame(number));
            number += 1;
        }
        match &mut sockets {
            Sockets::Direct(ring) => ring.send_all(args.subscribers, &bytes)?,
            Sockets::Descriptors(sockets) => sockets.iter().try_for_each(|socket| send_whole(socket, &bytes))?,
        }
    }
    Ok(())
}

enum Sockets {
    Direct(Box<Direct>),
    Descriptors(Vec<OwnedFd>),
}
