//! Whether numbers ahead of all others are vouched for by more than one packet.
//!
//! A packet that is ahead reveals a hole before it, and a hole is given up after a while: then what fills it later is
//! of no use. So a hole that only one packet speaks of is not given up. Usually the other line confirms it at once,
//! or the packets that follow do, as long as none goes on below it. If some do, nothing came of it: it is taken back.
//! Each such claim stands or falls by itself, and none is evidence against another. What is known to exist is what is
//! vouched for, and what those claim that still stand.

use super::clock::Running;
use crate::limits::{LONE_NS_MIN, LONES_MAX, PROOF_PACKETS};

/// Claims of numbers ahead that are not proven yet.
#[derive(Debug)]
pub(super) struct Evidence {
    lones: Vec<Lone>,
    /// Numbers before this are vouched for. Of interest only while something is not.
    vouched: u64,
    proof_ns: u64,
}

/// A packet that was ahead of all that is vouched for, and what followed it without a hole.
#[derive(Debug, Clone, Copy)]
struct Lone {
    at: u64,
    end: u64,
    line: usize,
    found_ns: Running,
    /// Packets that confirm it, itself among them, and those since that went on below it.
    proofs: u32,
    against: u32,
    is_proven: bool,
}

impl Evidence {
    pub(super) fn new(proof_ns: u64) -> Self {
        Self { lones: Vec::with_capacity(LONES_MAX), vouched: 0, proof_ns }
    }

    pub(super) fn clear(&mut self) {
        self.lones.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lones.is_empty()
    }

    /// A packet has come by a line, with the numbers `from..to`; those before `known` were known, and those before
    /// `expected` have been passed on.
    pub(super) fn weigh(
        &mut self,
        (from, to): (u64, u64),
        line: usize,
        (known, expected): (u64, u64),
        now_ns: Running,
    ) {
        if self.lones.is_empty() {
            if from <= known {
                return;
            }
            self.vouched = known;
        }
        self.vouched = self.vouched.max(expected);
        if from <= self.vouched {
            self.vouched = self.vouched.max(to);
        }
        // What only repeats, or is as far ahead as nobody else, contradicts nothing.
        let goes_on = from <= self.vouched && (from >= expected || to > expected);
        let mut is_new = true;
        for lone in &mut self.lones {
            if to >= lone.at {
                lone.proofs = lone.proofs.saturating_add(1);
                lone.is_proven |= line != lone.line;
            } else if goes_on {
                lone.against = lone.against.saturating_add(1);
            }
            if (lone.at..=lone.end).contains(&from) {
                lone.end = lone.end.max(to);
                is_new = false;
            }
        }
        self.settle(now_ns);
        if is_new && from > self.vouched {
            self.add(Lone { at: from, end: to, line, found_ns: now_ns, proofs: 1, against: 0, is_proven: false });
        }
        self.settle(now_ns);
    }

    /// Where there is no place for another, the furthest of all speaks for those that it is beyond.
    fn add(&mut self, lone: Lone) {
        if self.lones.len() < LONES_MAX {
            self.lones.push(lone);
        } else if let Some(last) = self.lones.iter_mut().max_by_key(|last| last.at) {
            let end = last.end.max(lone.end);
            *last = Lone { end, ..if lone.at > last.at { lone } else { *last } };
        }
    }

    /// A known sender names numbers up to `to`.
    pub(super) fn vouch(&mut self, to: u64, now_ns: Running) {
        self.vouched = self.vouched.max(to);
        self.settle(now_ns);
    }

    /// A server has answered with the numbers before `to`, which it has from the exchange.
    pub(super) fn answered(&mut self, to: u64, now_ns: Running) {
        self.lones.iter_mut().filter(|lone| to >= lone.at).for_each(|lone| lone.is_proven = true);
        self.settle(now_ns);
    }

    /// Forgets claims that have been proven.
    pub(super) fn settle(&mut self, now_ns: Running) {
        let proof_ns = self.proof_ns;
        while let Some(at) = self
            .lones
            .iter()
            .position(|lone| lone.end <= self.vouched || lone.at <= self.vouched || lone.is_proven(proof_ns, now_ns))
        {
            let lone = self.lones.swap_remove(at);
            self.vouched = self.vouched.max(lone.end);
        }
    }

    /// Must a hole that ends with `to` not be given up, since nothing proves that there was one?
    pub(super) fn protects(&self, to: u64) -> bool {
        !self.lones.is_empty() && to > self.vouched
    }

    /// The number after the highest that is known to exist, while something is not vouched for, or was not until now.
    pub(super) fn end(&self) -> u64 {
        self.lones.iter().map(|lone| lone.end).fold(self.vouched, u64::max)
    }

    /// A claim that is contradicted, and stands no longer: the first number that it named, and the last.
    pub(super) fn take_refuted(&mut self, now_ns: Running) -> Option<(u64, u64)> {
        let proof_ns = self.proof_ns;
        let refuted = self.lones.iter().enumerate().filter(|(_, lone)| lone.is_refuted(proof_ns, now_ns));
        let (at, _) = refuted.min_by_key(|(_, lone)| lone.at)?;
        let lone = self.lones.swap_remove(at);
        Some((lone.at, lone.end))
    }
}

impl Lone {
    /// Whether more than one has said so; or it is the last thing that was said, for as long as anything would have
    /// contradicted it; or more has confirmed it than gone on below it, which a packet that was overtaken does.
    fn is_proven(&self, proof_ns: u64, now_ns: Running) -> bool {
        let age_ns = now_ns.since(self.found_ns);
        let is_repeated = self.proofs >= PROOF_PACKETS && age_ns >= LONE_NS_MIN;
        let is_upheld = self.proofs >= PROOF_PACKETS && self.proofs > self.against && age_ns > proof_ns;
        self.is_proven || is_upheld || self.against == 0 && (is_repeated || age_ns > proof_ns)
    }
    /// Has the feed gone on below it?
    fn is_refuted(&self, proof_ns: u64, now_ns: Running) -> bool {
        self.against >= PROOF_PACKETS && now_ns.since(self.found_ns) > proof_ns
    }
}
