//! What a receiver that comes late must know: the state of the market after the messages published so far.
//!
//! It is kept as messages: of each kind that describes a state the newest per instrument, and of each live order the
//! one that entered it, with the shares and the price that it has now. It follows the store at its own pace, so that
//! it costs the publisher nothing.

use std::collections::{BTreeMap, HashMap};
use std::io;

use fanblade_feed::glimpse::end_of_snapshot;
use fanblade_feed::itch::{AddOrder, AddOrderMpid, Message};
use fanblade_feed::soupbintcp::Packet;
use zerocopy::IntoBytes as _;

use super::limits::{STATE_ORDERS_MAX, STATE_READ_LEN};
use super::store::{self, Store};

/// The state after message `next - 1`.
#[derive(Debug)]
pub(super) struct State {
    next: u64,
    /// The newest message of each kind, by its place in [`STATES`] and the instrument's number.
    newest: BTreeMap<(usize, u16), Vec<u8>>,
    orders: HashMap<u64, Order>,
    orders_left_out: u64,
    buffer: Vec<u8>,
}

/// A live order.
#[derive(Debug, Clone, Copy)]
struct Order {
    /// The message that gave it its place in the queue.
    seq: u64,
    entered: Entered,
}

#[derive(Debug, Clone, Copy)]
enum Entered {
    Plain(AddOrder),
    Attributed(AddOrderMpid),
}

impl State {
    /// The state before the first message.
    pub(super) fn new() -> Self {
        Self { next: 1, newest: BTreeMap::new(), orders: HashMap::new(), orders_left_out: 0, buffer: Vec::new() }
    }

    /// Orders for which there was no room. Snapshots lack them.
    pub(super) fn orders_left_out(&self) -> u64 {
        self.orders_left_out
    }

    /// Applies what was published since the last call.
    pub(super) fn follow(&mut self, store: &Store) -> io::Result<()> {
        let mut framed = std::mem::take(&mut self.buffer);
        loop {
            framed.clear();
            store.read(self.next, STATE_READ_LEN, &mut framed)?;
            if framed.is_empty() {
                self.buffer = framed;
                return Ok(());
            }
            for message in store::messages(&framed) {
                self.apply(message);
                self.next += 1;
            }
        }
    }

    /// Adds the packets of a snapshot to `out`, and returns how many messages they are.
    pub(super) fn snapshot(&self, out: &mut Vec<u8>) -> u64 {
        let mut count = 0;
        let mut send = |message: &[u8]| {
            // No message of ITCH is too long for a packet.
            count += u64::from(Packet::Sequenced(message).write(out).is_ok());
        };
        self.newest.values().for_each(|message| send(message));
        let mut orders: Vec<&Order> = self.orders.values().collect();
        // Orders come in the order of their queues.
        orders.sort_unstable_by_key(|order| order.seq);
        orders.iter().for_each(|order| send(order.entered.as_bytes()));
        send(&end_of_snapshot(self.next));
        count
    }

    /// Applies a message. One that is malformed, or names unknown orders, changes nothing, as in the receivers' books.
    fn apply(&mut self, bytes: &[u8]) {
        let Ok(message) = Message::parse(bytes) else { return };
        let header = message.header();
        let locate = header.locate.get();
        match message {
            Message::AddOrder(add) => self.enter(Entered::Plain(*add)),
            Message::AddOrderMpid(add) => self.enter(Entered::Attributed(*add)),
            Message::OrderExecuted(executed) => self.reduce(executed.reference.get(), locate, executed.shares.get()),
            Message::OrderExecutedPrice(executed) => {
                self.reduce(executed.reference.get(), locate, executed.shares.get());
            }
            Message::OrderCancel(cancel) => self.reduce(cancel.reference.get(), locate, cancel.shares.get()),
            Message::OrderDelete(delete) => self.reduce(delete.reference.get(), locate, u32::MAX),
            Message::OrderReplace(replace) => {
                let reference = replace.reference.get();
                let Some(order) = self.orders.get(&reference).filter(|order| order.entered.locate() == locate) else {
                    return;
                };
                let mut entered = order.entered;
                self.orders.remove(&reference);
                entered.become_new(replace.new_reference.get(), replace.shares.get(), replace.price.get());
                self.enter(entered);
            }
            _ => {
                if let Some(place) = STATES.iter().position(|&kind| kind == header.kind) {
                    let newest = self.newest.entry((place, locate)).or_default();
                    newest.clear();
                    newest.extend_from_slice(bytes);
                }
            }
        }
    }

    fn enter(&mut self, entered: Entered) {
        let (reference, shares, price) = entered.terms();
        if shares == 0 || price == 0 || self.orders.contains_key(&reference) {
            return;
        }
        if self.orders.len() >= STATE_ORDERS_MAX {
            self.orders_left_out += 1;
            return;
        }
        self.orders.insert(reference, Order { seq: self.next, entered });
    }

    fn reduce(&mut self, reference: u64, locate: u16, by: u32) {
        let Some(order) = self.orders.get_mut(&reference).filter(|order| order.entered.locate() == locate) else {
            return;
        };
        let (_, shares, _) = order.entered.terms();
        match shares.saturating_sub(by) {
            0 => drop(self.orders.remove(&reference)),
            left => order.entered.set_shares(left),
        }
    }
}

impl Entered {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Entered::Plain(add) => add.as_bytes(),
            Entered::Attributed(add) => add.as_bytes(),
        }
    }

    fn locate(&self) -> u16 {
        match self {
            Entered::Plain(add) => add.header.locate.get(),
            Entered::Attributed(add) => add.header.locate.get(),
        }
    }

    /// Reference, shares, price.
    fn terms(&self) -> (u64, u32, u32) {
        match self {
            Entered::Plain(add) => (add.reference.get(), add.shares.get(), add.price.get()),
            Entered::Attributed(add) => (add.reference.get(), add.shares.get(), add.price.get()),
        }
    }

    fn set_shares(&mut self, shares: u32) {
        match self {
            Entered::Plain(add) => add.shares.set(shares),
            Entered::Attributed(add) => add.shares.set(shares),
        }
    }

    /// Instrument, side and attribution stay.
    fn become_new(&mut self, reference: u64, shares: u32, price: u32) {
        match self {
            Entered::Plain(add) => {
                (add.reference, add.shares, add.price) = (reference.into(), shares.into(), price.into());
            }
            Entered::Attributed(add) => {
                (add.reference, add.shares, add.price) = (reference.into(), shares.into(), price.into());
            }
        }
    }
}

/// The kinds of messages that describe a state, in the order in which a snapshot has them: system event, circuit
/// breaker, directory, trading action, short sales, auction. The first three have no instrument, and number 0.
const STATES: [u8; 7] = *b"SVWRHYI";
