//! Lanes without sockets: the headers that they write, what they make of what a client sends, and whole connections
//! against a reference TCP over a network that loses, repeats, delays and reorders.

mod frames;
mod headers;
mod network;
mod receiving;
mod reference;
mod storms;
