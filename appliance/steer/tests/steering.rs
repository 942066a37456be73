//! Which worker gets a new connection: over real sockets, in a namespace of the test's own.

mod common;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use common::network::{accept_all, echo, listen_shared};
use common::{PORT, is_privileged, load};
use fanblade_steer::Steer;
use fanblade_steer::abi::Verdict;
use fanblade_testkit::Namespace;

const WORKERS: usize = 4;
const CONNECTIONS: usize = 1000;

/// Four listeners with `steer` before them, and every connection that was made.
struct Group {
    steer: Steer,
    listeners: Vec<Option<TcpListener>>,
    clients: Vec<TcpStream>,
    accepted: Vec<Vec<TcpStream>>,
}

impl Group {
    fn new() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let listeners: Vec<_> = (0..WORKERS).map(|_| listen_shared(address)).collect();
        let mut steer = load();
        steer.attach_listeners(&listeners).unwrap();
        let listeners = listeners.into_iter().map(Some).collect();
        Self { steer, listeners, clients: Vec::new(), accepted: (0..WORKERS).map(|_| Vec::new()).collect() }
    }

    /// Makes more connections and returns how many each worker got.
    fn connect(&mut self, connections: usize) -> Vec<usize> {
        let mut shares = vec![0; WORKERS];
        for _ in 0..connections {
            self.clients.push(TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).expect("no connection may fail"));
            // Over the loopback the connection waits at its listener as soon as `connect` returns.
            for (worker, share) in shares.iter_mut().enumerate() {
                let Some(listener) = &self.listeners[worker] else { continue };
                let accepted = accept_all(listener);
                *share += accepted.len();
                self.accepted[worker].extend(accepted);
            }
        }
        assert_eq!(shares.iter().sum::<usize>(), connections);
        shares
    }

    /// Checks that every connection still works, with the server's end at the worker that accepted it.
    fn echo_all(&mut self) {
        let mut servers: std::collections::HashMap<_, _> =
            self.accepted.iter_mut().flatten().map(|server| (server.peer_addr().unwrap(), server)).collect();
        for client in &mut self.clients {
            echo(client, servers.get_mut(&client.local_addr().unwrap()).unwrap());
        }
    }

    fn verdicts(&self) -> [u64; 3] {
        [Verdict::SteerSelected, Verdict::SteerFallback, Verdict::SteerNoWorker]
            .map(|verdict| self.steer.view().verdict(verdict).unwrap())
    }

    fn steered(&self) -> Vec<u64> {
        self.steer.view().workers().unwrap().into_iter().map(|slot| slot.steered).collect()
    }
}

/// Pearson's statistic. With three degrees of freedom it exceeds 30 about once in a million even draws.
fn chi_square(shares: &[usize], weights: &[u32]) -> f64 {
    let total: usize = shares.iter().sum();
    let weight: u32 = weights.iter().sum();
    let drawn = shares.iter().zip(weights).filter(|(_share, weight)| **weight > 0);
    drawn
        .map(|(share, own)| {
            let expected = total as f64 * f64::from(*own) / f64::from(weight);
            (*share as f64 - expected).powi(2) / expected
        })
        .sum()
}

const CHI_SQUARE_MAX: f64 = 30.0;

fn in_namespace(test: &str, work: impl FnOnce() + Send) {
    if is_privileged(test) {
        Namespace::new().run(work);
    }
}

#[test]
fn a_thousand_connections_land_evenly_and_follow_the_weights() {
    in_namespace("a_thousand_connections_land_evenly_and_follow_the_weights", || {
        let mut group = Group::new();
        let even = group.connect(CONNECTIONS);
        assert!(chi_square(&even, &[1; WORKERS]) < CHI_SQUARE_MAX, "{even:?}");
        assert_eq!(group.verdicts(), [1000, 0, 0]);
        assert_eq!(group.steered(), even.iter().map(|share| *share as u64).collect::<Vec<_>>());

        let weights = [10, 20, 0, 70];
        for (worker, weight) in (0..).zip(weights) {
            group.steer.set_weight(worker, weight).unwrap();
        }
        let weighted = group.connect(CONNECTIONS);
        assert_eq!(weighted[2], 0, "weight 0 gets none: {weighted:?}");
        assert!(chi_square(&weighted, &weights) < CHI_SQUARE_MAX, "{weighted:?}");
        assert_eq!(group.verdicts(), [2000, 0, 0]);
        group.echo_all();
    });
}

#[test]
fn published_load_draws_the_shares_level() {
    in_namespace("published_load_draws_the_shares_level", || {
        let mut group = Group::new();
        let publishers: Vec<_> = (0..4).map(|worker| group.steer.load_publisher(worker).unwrap()).collect();
        // Worker 0 begins with a load of 200; the others catch up.
        let mut held = [200, 0, 0, 0];
        for _ in 0..CONNECTIONS {
            for (publisher, connections) in publishers.iter().zip(held) {
                publisher.publish(connections);
            }
            for (connections, share) in held.iter_mut().zip(group.connect(1)) {
                *connections += u32::try_from(share).unwrap();
            }
        }
        let spread = held.iter().max().unwrap() - held.iter().min().unwrap();
        assert!(spread <= 12, "{held:?}");
        assert_eq!(group.steer.view().workers().unwrap().iter().map(|slot| slot.connections).sum::<u32>(), 1199);
    });
}

