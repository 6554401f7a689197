//! What an address group is made of, and its name.

use std::collections::BTreeSet;
use std::fmt;

use crate::compiled::{GroupId, GroupKind, NamedPort};
use crate::model::{Key, Namespaces, PodSet, SetSelection, given};
use crate::selector::{Quoted, Selector};

/// The label that every namespace carries with its own name (the API server sets it, and so does the index).
pub(crate) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// What a group holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GroupSpec {
    /// Addresses of pods.
    Pods(PodSet),
    /// Addresses of pods, each with the ports that carry one of the names. All names of a condition are one group: as one
    /// each, they would be more conditions than an object or a kernel rule can hold.
    PortsOfPods(PodSet, BTreeSet<NamedPort>),
    /// Networks of sets.
    Sets(SetSelection),
    /// Addresses of a Service's backends.
    Backends(Key),
    /// Address, protocol and port of a Service's backends.
    PortsOfBackends(Key),
    /// Addresses of those of a Service's backends that have every port of a protocol.
    WholeBackends(Key, u8),
    /// Addresses of nodes.
    Nodes(Selector),
}

impl GroupSpec {
    pub(crate) fn kind(&self) -> GroupKind {
        match self {
            Self::Pods(_) | Self::Sets(_) | Self::Backends(_) | Self::WholeBackends(..) | Self::Nodes(_) => {
                GroupKind::Addresses
            }
            Self::PortsOfPods(..) | Self::PortsOfBackends(_) => GroupKind::Ports,
        }
    }

    /// 128 bits of BLAKE3 over kind, scope and canonical selector: specs of equal meaning are one group.
    pub(crate) fn id(&self) -> GroupId {
        GroupId(hash128(&match self {
            Self::Pods(pods) => format!("addresses\n{pods}"),
            Self::PortsOfPods(pods, names) => {
                let name = |NamedPort { protocol, name }: &NamedPort| format!("{protocol} {}", Quoted(name));
                let names: Vec<String> = names.iter().map(name).collect();
                format!("ports {}\n{pods}", names.join(", "))
            }
            Self::Sets(SetSelection { namespaces, sets }) => match namespaces {
                None => format!("global sets\n{sets}"),
                Some(Namespaces::Named(name)) => format!("sets\nnamespace {}\n{sets}", Quoted(name)),
                Some(Namespaces::Matching(selector)) => format!("sets\nnamespaces {selector}\n{sets}"),
            },
            Self::Backends(Key { namespace, name }) => format!("backends\n{namespace}/{name}"),
            Self::PortsOfBackends(Key { namespace, name }) => {
                format!("ports of backends\n{namespace}/{name}")
            }
            Self::WholeBackends(Key { namespace, name }, protocol) => {
                format!("backends with every port of {protocol}\n{namespace}/{name}")
            }
            Self::Nodes(selector) => format!("nodes\n{selector}"),
        }))
    }
}

impl Namespaces {
    /// The canonical form; None where no namespace can match.
    fn canonical(self) -> Option<Self> {
        match self {
            Self::Named(name) => Some(Self::Named(name)),
            Self::Matching(selector) => match selector.canonical() {
                // These labels are always there and always the name.
                Selector::In(key, mut values)
                    if matches!(&*key, NAMESPACE_NAME | given::NAME) && values.len() == 1 =>
                {
                    Some(Self::Named(values.pop_first()?))
                }
                selector => (selector != Selector::nothing()).then_some(Self::Matching(selector)),
            },
        }
    }
}

impl SetSelection {
    /// The canonical form; None where no set can match.
    pub(crate) fn canonical(self) -> Option<Self> {
        let namespaces = match self.namespaces {
            None => None,
            Some(namespaces) => Some(namespaces.canonical()?),
        };
        let sets = self.sets.canonical();
        (sets != Selector::nothing()).then_some(Self { namespaces, sets })
    }
}

impl PodSet {
    /// Pods everywhere.
    pub fn all() -> Self {
        Self { namespaces: Namespaces::Matching(Selector::All), accounts: Selector::All, pods: Selector::All }
    }

    /// The canonical form; None where no pod can match.
    pub(crate) fn canonical(self) -> Option<Self> {
        let namespaces = self.namespaces.canonical()?;
        let (accounts, pods) = (self.accounts.canonical(), self.pods.canonical());
        let nothing = Selector::nothing();
        (pods != nothing && accounts != nothing).then_some(Self { namespaces, accounts, pods })
    }
}

/// The canonical text: group names are hashes of it.
impl fmt::Display for PodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespaces {
            Namespaces::Named(name) => write!(f, "namespace {}", Quoted(name))?,
            Namespaces::Matching(selector) => write!(f, "namespaces {selector}")?,
        }
        if self.accounts != Selector::All {
            write!(f, "\naccounts {}", self.accounts)?;
        }
        write!(f, "\npods {}", self.pods)
    }
}

/// 128 bits of BLAKE3 over a text.
pub(crate) fn hash128(text: &str) -> u128 {
    let mut bytes = [0; 16];
    blake3::Hasher::new().update(text.as_bytes()).finalize_xof().fill(&mut bytes);
    u128::from_be_bytes(bytes)
}
