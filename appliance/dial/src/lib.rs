//! Connections that we open, to venues and to blades. A name is looked up within a deadline and never on a data thread,
//! then all of its addresses are tried ([`fanblade_net::dial`]); over the first that answers a WebSocket is opened,
//! with TLS where the address says so.

mod address;
mod dialer;
mod issuers;
mod look_up;
mod websocket;

pub use address::{AddressError, websocket_url};
pub use dialer::{ConnectError, Dialer};
pub use issuers::{IssuersError, trusting, trusting_anybody};
pub use look_up::{LOOK_UP_MAX, look_up};
pub use websocket::{CONNECT_MAX, OpenError, Socket, websocket};
