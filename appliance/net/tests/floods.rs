//! Sessions that say more than anybody should: what each poll takes of them, over both engines.

#[macro_use]
mod support;

use std::collections::HashMap;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use fanblade_net::limits::{POLL_RECEIVE_BYTES_MAX, RECEIVE_LEN_MAX, URING_BUFFER_LEN, URING_BUFFERS};
use support::*;

over_both_engines!(
    a_flood_starves_nobody,
    a_flood_has_its_share_of_a_poll_and_no_more,
    many_floods_have_one_poll_s_bytes_and_no_more,
    an_end_behind_more_than_a_share_comes_after_all_of_it,
);

fn a_flood_starves_nobody(make: Make) {
    let mut server = Server::new(make, 4);
    let (flooder, client) = server.pair();
    let (polite, mut other) = server.pair();
    let stopper = client.try_clone().unwrap();
    let flood = flood(client);
    let mut flooded = 0;
    while flooded < 1 << 20 {
        for got in server.poll(PATIENCE) {
            let Got::Received(_, bytes) = got else { panic!("{got:?}") };
            flooded += bytes.len();
        }
    }
    for _ in 0..50 {
        other.write_all(b"me too").unwrap();
        until_delivered(std::slice::from_ref(&other));
        // The flood's share of each poll is bounded, so that few go by.
        let (mut polls, mut heard) = (0, false);
        while !heard {
            for got in server.poll(PATIENCE) {
                match got {
                    Got::Received(session, _) if session == flooder => {}
                    Got::Received(session, bytes) if session == polite => heard = bytes == b"me too",
                    other => panic!("{other:?}"),
                }
            }
            polls += 1;
            assert!(polls < 20, "starved");
        }
    }
    stopper.shutdown(Shutdown::Both).unwrap();
    flood.join().unwrap();
}

/// Writes as much as the sockets take, and goes on.
fn flood(client: TcpStream) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut client = client;
        while client.write_all(&[1; 65_536]).is_ok() {}
    })
}

/// What the io_uring engine may report beyond a limit: what the kernel had put into its buffers by then.
const UNDER_WAY: usize = URING_BUFFERS * URING_BUFFER_LEN;

fn a_flood_has_its_share_of_a_poll_and_no_more(make: Make) {
    let mut server = Server::new(make, 4);
    let (flooder, client) = server.pair();
    let stopper = client.try_clone().unwrap();
    let flood = flood(client);
    let mut flooded = 0;
    for _ in 0..200 {
        // All that fits waits for us.
        std::thread::sleep(Duration::from_millis(2));
        let mut bytes_of_poll = 0;
        for got in server.poll(PATIENCE) {
            let Got::Received(session, bytes) = got else { panic!("{got:?}") };
            assert_eq!(session, flooder);
            bytes_of_poll += bytes.len();
        }
        assert!(bytes_of_poll <= RECEIVE_LEN_MAX + UNDER_WAY, "{bytes_of_poll} bytes of one session in one poll");
        flooded += bytes_of_poll;
    }
    assert!(flooded > 100 * RECEIVE_LEN_MAX / 2, "{flooded}: it is received on and on, poll by poll");
    assert!(server.engine.counters().receive_requeued > 50);
    stopper.shutdown(Shutdown::Both).unwrap();
    flood.join().unwrap();
}

fn many_floods_have_one_poll_s_bytes_and_no_more(make: Make) {
    const FLOODERS: usize = 100;
    let mut server = Server::new(make, FLOODERS + 1);
    let mut flooders = HashMap::new();
    let mut clients = Vec::new();
    for _ in 0..FLOODERS {
        let (session, client) = server.pair();
        client.set_nonblocking(true).unwrap();
        flooders.insert(session, 0);
        clients.push(client);
    }
    let (polite, mut other) = server.pair();
    let mut refill = |round: usize| {
        for client in &mut clients {
            while matches!(client.write(&[1; 65_536]), Ok(len) if len > 0) {}
        }
        other.write_all(&(round as u64).to_le_bytes()).unwrap();
    };
    for round in 0..20 {
        refill(round);
        // Who says little is heard within the polls in which each of the others has its share once or twice.
        let (mut polls, mut heard) = (0, false);
        while !heard {
            let mut bytes_of_poll = 0;
            for got in server.poll(PATIENCE) {
                let Got::Received(session, bytes) = got else { panic!("{got:?}") };
                bytes_of_poll += bytes.len();
                if session == polite {
                    heard = bytes == (round as u64).to_le_bytes();
                } else {
                    *flooders.get_mut(&session).unwrap() += bytes.len();
                }
            }
            assert!(bytes_of_poll <= POLL_RECEIVE_BYTES_MAX + UNDER_WAY, "{bytes_of_poll} bytes in one poll");
            polls += 1;
            assert!(polls < 20, "starved");
        }
    }
    // Nobody is left out.
    for _ in 0..100 {
        for got in server.poll(Duration::from_millis(1)) {
            if let Got::Received(session, bytes) = got {
                *flooders.get_mut(&session).unwrap() += bytes.len();
            }
        }
    }
    let (least, most) = (flooders.values().min().unwrap(), flooders.values().max().unwrap());
    assert!(*least > 0, "{least} to {most} bytes of each");
    assert!(server.engine.counters().polls_cut > 0);
}

/// Nothing of what was said is lost or changes places, and the end comes last.
fn an_end_behind_more_than_a_share_comes_after_all_of_it(make: Make) {
    let mut server = Server::new(make, 4);
    for seed in 0..5 {
        let (session, client) = server.pair();
        let said = Noise::new(seed).bytes(3_000_000);
        let all = said.clone();
        let writer = std::thread::spawn(move || {
            let mut client = client;
            client.write_all(&said).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        });
        let mut heard = Vec::new();
        server.poll_until("the end", |server, got| match got {
            Got::Received(_, bytes) => {
                heard.extend_from_slice(&bytes);
                // Pauses, too, while it rests or not.
                if heard.len() % 7 == 0 {
                    server.engine.pause_reading(session);
                    server.engine.resume_reading(session);
                }
                false
            }
            Got::Closed(it, error) => {
                assert_eq!((it, error), (session, None));
                true
            }
            other => panic!("{other:?}"),
        });
        assert!(heard == all, "{} of {} bytes came, or not in order", heard.len(), all.len());
        server.engine.close(session);
        drop(writer.join().unwrap());
    }
}
