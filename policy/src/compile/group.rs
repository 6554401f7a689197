//! What an address group is made of, and its name.

use std::fmt;

use crate::compiled::{GroupId, GroupKind, NamedPort};
use crate::model::{Namespaces, PodSet};
use crate::selector::{Quoted, Selector};

/// The label that every namespace carries with its own name (the API server sets it, and so does the index).
pub(crate) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// What a group holds of which pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupSpec {
    /// The pods, in canonical form.
    pub(crate) pods: PodSet,
    /// None: their addresses. A name: each address with the ports that carry the name.
    pub(crate) port: Option<NamedPort>,
}

impl GroupSpec {
    pub(crate) fn kind(&self) -> GroupKind {
        if self.port.is_none() { GroupKind::Addresses } else { GroupKind::Ports }
    }

    /// 128 bits of BLAKE3 over kind, scope and canonical selector: specs of equal meaning are one group.
    pub(crate) fn id(&self) -> GroupId {
        let kind = match &self.port {
            None => "addresses".to_owned(),
            Some(port) => format!("ports {} {}", port.protocol, Quoted(&port.name)),
        };
        GroupId(hash128(&format!("{kind}\n{}", self.pods)))
    }
}

impl PodSet {
    /// Pods everywhere.
    pub fn all() -> Self {
        Self { namespaces: Namespaces::Matching(Selector::All), accounts: Selector::All, pods: Selector::All }
    }

    /// The canonical form; None where no pod can match.
    pub(crate) fn canonical(self) -> Option<Self> {
        let namespaces = match self.namespaces {
            Namespaces::Named(name) => Namespaces::Named(name),
            Namespaces::Matching(selector) => match selector.canonical() {
                // The label is always there and always the name.
                Selector::In(key, mut values) if &*key == NAMESPACE_NAME && values.len() == 1 => {
                    Namespaces::Named(values.pop_first()?)
                }
                selector => Namespaces::Matching(selector),
            },
        };
        let nothing = Selector::nothing();
        let (accounts, pods) = (self.accounts.canonical(), self.pods.canonical());
        let possible = pods != nothing
            && accounts != nothing
            && !matches!(&namespaces, Namespaces::Matching(s) if *s == nothing);
        possible.then_some(Self { namespaces, accounts, pods })
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
