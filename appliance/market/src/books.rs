//! The rules: what each message does to the books.
//!
//! Whether an image changed is known from where the change lies, without keeping or comparing the last one. An order
//! that enters, shrinks or leaves changes its level, and so every image that shows the level: the best quote at depth
//! 0, the book at a depth below [`BOOK_LEVELS`]. The one exception, a replacement by as many shares at the same
//! price, is recognised as such. A test compares all this with a model that does keep and compare.

use fanblade_feed::UnixNs;
use fanblade_feed::itch::{self, Header, Message, Stock};

use crate::counters::{Counters, SYSTEM_EVENTS, Skipped};
use crate::error::MarketError;
use crate::image::{Bbo, Book, Image, Imbalance, InstrumentId, Side, Status, Trade, TradeKind, TradingState, Update};
use crate::instruments::{Entry, Instruments, Refusal};
use crate::ladder::Depth;
use crate::limits::BOOK_LEVELS;
use crate::orders::{Order, Orders, Slot};
use crate::trades::Trades;

#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) orders: Orders,
    pub(crate) instruments: Instruments,
    trades: Trades,
}

impl Books {
    pub(crate) fn new(orders_max: usize) -> Books {
        Books { orders: Orders::new(orders_max), instruments: Instruments::new(), trades: Trades::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.orders.clear();
        self.instruments = Instruments::new();
        self.trades = Trades::new();
    }

    pub(crate) fn apply<F>(&mut self, message: &Message<'_>, output: &mut Output<'_, F>) -> Result<(), Refusal>
    where
        F: FnMut(&Update<'_>),
    {
        let header = message.header();
        match message {
            Message::AddOrder(m) => {
                self.add(header, m.stock, m.side, m.reference.get(), m.shares.get(), m.price.get(), output)
            }
            Message::AddOrderMpid(m) => {
                self.add(header, m.stock, m.side, m.reference.get(), m.shares.get(), m.price.get(), output)
            }
            Message::OrderExecuted(m) => self.executed(header, m, output),
            Message::OrderExecutedPrice(m) => self.executed_at_price(header, m, output),
            Message::OrderCancel(m) => self.cancel(header, m, output),
            Message::OrderDelete(m) => self.delete(header, m, output),
            Message::OrderReplace(m) => self.replace(header, m, output),
            Message::Trade(m) => self.hidden(header, m, output),
            Message::CrossTrade(m) => self.cross(header, m, output),
            Message::BrokenTrade(m) => self.broken(header, m, output),
            Message::StockDirectory(m) => self.directory(header, m),
            Message::TradingAction(m) => self.status(header, m, output),
            Message::Noii(m) => self.imbalance(header, m, output),
            Message::SystemEvent(m) => system_event(m, output),
            // They are counted by type; no channel shows them.
            Message::RegSho(_)
            | Message::ParticipantPosition(_)
            | Message::MwcbLevels(_)
            | Message::MwcbStatus(_)
            | Message::IpoQuoting(_)
            | Message::LuldCollar(_)
            | Message::OperationalHalt(_)
            | Message::Rpii(_)
            | Message::DirectListing(_) => Ok(()),
        }
    }

    /// Passes on every image but the trades', whether or not it has changed.
    pub(crate) fn images<F: FnMut(&Update<'_>)>(&self, output: &mut Output<'_, F>) {
        for (locate, entry) in self.instruments.iter() {
            if let Some(status) = entry.status {
                output.emit(locate, entry, Image::Status(status));
            }
            if let Some(imbalance) = entry.imbalance {
                output.emit(locate, entry, Image::Imbalance(imbalance));
            }
            output.emit(locate, entry, Image::Bbo(output.bbo(entry)));
            output.emit(locate, entry, Image::Book(output.book(entry)));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields that two message types have in common")]
    fn add<F: FnMut(&Update<'_>)>(
        &mut self,
        header: &Header,
        stock: Stock,
        side: u8,
        reference: u64,
        shares: u32,
        price: u32,
        output: &mut Output<'_, F>,
    ) -> Result<(), Refusal> {
        let locate = header.locate.get();
        let side = side_of(header.kind, side)?;
        self.instruments.named(header.kind, locate, stock)?;
        let depth = self.enter(reference, Order { locate, side, price, shares })?;
        output.quotes(locate, self.instruments.entry(locate), depth);
        Ok(())
    }

    fn executed<F: FnMut(&Update<'_>)>(
        &mut self,
        header: &Header,
        message: &itch::OrderExecuted,
        output: &mut Output<'_, F>,
    ) -> Result<(), Refusal> {
        let (slot, order) = self.order(header, message.reference.get())?;
        let depth = self.shrink(slot, order, message.shares.get(), output)?;
        self.publish_execution(order, order.price, message.shares.get(), message.match_number.get(), output);
        output.quotes(order.locate, self.instruments.entry(order.locate), depth);
        Ok(())
    }

    fn executed_at_price<F: FnMut(&Update<'_>)>(
        &mut self,
        header: &Header,
        message: &itch::OrderExecutedPrice,
        output: &mut Output<'_, F>,
    ) -> Result<(), Refusal> {
        let is_printable = match message.printable {
            b'Y' => true,
            b'N' => false,
            code => return Err(MarketError::Code { kind: header.kind, field: "printable", code }.into()),
        };
        let (slot, order) = self.order(header, message.reference.get())?;
        let depth = self.shrink(slot, order, message.shares.get(), output)?;
        // An execution that is not printable is part of a cross, which reports it in bulk.
        if is_printable {
            let price = message.price.get();
            self.publish_execution(order, price, message.shares.get(), message.match_number.get(), output);
        }
        output.quotes(order.locate, self.instruments.entry(order.locate), depth);
        Ok(())
    }

    fn cancel<F: FnMut(&Update<'_>)>(
        &mut self,
        header: &Header,
        message: &itch::OrderCancel,
        output: &mut Output<'_, F>,
    ) -> Result<(), Refusal> {
        let (slot, order) = self.order(header, message.reference.get())?;
        let depth = self.shrink(slot, order, message.shares.get(), output)?;
        output.quotes(order.locate, self.instruments.entry(order.locate), depth);
        Ok(())
    }

    fn delete<F: FnMut(&Update<'_>)>(
        &mut self,
        header: &Header,
        message: &itch::OrderDelete,
        output: &mut Output<'_, F>,
    ) -> Result<(), Refusal> {
        let (slot, order) = self.order(header, message.reference.get())?;
        let depth = self.leave(slot, order);
        output.quotes(order.locate, self.instruments.entry(order.locate), depth);
        Ok(())
    }

    fn replace<F: FnMut(&Update<'_>)>(
        &mut self,
        header: &Header,
        message: &itch::OrderReplace,
        output: &mut Output<'_, F>,
    ) -> Result<(), Refusal> {
        // The message names neither instrument nor side: without the old order the new one cannot be placed.
        let (slot, old) = self.order(header, message.reference.get())?;
        let new = Order { price: message.price.get(), shares: message.shares.get(), ..old };
        let depth_left = self.leave(slot, old);
        let entered = self.enter(message.new_reference.get(), new);
        let depth = match entered {
            Ok(_) if new == old => Depth::MAX,
            Ok(depth_entered) => depth_left.min(depth_entered),
            Err(_) => depth_left,
        };
        output.quotes(old.locate, self.instruments.entry(old.locate), depth);
        entered.map(drop).map_err(Refusal::from)
    }

    fn hidden<F: FnMut(&Update<'_>)>(
        &mut self,
        header: &Header,
        message: &itch::Trade,
        output: &mut Output<'_, F>,
    ) -> Result<(), Refusal> {
        let locate = header.locate.get();
        let side = side_of(header.kind, message.side)?;
        self.instruments.named(header.kind, locate, message.stock)?;
        if message.shares.get() == 0 {
            return Err(Skipped::SharesZero.into());
        }
        let trade = Trade {
            price: message.price.get(),
            shares: message.shares.get().into(),
            side: Some(side),
            match_number: message.match_number.get(),
            kind: TradeKind::Hidden,
        };
        self.publish_trade(locate, trade, output);
        Ok(())
    }

    fn cross<F: FnMut(&Update<'_>)>(
        &mut self,
        header: &Header,
        message: &itch::CrossTrade,
        output: &mut Output<'_, F>,
    ) -> Result<(), Refusal> {
        let locate = header.locate.get();
        self.instruments.named(header.kind, locate, message.stock)?;
        if message.shares.get() == 0 {
            return Err(Skipped::CrossEmpty.into());
        }
        let trade = Trade {
            price: message.price.get(),
            shares: message.shares.get(),
            side: None,
            match_number: message.match_number.get(),
            kind: TradeKind::Cross,
        };
        self.publish_trade(locate, trade, output);
        Ok(())
    }

    fn broken<F: FnMut(&Update<'_>)>(
        &mut self,
        header: &Header,
        message: &itch::BrokenTrade,
        output: &mut Output<'_, F>,
    ) -> Result<(), Refusal> {
        let match_number = message.match_number.get();
        let (locate, trade) = self.trades.find(match_number).ok_or(Skipped::UnknownTrade)?;
        if locate != header.locate.get() {
            return Err(Skipped::LocateMismatch.into());
        }
        self.trades.forget(match_number);
        output.emit(locate, self.instruments.entry(locate), Image::Trade(trade));
        Ok(())
    }

    fn directory(&mut self, header: &Header, message: &itch::StockDirectory) -> Result<(), Refusal> {
        self.instruments.named(header.kind, header.locate.get(), message.stock).map(drop)
    }

    fn status<F: FnMut(&Update<'_>)>(
        &mut self,
        header: &Header,
        message: &itch::TradingAction,
        output: &mut Output<'_, F>,
    ) -> Result<(), Refusal> {
        let (kind, locate) = (header.kind, header.locate.get());
        let state = TradingState::from_code(message.state);
        let state = state.ok_or(MarketError::Code { kind, field: "state", code: message.state })?;
        for code in message.reason {
            printable(kind, "reason", code)?;
        }
        let status = Status { state, reason: message.reason };
        let entry = self.instruments.named(kind, locate, message.stock)?;
        let before = entry.status.replace(status);
        output.emit_if(before != Some(status), locate, entry, Image::Status(status));
        Ok(())
    }

    fn imbalance<F: FnMut(&Update<'_>)>(
        &mut self,
        header: &Header,
        message: &itch::Noii,
        output: &mut Output<'_, F>,
    ) -> Result<(), Refusal> {
        let (kind, locate) = (header.kind, header.locate.get());
        let imbalance = Imbalance {
            paired: message.paired.get(),
            imbalance: message.imbalance.get(),
            near: message.near_price.get(),
            far: message.far_price.get(),
            reference: message.reference_price.get(),
            direction: printable(kind, "direction", message.direction)?,
            cross: printable(kind, "cross_type", message.cross_type)?,
        };
        let entry = self.instruments.named(kind, locate, message.stock)?;
        let before = entry.imbalance.replace(imbalance);
        output.emit_if(before != Some(imbalance), locate, entry, Image::Imbalance(imbalance));
        Ok(())
    }

    /// The live order that a message modifies.
    fn order(&self, header: &Header, reference: u64) -> Result<(Slot, Order), Skipped> {
        let (slot, order) = self.orders.find(reference).ok_or(Skipped::UnknownReference)?;
        if order.locate != header.locate.get() {
            return Err(Skipped::LocateMismatch);
        }
        Ok((slot, order))
    }

    fn enter(&mut self, reference: u64, order: Order) -> Result<Depth, Skipped> {
        if order.shares == 0 {
            return Err(Skipped::SharesZero);
        }
        if order.price == 0 {
            return Err(Skipped::PriceZero);
        }
        let slot = self.orders.insert(reference, order)?;
        let ladder = self.instruments.entry_mut(order.locate).ladder(order.side);
        ladder.enter(order.side, order.price, order.shares).ok_or_else(|| {
            self.orders.remove(slot);
            Skipped::LevelsFull
        })
    }

    fn shrink<F>(
        &mut self,
        slot: Slot,
        order: Order,
        shares: u32,
        output: &mut Output<'_, F>,
    ) -> Result<Depth, Skipped> {
        if shares == 0 {
            return Err(Skipped::SharesZero);
        }
        if shares >= order.shares {
            output.counters.shares_excess += u64::from(shares > order.shares);
            return Ok(self.leave(slot, order));
        }
        self.orders.set_shares(slot, order.shares - shares);
        let ladder = self.instruments.entry_mut(order.locate).ladder(order.side);
        Ok(ladder.reduce(order.side, order.price, shares, false))
    }

    fn leave(&mut self, slot: Slot, order: Order) -> Depth {
        self.orders.remove(slot);
        let ladder = self.instruments.entry_mut(order.locate).ladder(order.side);
        ladder.reduce(order.side, order.price, order.shares, true)
    }

    fn publish_execution<F: FnMut(&Update<'_>)>(
        &mut self,
        order: Order,
        price: u32,
        shares: u32,
        match_number: u64,
        output: &mut Output<'_, F>,
    ) {
        let (shares, side) = (shares.into(), Some(order.side));
        self.publish_trade(
            order.locate,
            Trade { price, shares, side, match_number, kind: TradeKind::Execution },
            output,
        );
    }

    fn publish_trade<F: FnMut(&Update<'_>)>(&mut self, locate: u16, trade: Trade, output: &mut Output<'_, F>) {
        self.trades.remember(locate, &trade);
        output.emit(locate, self.instruments.entry(locate), Image::Trade(trade));
    }
}

/// Where the updates of one message go.
pub(crate) struct Output<'a, F> {
    pub(crate) seq: u64,
    pub(crate) ts_ns: UnixNs,
    pub(crate) venue: &'a str,
    pub(crate) counters: &'a mut Counters,
    /// What quotes and books are marked with.
    pub(crate) incomplete: bool,
    pub(crate) sink: &'a mut F,
}

impl<F: FnMut(&Update<'_>)> Output<'_, F> {
    /// The images that show a level at this depth.
    fn quotes(&mut self, locate: u16, entry: &Entry, depth: Depth) {
        let bbo = self.bbo(entry);
        if depth == 0
            && let (Some(bid), Some(ask)) = (bbo.bid, bbo.ask)
        {
            self.counters.quotes_crossed += u64::from(bid.price >= ask.price);
        }
        self.emit_if(depth == 0, locate, entry, Image::Bbo(bbo));
        self.emit_if(depth < BOOK_LEVELS, locate, entry, Image::Book(self.book(entry)));
    }

    fn bbo(&self, entry: &Entry) -> Bbo {
        Bbo { incomplete: self.incomplete, ..entry.bbo() }
    }

    fn book<'e>(&self, entry: &'e Entry) -> Book<'e> {
        Book { incomplete: self.incomplete, ..entry.book() }
    }

    fn emit_if(&mut self, is_changed: bool, locate: u16, entry: &Entry, image: Image<'_>) {
        if is_changed {
            self.emit(locate, entry, image);
        } else {
            self.counters.unchanged_suppressed += 1;
        }
    }

    fn emit(&mut self, locate: u16, entry: &Entry, image: Image<'_>) {
        let channel = image.channel();
        self.counters.updates[channel.index()] += 1;
        (self.sink)(&Update {
            seq: self.seq,
            instrument: InstrumentId(locate),
            venue: self.venue,
            symbol: entry.symbol(),
            channel,
            ts_ns: self.ts_ns,
            image,
        });
    }
}

fn system_event<F>(message: &itch::SystemEvent, output: &mut Output<'_, F>) -> Result<(), Refusal> {
    let index = SYSTEM_EVENTS.iter().position(|&event| event == message.event);
    let index = index.ok_or(MarketError::Code { kind: message.header.kind, field: "event", code: message.event })?;
    output.counters.system_events[index] += 1;
    Ok(())
}

fn side_of(kind: u8, code: u8) -> Result<Side, MarketError> {
    Side::from_code(code).ok_or(MarketError::Code { kind, field: "side", code })
}

/// Requires that a code which is passed on as a letter can be written down.
fn printable(kind: u8, field: &'static str, code: u8) -> Result<u8, MarketError> {
    if matches!(code, b' '..=b'~') { Ok(code) } else { Err(MarketError::Code { kind, field, code }) }
}
