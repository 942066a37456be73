//! Whether numbers ahead of all others are vouched for by more than one packet.
//!
//! A packet that is ahead reveals a hole before it, and a hole is given up after a while: then what fills it later is
//! of no use. So a hole that only one packet speaks of is not given up. Usually the other line confirms it at once,
//! or the packets that follow do, as long as none goes on below it. If some do, nothing came of it: it is taken back.

use crate::limits::{LONE_NS_MIN, LONES_MAX, PROOF_PACKETS};

/// What is ahead, and not proven yet.
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
    found_ns: u64,
    /// Others have named numbers up to here, below it.
    below: u64,
    /// Packets that confirm it, itself among them, and those since that are below it.
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
    pub(super) fn weigh(&mut self, (from, to): (u64, u64), line: usize, (known, expected): (u64, u64), now_ns: u64) {
        if self.lones.is_empty() {
            if from <= known {
                return;
            }
            self.vouched = known;
        }
        self.vouched = self.vouched.max(expected);
        let mut is_new = from > self.vouched;
        if !is_new {
            self.vouched = self.vouched.max(to);
        }
        for lone in &mut self.lones {
            if to >= lone.at {
                lone.proofs = lone.proofs.saturating_add(1);
                lone.is_proven |= line != lone.line;
            } else {
                lone.below = lone.below.max(to);
                lone.against = lone.against.saturating_add(1);
            }
            if (lone.at..=lone.end).contains(&from) {
                lone.end = lone.end.max(to);
                is_new = false;
            }
        }
        if is_new && self.lones.len() < LONES_MAX {
            let (below, found_ns) = (self.vouched, now_ns);
            let (proofs, against, is_proven) = (1, 0, false);
            self.lones.push(Lone { at: from, end: to, line, found_ns, below, proofs, against, is_proven });
        }
        self.settle(now_ns);
    }

    /// A server has answered with the numbers before `to`, which it has from the exchange.
    pub(super) fn answered(&mut self, to: u64, now_ns: u64) {
        self.lones.iter_mut().filter(|lone| to >= lone.at).for_each(|lone| lone.is_proven = true);
        self.settle(now_ns);
    }

    /// What is proven is alone no more.
    pub(super) fn settle(&mut self, now_ns: u64) {
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

    /// Whether a hole that ends with `to` must not be given up, since nothing proves that there was one.
    pub(super) fn protects(&self, to: u64) -> bool {
        !self.lones.is_empty() && to > self.vouched
    }

    /// Something that is contradicted: the number up to which others vouch, and the one that it named. All beyond is
    /// forgotten.
    pub(super) fn take_refuted(&mut self, now_ns: u64) -> Option<(u64, u64)> {
        let is_old = |lone: &Lone| now_ns.saturating_sub(lone.found_ns) > self.proof_ns;
        let refuted = self.lones.iter().filter(|lone| is_old(lone) && lone.against >= PROOF_PACKETS);
        let refuted = *refuted.min_by_key(|lone| lone.at)?;
        let end = refuted.below.max(self.vouched);
        self.lones.retain(|lone| lone.at < end);
        Some((end, refuted.at))
    }
}

impl Lone {
    /// Whether more than one has said so; or it is the last thing that was said, for as long as anything would have
    /// contradicted it.
    fn is_proven(&self, proof_ns: u64, now_ns: u64) -> bool {
        let age_ns = now_ns.saturating_sub(self.found_ns);
        let is_repeated = self.proofs >= PROOF_PACKETS && age_ns >= LONE_NS_MIN;
        self.is_proven || self.against == 0 && (is_repeated || age_ns > proof_ns)
    }
}
