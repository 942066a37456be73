//! The fuzz targets: a function for each parser of untrusted bytes, with the properties that must hold of all inputs.
//! libFuzzer calls them with random inputs (`cargo xtask fuzz`), ordinary tests with every file of the corpora.
//!
//! A target panics if a property does not hold. The oracles are cheap: a stream that is cut at other places gives the
//! same result, a written message is read again, a request that our parser accepts is JSON to `serde_json`, too, and
//! each refusal has a message.

mod streams;
mod targets;

/// A parser, and how it is called.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of the target for the command, and of the directory of its corpus.
    pub name: &'static str,
    /// Calls the parser. Panics if a property does not hold.
    pub run: fn(&[u8]),
}

/// All targets.
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

/// A target with a planted fault. If fuzzing does not find it, no result counts: the command runs it before the others.
pub const CANARY: Target = Target { name: "canary", run: targets::canary };

/// The input that makes the canary fail.
pub const CANARY_INPUT: &[u8] = targets::CANARY_INPUT;

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().chain([CANARY]).find(|target| target.name == name)
}
