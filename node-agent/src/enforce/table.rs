//! What stands in the kernel, and the way from there to what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use selvage_nftables::diff::{self, Plan};
use selvage_nftables::model::{Name, Ruleset, TableFamily};
use selvage_nftables::netlink::{self, Table};
use selvage_nftables::render::owners::{self, Owner};
use selvage_nftables::transaction::{Op, Transaction};
use selvage_policy::compiled::NodePolicy;

use super::endpoints::Placement;
use super::kernel::KernelError;
use crate::metrics::Sizes;
use crate::watch::groups::GroupView;

/// What is known of the agent's tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub inet: Standing,
    pub bridge: Standing,
}

impl Tables {
    /// Both families, the one that judges first.
    pub(super) const FAMILIES: [TableFamily; 2] = [TableFamily::Inet, TableFamily::Bridge];

    pub(super) fn of(&mut self, family: TableFamily) -> &mut Standing {
        match family {
            TableFamily::Inet => &mut self.inet,
            TableFamily::Bridge => &mut self.bridge,
        }
    }

    /// True where one of them must be read before it is written.
    pub(super) fn unknown(&self) -> bool {
        [&self.inet, &self.bridge].into_iter().any(|standing| *standing == Standing::Unknown)
    }
}

/// What is known of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Standing {
    /// Nothing, until it is read.
    #[default]
    Unknown,
    /// There is none.
    Absent,
    /// It holds just this, and transactions may go ahead.
    Ours(Ruleset),
    /// It holds just this, and must be adopted (or switched on) first.
    Adoptable(Ruleset),
    /// It can only be replaced as a whole: it is nobody's, or can't be understood. With what could be read of it.
    Replaceable(Ruleset),
}

impl Standing {
    /// Takes in what was read. Returns what differs where the table was known to be otherwise.
    ///
    /// # Errors
    /// Where somebody else owns the table.
    pub(super) fn learn(&mut self, read: Option<Table>) -> Result<Option<String>, KernelError> {
        let next = match read {
            None => Self::Absent,
            Some(table) => match table.standing {
                netlink::Standing::Foreign { port } => {
                    *self = Self::Unknown;
                    return Err(KernelError::Foreign(port));
                }
                netlink::Standing::Unowned => Self::Replaceable(table.ruleset),
                netlink::Standing::Orphan | netlink::Standing::Ours if !table.unreadable.is_empty() => {
                    tracing::warn!(parts = ?table.unreadable, "the table holds what this agent can't read");
                    Self::Replaceable(table.ruleset)
                }
                netlink::Standing::Orphan => Self::Adoptable(table.ruleset),
                netlink::Standing::Ours if table.dormant => Self::Adoptable(table.ruleset),
                netlink::Standing::Ours => Self::Ours(table.ruleset),
            },
        };
        let difference = match (&*self, &next) {
            (Self::Unknown, _) => None,
            (before, after) if before == after => None,
            (Self::Ours(before), Self::Ours(after)) => Some(difference(before, after)),
            (Self::Ours(_), Self::Absent) => Some("the table is gone".to_owned()),
            (Self::Absent, _) => Some("there is a table where none should be".to_owned()),
            _ => Some("the table is not the one that was made".to_owned()),
        };
        *self = next;
        Ok(difference)
    }

    /// The plan to what is wanted; `closed` is what stands while a first table is built.
    ///
    /// # Errors
    /// Where what stands is not known.
    pub(super) fn plan(
        &self,
        wanted: &Ruleset,
        closed: impl FnOnce() -> Ruleset,
    ) -> Result<Plan, KernelError> {
        Ok(match self {
            Self::Unknown => return Err(KernelError::Other("the table is not known".to_owned())),
            Self::Absent => diff::cold_start(&closed(), wanted),
            Self::Ours(standing) => diff::update(standing, wanted),
            Self::Adoptable(standing) => {
                let mut plan = diff::update(standing, wanted);
                plan.transactions.insert(0, Transaction { ops: vec![Op::AddTable] });
                plan
            }
            Self::Replaceable(_) => diff::replace(wanted),
        })
    }

    /// The plan to no table.
    ///
    /// # Errors
    /// Where what stands is not known.
    pub(super) fn removal(&self) -> Result<Plan, KernelError> {
        match self {
            Self::Unknown => Err(KernelError::Other("the table is not known".to_owned())),
            Self::Absent => Ok(Plan::default()),
            _ => Ok(diff::remove()),
        }
    }

    /// What is wrong with a table that is found at the start, where no agent left it so.
    pub(super) fn stranger(&self) -> Option<String> {
        matches!(self, Self::Replaceable(_))
            .then(|| "a table that no agent left so stood in its place".to_owned())
    }

    /// Which pod each of the node's addresses belongs to, as the table says.
    pub(super) fn owners(&self) -> BTreeMap<IpAddr, Owner> {
        self.known().map(owners::recorded).unwrap_or_default()
    }

    /// What the table holds, as far as it is known.
    pub(super) fn known(&self) -> Option<&Ruleset> {
        match self {
            Self::Ours(ruleset) | Self::Adoptable(ruleset) | Self::Replaceable(ruleset) => Some(ruleset),
            Self::Unknown | Self::Absent => None,
        }
    }

    /// What the table holds, where it can be changed in place.
    pub(super) fn changeable(&self) -> Option<&Ruleset> {
        match self {
            Self::Ours(ruleset) | Self::Adoptable(ruleset) => Some(ruleset),
            Self::Unknown | Self::Absent | Self::Replaceable(_) => None,
        }
    }
}

/// A few names of what differs, for the log.
fn difference(before: &Ruleset, after: &Ruleset) -> String {
    fn names<V: PartialEq>(
        before: &BTreeMap<Name, V>,
        after: &BTreeMap<Name, V>,
        what: &str,
        into: &mut Vec<String>,
    ) {
        let all: BTreeSet<&Name> = before.keys().chain(after.keys()).collect();
        let differ = all.into_iter().filter(|name| before.get(*name) != after.get(*name));
        into.extend(differ.map(|name| format!("{what} {name}")));
    }
    let mut all = Vec::new();
    names(&before.chains, &after.chains, "chain", &mut all);
    names(&before.sets, &after.sets, "set", &mut all);
    let rest = all.len().saturating_sub(8);
    all.truncate(8);
    match rest {
        0 => all.join(", "),
        rest => format!("{} and {rest} more", all.join(", ")),
    }
}

/// How much the wanted table holds.
pub(super) fn sizes(
    ruleset: &Ruleset,
    policy: &NodePolicy,
    placement: &Placement,
    groups: &GroupView,
) -> Sizes {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let placed = placement
        .addresses
        .keys()
        .filter(|key| policy.endpoints.get(*key).is_some_and(|e| policy.profiles.contains_key(&e.profile)));
    Sizes {
        endpoints: count(placed.count()),
        rules: count(ruleset.chains.values().map(|chain| chain.rules.len()).sum()),
        elements: count(ruleset.sets.values().map(|set| set.elements.len()).sum()),
        groups: count(policy.groups.iter().filter(|group| groups.groups.contains_key(*group)).count()),
    }
}
