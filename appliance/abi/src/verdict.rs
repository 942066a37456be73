//! The decisions of the programs: one counter per verdict, each with a name.

/// The program that a verdict belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// XDP: every packet that the interface receives.
    Ingress,
    /// tcx egress: every packet that the interface sends.
    Egress,
    /// `sk_reuseport`: every new connection, and every connection that waits at a listener which closes.
    Steer,
}

/// An enum of verdicts, a structure with a counter for each, and their test. Once in a module.
macro_rules! verdicts {
    (
        $(#[doc = $enum_doc:literal])+ $verdict:ident,
        $(#[doc = $counters_doc:literal])+ $counters:ident,
        $hook:ident;
        $( $(#[doc = $doc:literal])+ $variant:ident $field:ident $program:ident; )+
    ) => {
        $(#[doc = $enum_doc])+
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $verdict { $( $(#[doc = $doc])+ $variant, )+ }

        $(#[doc = $counters_doc])+
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $counters { $( $(#[doc = $doc])+ pub $field: u64, )+ }

        impl $verdict {
            /// All verdicts, in the order of the counters.
            pub const ALL: [Self; [$( Self::$variant ),+].len()] = [$( Self::$variant ),+];

            /// Name of the counter, as `bpftool` prints it.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $( Self::$variant => stringify!($field), )+ } }

            /// The program that gives this verdict.
            #[must_use]
            pub const fn hook(self) -> $hook { match self { $( Self::$variant => $hook::$program, )+ } }
        }

        impl $counters {
            /// The counter of a verdict.
            #[must_use]
            pub const fn count(&self, verdict: $verdict) -> u64 {
                match verdict { $( $verdict::$variant => self.$field, )+ }
            }
        }

        const _: () = assert!(size_of::<$counters>() == $verdict::ALL.len() * size_of::<u64>());

        #[cfg(test)]
        mod tests {
            extern crate std;
            use super::$verdict;

            #[test]
            fn every_verdict_has_its_own_slot_and_name() {
                let mut names = std::collections::HashSet::new();
                for (index, verdict) in $verdict::ALL.into_iter().enumerate() {
                    assert_eq!(verdict as usize, index);
                    assert!(names.insert(verdict.name()));
                    let hook = std::format!("{:?}_", verdict.hook()).to_lowercase();
                    assert!(verdict.name().starts_with(&hook), "{} is not one of {hook}", verdict.name());
                }
            }
        }
    };
}
pub(crate) use verdicts;

verdicts! {
    /// What a program decided about a packet (`Ingress*`, `Egress*`) or a new connection (`Steer*`). Each packet
    /// gets exactly one, so the sum over a hook's verdicts is the number of packets that the hook has seen.
    Verdict,
    /// Value of `VERDICTS` (one entry, a copy per CPU): a named counter for each [`Verdict`], in its order.
    VerdictCounters,
    Hook;

    /// TCP to one of our ports, counted in its flow.
    IngressCounted ingress_counted Ingress;
    /// TCP to one of our ports, but the flow table took no entry: counted here only.
    IngressFlowLost ingress_flow_lost Ingress;
    /// TCP to another port.
    IngressNotOurs ingress_not_ours Ingress;
    /// IP, but not TCP.
    IngressNotTcp ingress_not_tcp Ingress;
    /// Neither IPv4 nor IPv6.
    IngressNotIp ingress_not_ip Ingress;
    /// A fragment: only the first one of a packet has ports, so that no fragment is counted in a flow.
    IngressFragment ingress_fragment Ingress;
    /// Shorter than its own headers say.
    IngressRunt ingress_runt Ingress;
    /// Headers that contradict themselves.
    IngressMalformed ingress_malformed Ingress;
    /// More VLAN tags or IPv6 extension headers than we look through.
    IngressTooDeep ingress_too_deep Ingress;
    /// TCP from one of our ports, counted in its flow.
    EgressCounted egress_counted Egress;
    /// TCP from one of our ports, but the flow table took no entry: counted here only.
    EgressFlowLost egress_flow_lost Egress;
    /// TCP from another port.
    EgressNotOurs egress_not_ours Egress;
    /// IP, but not TCP.
    EgressNotTcp egress_not_tcp Egress;
    /// Neither IPv4 nor IPv6.
    EgressNotIp egress_not_ip Egress;
    /// A fragment.
    EgressFragment egress_fragment Egress;
    /// Shorter than its own headers say.
    EgressRunt egress_runt Egress;
    /// Headers that contradict themselves.
    EgressMalformed egress_malformed Egress;
    /// More VLAN tags or IPv6 extension headers than we look through.
    EgressTooDeep egress_too_deep Egress;
    /// Given to the worker that was chosen.
    SteerSelected steer_selected Steer;
    /// The chosen worker has no listener in `LISTENERS`: left to the kernel's hash.
    SteerFallback steer_fallback Steer;
    /// No worker has a weight: left to the kernel's hash.
    SteerNoWorker steer_no_worker Steer;
}
