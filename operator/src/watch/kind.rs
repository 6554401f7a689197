//! Which kinds are watched.

use std::fmt;

macro_rules! kinds {
    (inputs { $($input:ident),* $(,)? } outputs { $($output:ident),* $(,)? }) => {
        /// A kind of objects.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Kind {
            $($input,)*
            $($output,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$input,)* $(Self::$output),*];
            /// The kinds that policies are made from, which a `basis` speaks of.
            pub const INPUTS: &[Self] = &[$(Self::$input),*];

            /// The kind's name, as in a `basis`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$input => stringify!($input),)*
                    $(Self::$output => stringify!($output),)*
                }
            }
        }
    };
}

kinds! {
    inputs {
        Namespace,
        Node,
        Pod,
        ServiceAccount,
        EndpointSlice,
        NetworkPolicy,
        ClusterNetworkPolicy,
        GlobalNetworkPolicy,
        SelvageNetworkPolicy,
        Tier,
        NetworkSet,
        GlobalNetworkSet,
        IPPool,
    }
    outputs {
        NodePolicy,
        AddressGroup,
        NetworkPolicyStatus,
    }
}

impl Kind {
    /// How many objects one answer to a list holds at most. One set may have 60,000 networks.
    pub fn page(self) -> u32 {
        match self {
            Self::NetworkSet | Self::GlobalNetworkSet => 20,
            _ => 500,
        }
    }

    /// The input of that name.
    pub fn input(name: &str) -> Option<Self> {
        Self::INPUTS.iter().copied().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
