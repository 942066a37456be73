//! What is fuzzed: a function for each parser of bytes that others send, with what must hold of them all. libFuzzer
//! calls them with what it makes up (`cargo xtask fuzz`), ordinary tests with every file of the corpora.
//!
//! A target panics where something does not hold. The oracles are cheap ones: a stream that is cut elsewhere says the
//! same, what was written is read again, what a request's parser takes is JSON to `serde_json`, too, and each refusal
//! says something.
#![warn(clippy::cast_possible_truncation)]

mod streams;
mod targets;

/// A parser, and how it is called.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name for the command, and its corpus's directory.
    pub name: &'static str,
    /// Calls it. Panics where something does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 12] = [
    Target { name: "binaryfile", run: targets::files::binaryfile },
    Target { name: "config", run: targets::texts::config },
    Target { name: "frames", run: targets::wire::frames },
    Target { name: "handshake", run: targets::wire::handshake },
    Target { name: "itch", run: targets::feed::itch },
    Target { name: "moldudp64", run: targets::feed::moldudp64 },
    Target { name: "pcap", run: targets::files::pcap },
    Target { name: "publisher", run: targets::texts::publisher },
    Target { name: "query", run: targets::texts::query },
    Target { name: "requests", run: targets::texts::requests },
    Target { name: "server-frames", run: targets::wire::server_frames },
    Target { name: "soupbintcp", run: targets::feed::soupbintcp },
];

/// One with a fault, which fuzzing must find, or it finds nothing: the command runs it before the others.
pub const CANARY: Target = Target { name: "canary", run: targets::canary };

/// The input that makes the canary fail.
pub const CANARY_INPUT: &[u8] = targets::CANARY_INPUT;

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().chain([CANARY]).find(|target| target.name == name)
}
