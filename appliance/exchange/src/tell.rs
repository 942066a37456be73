//! What happens by the way.

use std::fmt::Arguments;

/// Where to say it: a line, without its end.
pub type Tell = fn(Arguments<'_>);
