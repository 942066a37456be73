//! Every bound of the admin port that is not a configuration key, with its reason.

/// From accept to a whole request head, in milliseconds: a balancer's probe is one packet. A slower connection is
/// closed; `admin_timeouts`.
pub(crate) const HEAD_MS_MAX: u64 = 5_000;

/// A request head, in bytes: browsers send a tenth of it. A longer one is answered 431.
pub(crate) const HEAD_LEN_MAX: usize = 16 << 10;

/// Header lines of a request. More is answered 431.
pub(crate) const HEADERS_MAX: usize = 64;

/// A whole connection from accept to close, in milliseconds: a client that takes the longest page more slowly does not
/// want it. `admin_timeouts`.
pub(crate) const CONNECTION_MS_MAX: u64 = 30_000;

/// The share of the process's descriptors that this port may have, as a divisor: the rest is the data port's, the
/// feed's and the log's.
pub(crate) const DESCRIPTORS_SHARE: u64 = 4;

/// Descriptors that are kept back for accepting when the process has no others left.
pub(crate) const DESCRIPTORS_RESERVED: usize = 8;

/// How long a connection is given, in milliseconds, when there is no descriptor for the next one: by then a request
/// that was sent right after connecting has been read.
pub(crate) const SHORTAGE_MS: u64 = 10;

/// Pause before the next attempt, in milliseconds, when accepting fails and there is nothing to close.
pub(crate) const ACCEPT_RETRY_MS: u64 = 100;

/// Bytes of a host's name that are repeated in an answer or in the log. The rest is cut.
pub(crate) const HOST_LEN_SHOWN_MAX: usize = 100;
