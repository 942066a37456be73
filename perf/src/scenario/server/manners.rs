//! How subscribers talk to a server.

use std::net::SocketAddrV4;

use crate::scenario::message;

#[derive(Debug, Clone)]
pub(crate) struct Manners {
    pub(crate) addr: SocketAddrV4,
    /// Path and query of the URL, a template.
    pub(crate) target: String,
    pub(crate) protocol: Option<String>,
    /// Templates of what a client says once it is connected.
    pub(crate) subscribe: Vec<String>,
    pub(crate) is_binary: bool,
    /// The value of `--expect-preamble` of `fanblade-swarm`.
    pub(crate) preamble: String,
    /// The server joins messages, or cuts them into frames.
    pub(crate) joins_messages: bool,
    /// Templates of what a client says to leave a subject of its list, and to take another.
    pub(crate) change: Option<[String; 2]>,
}

impl Manners {
    /// Manners of a server whose clients say all in their request, and get text messages one by one from then on.
    pub(crate) fn plain(addr: SocketAddrV4, target: &str) -> Manners {
        Manners {
            addr,
            target: target.to_owned(),
            protocol: None,
            subscribe: Vec::new(),
            is_binary: false,
            preamble: "0".to_owned(),
            joins_messages: false,
            change: None,
        }
    }

    /// Manners of the blade and its data path, which answer a subscription first.
    pub(super) fn of_blade(addr: SocketAddrV4, mode: &str) -> Manners {
        let target = format!("/v1/stream?subjects={}&mode={mode}", message::SUBJECT);
        Manners { preamble: "1".to_owned(), ..Manners::plain(addr, &target) }
    }

    /// The same for clients with `subjects` subjects each.
    pub(crate) fn of_blade_with_lists(addr: SocketAddrV4, mode: &str, subjects: u32) -> Manners {
        let target = format!("/v1/stream?subjects={}&mode={mode}", message::SUBJECTS);
        let request = |op: &str, more: &str| {
            format!(r#"{{"op":"{op}","id":{{subject}},"subjects":["{}"]{more}}}"#, message::SUBJECT)
        };
        let take = request("subscribe", &format!(r#","mode":"{mode}""#));
        Manners {
            preamble: subjects.div_ceil(SUBJECTS_PER_REPLY).to_string(),
            change: Some([request("unsubscribe", ""), take]),
            ..Manners::plain(addr, &target)
        }
    }
}

/// The most subjects that one reply of the blade names.
const SUBJECTS_PER_REPLY: u32 = 64;