#[test]
fn a_removed_listener_falls_back_and_is_counted() {
    in_namespace("a_removed_listener_falls_back_and_is_counted", || {
        let mut group = Group::new();
        group.connect(100);
        group.steer.remove_listener(1).unwrap();
        group.listeners[1] = None;
        let before = group.steered();
        let shares = group.connect(CONNECTIONS);
        let [selected, fallback, no_worker] = group.verdicts();
        assert_eq!(selected + fallback + no_worker, 1100, "every connection has one verdict");
        assert!((150..350).contains(&fallback), "a quarter was for the missing worker: {fallback}");
        assert_eq!(group.steered()[1], before[1]);
        assert_eq!(shares[1], 0);
        group.echo_all();
    });
}

#[test]
fn without_any_weight_the_kernel_spreads() {
    in_namespace("without_any_weight_the_kernel_spreads", || {
        let mut group = Group::new();
        for worker in 0..4 {
            group.steer.set_weight(worker, 0).unwrap();
        }
        let shares = group.connect(200);
        assert_eq!(group.verdicts(), [0, 0, 200]);
        assert!(shares.iter().filter(|share| **share > 0).count() > 1, "{shares:?}");
    });
}

#[test]
fn a_listener_is_replaced_without_losing_a_connection() {
    in_namespace("a_listener_is_replaced_without_losing_a_connection", || {
        let mut group = Group::new();
        for worker in 1..4 {
            group.steer.set_weight(worker, 0).unwrap();
        }
        group.connect(50);
        let successor = listen_shared(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
        group.steer.set_listener(0, &successor).unwrap();
        let old = group.listeners[0].replace(successor);
        assert_eq!(group.connect(50)[0], 50);
        assert!(accept_all(&old.unwrap()).is_empty(), "nothing came to the old one any more");
        assert_eq!(group.verdicts(), [100, 0, 0]);
        group.echo_all();
    });
}

#[test]
fn connections_that_wait_at_a_closing_listener_go_to_another() {
    in_namespace("connections_that_wait_at_a_closing_listener_go_to_another", || {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let mut listeners: Vec<_> = (0..2).map(|_| listen_shared(address)).collect();
        let mut steer = load();
        steer.attach_listeners(&listeners).unwrap();
        steer.set_weight(1, 0).unwrap();
        let mut clients: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
        steer.set_weight(1, 100).unwrap();
        steer.set_weight(0, 0).unwrap();
        drop(listeners.remove(0));
        let mut accepted = accept_all(&listeners[0]);
        assert_eq!(accepted.len(), clients.len(), "none was accepted before, none may be lost");
        for client in &mut clients {
            let server = accepted.iter_mut().find(|server| server.peer_addr().unwrap() == client.local_addr().unwrap());
            echo(client, server.unwrap());
        }
        assert_eq!(steer.view().workers().unwrap().iter().map(|slot| slot.steered).collect::<Vec<_>>(), [50, 50]);
    });
}

#[test]
fn ipv6_and_ports_of_others_are_left_alone() {
    in_namespace("ipv6_and_ports_of_others_are_left_alone", || {
        let address = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, PORT));
        let listeners: Vec<_> = (0..WORKERS).map(|_| listen_shared(address)).collect();
        let mut steer = load();
        steer.attach_listeners(&listeners).unwrap();
        let other = listen_shared(SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, PORT + 1)));
        let clients: Vec<_> = (0..400).map(|_| TcpStream::connect(address).unwrap()).collect();
        let _unsteered: Vec<_> = (0..50).map(|_| TcpStream::connect(other.local_addr().unwrap()).unwrap()).collect();
        let shares: Vec<_> = listeners.iter().map(|listener| accept_all(listener).len()).collect();
        assert_eq!(shares.iter().sum::<usize>(), clients.len());
        assert!(chi_square(&shares, &[1; WORKERS]) < CHI_SQUARE_MAX, "{shares:?}");
        assert_eq!(steer.view().verdict(Verdict::SteerSelected).unwrap(), 400);
    });
}

#[test]
fn wrong_workers_and_weights_are_refused() {
    in_namespace("wrong_workers_and_weights_are_refused", || {
        let mut steer = load();
        let none: [TcpListener; 0] = [];
        assert!(steer.attach_listeners(&none).unwrap_err().to_string().contains("must be 1 to 64"));
        assert!(steer.set_weight(64, 1).unwrap_err().to_string().contains("must be less than 64"));
        assert!(steer.set_weight(0, 65_536).unwrap_err().to_string().contains("must be at most 65535"));
        let alone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let error = steer.attach_listeners(&[alone]).unwrap_err().to_string();
        assert!(error.contains("SO_REUSEPORT group"), "{error}");
    });
}
