//! What the kernel reports, as the model.
//!
//! Strict on purpose: an attribute, flag or expression that is not known may change what an object means, so it makes
//! the object unreadable, which equals no wish. What the kernel merely adds (handles, use counts, what was counted)
//! is passed over.

mod element;
mod expression;
mod set;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(super) use self::element::SetElements;
use super::connection::Counts;
use super::wire::{
    Malformed, Message, among, attributes, be32, be64, messages, optional_be32, required, text,
};
use super::{UNREADABLE, uapi};
use crate::model::{
    BaseChain, Chain, ChainKind, Elements, Hook, Name, Rule, Ruleset, Set, Shared, TableFamily,
};

/// What was read of a table so far.
#[derive(Debug, Default)]
pub(super) struct Content {
    chains: BTreeMap<Name, Option<BaseChain>>,
    strange_chains: BTreeMap<Name, String>,
    rules: Vec<(Name, Rule)>,
    sets: BTreeMap<Name, Result<set::Definition, String>>,
    elements: BTreeMap<Name, Result<Elements, String>>,
}

/// The table in recorded netlink messages: replies to dumps of chains, rules, sets and elements, one after another
/// and in that order. With it comes what was not understood, as in [`super::Table::unreadable`].
///
/// # Errors
/// The messages do not fit their lengths, or lack what every message of their kind has.
pub fn recorded(table: &str, bytes: &[u8]) -> Result<(Ruleset, Vec<String>), Malformed> {
    let mut content = Content::default();
    let mut elements: BTreeMap<Name, SetElements> = BTreeMap::new();
    for message in messages(bytes) {
        let message = message?;
        content.chain(table, &message)?;
        content.rule(table, &message)?;
        content.set(table, &message)?;
        if message.kind == nftables(uapi::message::NEWSETELEM) && is_of(message.attributes()?, table)? {
            let [set] = among(message.attributes()?, [uapi::element::LIST_SET])?;
            let set = Name::from(text(set, "the elements' set")?);
            elements.entry(set).or_default().message(&message)?;
        }
    }
    for set in content.set_names() {
        content.elements(&set, elements.remove(&set).unwrap_or_default());
    }
    Ok(content.finish())
}

/// The flags and owner of a table.
pub(super) fn table(message: &Message<'_>) -> Result<(u32, Option<u32>), Malformed> {
    let [flags, owner] = among(message.attributes()?, [uapi::table::FLAGS, uapi::table::OWNER])?;
    Ok((be32(flags, "a table's flags")?, optional_be32(owner, "a table's owner")?))
}

/// The number of a generation.
pub(super) fn generation(message: &Message<'_>) -> Result<u32, Malformed> {
    let [id] = among(message.attributes()?, [uapi::generation::ID])?;
    be32(id, "a generation's number")
}

/// Who made a generation, where the message is about one.
pub(super) fn process(message: &Message<'_>) -> Option<String> {
    if message.kind != nftables(uapi::message::NEWGEN) {
        return None;
    }
    let wanted = [uapi::generation::PROC_PID, uapi::generation::PROC_NAME];
    let [pid, name] = among(message.attributes().ok()?, wanted).ok()?;
    let name = text(name, "a process name").unwrap_or("?");
    Some(be32(pid, "a process id").map_or_else(|_| name.into(), |pid| format!("{name} ({pid})")))
}

/// True where a notice is about this table or something in it, or can't be read.
pub(super) fn concerns(message: &Message<'_>, family: TableFamily, table: &str) -> bool {
    let family = match family {
        TableFamily::Inet => uapi::NFPROTO_INET,
        TableFamily::Bridge => uapi::NFPROTO_BRIDGE,
    };
    if message.kind >> 8 != uapi::SUBSYS_NFTABLES || message.family() != Some(family) {
        return false;
    }
    message.attributes().and_then(|bytes| is_of(bytes, table)).unwrap_or(true)
}

/// Adds what a rule counted.
pub(super) fn count(
    table: &str,
    message: &Message<'_>,
    counters: &mut HashMap<(Name, Arc<str>), Counts>,
) -> Result<(), Malformed> {
    let bytes = message.attributes()?;
    if message.kind != nftables(uapi::message::NEWRULE) || !is_of(bytes, table)? {
        return Ok(());
    }
    let wanted = [uapi::rule::CHAIN, uapi::rule::EXPRESSIONS, uapi::rule::USERDATA];
    let [chain, expressions, userdata] = among(bytes, wanted)?;
    let chain = text(chain, "a rule's chain")?;
    let Some(id) = comment(userdata) else { return Ok(()) };
    for attribute in attributes(expressions.unwrap_or_default()) {
        if let Some((packets, bytes)) = expression::counted(attribute?.value)? {
            let counts = counters.entry((Name::from(chain), Arc::from(id))).or_default();
            counts.packets = counts.packets.saturating_add(packets);
            counts.bytes = counts.bytes.saturating_add(bytes);
        }
    }
    Ok(())
}

impl Content {
    pub fn forget_chains(&mut self) {
        self.chains.clear();
        self.strange_chains.clear();
    }

    pub fn forget_rules(&mut self) {
        self.rules.clear();
    }

    pub fn forget_sets(&mut self) {
        self.sets.clear();
    }

    /// Takes in a chain.
    pub fn chain(&mut self, table: &str, message: &Message<'_>) -> Result<(), Malformed> {
        let bytes = message.attributes()?;
        if message.kind != nftables(uapi::message::NEWCHAIN) || !is_of(bytes, table)? {
            return Ok(());
        }
        let wanted = [
            uapi::chain::NAME,
            uapi::chain::HOOK,
            uapi::chain::POLICY,
            uapi::chain::TYPE,
            uapi::chain::FLAGS,
        ];
        let [name, hook, policy, kind, flags] = among(bytes, wanted)?;
        let name = Name::from(text(name, "a chain's name")?);
        let flags = optional_be32(flags, "a chain's flags")?.unwrap_or(0);
        let base = match hook {
            _ if flags & !uapi::chain::F_BASE != 0 => Err(Malformed::new(format!("chain flags {flags:#x}"))),
            None => Ok(None),
            Some(hook) => base_chain(hook, policy, kind).map(Some),
        };
        if let Err(why) = &base {
            self.strange_chains.insert(name.clone(), why.to_string());
        }
        self.chains.insert(name, base.unwrap_or(None));
        Ok(())
    }

    /// Takes in a rule; rules of a chain come in their order.
    pub fn rule(&mut self, table: &str, message: &Message<'_>) -> Result<(), Malformed> {
        let bytes = message.attributes()?;
        if message.kind != nftables(uapi::message::NEWRULE) || !is_of(bytes, table)? {
            return Ok(());
        }
        let wanted = [
            uapi::rule::CHAIN,
            uapi::rule::HANDLE,
            uapi::rule::EXPRESSIONS,
            uapi::rule::COMPAT,
            uapi::rule::USERDATA,
        ];
        let [chain, handle, expressions, compat, userdata] = among(bytes, wanted)?;
        let chain = Name::from(text(chain, "a rule's chain")?);
        let read = || {
            if compat.is_some() {
                return Err(Malformed::new("made by xtables"));
            }
            expression::list(expressions.unwrap_or_default())
        };
        let rule = match read() {
            Ok(expressions) => {
                Rule { expressions: expressions.into(), id: Arc::from(comment(userdata).unwrap_or("")) }
            }
            Err(why) => {
                let handle = be64(handle, "a rule's handle").unwrap_or(0);
                unreadable_rule(&format!("rule with handle {handle}: {why}"))
            }
        };
        self.rules.push((chain, rule));
        Ok(())
    }

    /// Takes in a set's definition.
    pub fn set(&mut self, table: &str, message: &Message<'_>) -> Result<(), Malformed> {
        let bytes = message.attributes()?;
        if message.kind != nftables(uapi::message::NEWSET) || !is_of(bytes, table)? {
            return Ok(());
        }
        let [name, flags] = among(bytes, [uapi::set::NAME, uapi::set::FLAGS])?;
        let name = Name::from(text(name, "a set's name")?);
        if optional_be32(flags, "a set's flags")?.unwrap_or(0) & uapi::set::F_ANONYMOUS != 0 {
            // It comes and goes with its rule, and can't be deleted by itself.
            return Ok(());
        }
        self.sets.insert(name, set::definition(bytes).map_err(|why| why.to_string()));
        Ok(())
    }

    /// The sets whose elements are to be read.
    pub fn set_names(&self) -> Vec<Name> {
        self.sets.iter().filter(|(_, set)| set.is_ok()).map(|(name, _)| name.clone()).collect()
    }

    /// Takes in all elements of a set.
    pub fn elements(&mut self, set: &Name, elements: SetElements) {
        if let Some(Ok(definition)) = self.sets.get(set) {
            let elements = elements.finish(definition.kind, definition.key_bytes());
            self.elements.insert(set.clone(), elements.map_err(|why| why.to_string()));
        }
    }

    /// The table's content, and what was not understood of it.
    pub fn finish(mut self) -> (Ruleset, Vec<String>) {
        let mut ruleset = Ruleset::default();
        let mut unreadable = Vec::new();
        for (name, base) in self.chains {
            let mut chain = Chain { base, ..Chain::default() };
            if let Some(why) = self.strange_chains.remove(&name) {
                unreadable.push(format!("chain {name}: {why}"));
                chain.rules.push(unreadable_rule(&format!("chain: {why}")));
            }
            ruleset.chains.insert(name, chain);
        }
        for (name, rule) in self.rules {
            if let Some(why) = rule.id.strip_prefix(UNREADABLE) {
                unreadable.push(format!("chain {name}: {why}"));
            }
            ruleset.chains.entry(name).or_default().rules.push(rule);
        }
        for (name, definition) in self.sets {
            let set = definition.and_then(|definition| {
                let elements = self.elements.remove(&name).unwrap_or_else(|| Err("no elements".into()))?;
                Ok(Set { key: definition.key, elements, size: definition.size })
            });
            let set = set.unwrap_or_else(|why| {
                unreadable.push(format!("set {name}: {why}"));
                Set { key: Vec::new(), elements: Elements::Points(Default::default()), size: None }
            });
            ruleset.sets.insert(name, set);
        }
        (ruleset, unreadable)
    }
}

fn base_chain(hook: &[u8], policy: Option<&[u8]>, kind: Option<&[u8]>) -> Result<BaseChain, Malformed> {
    let [number, priority] =
        super::wire::exactly(hook, "a chain's hook", [uapi::chain::HOOK_NUMBER, uapi::chain::HOOK_PRIORITY])?;
    let hook = match be32(number, "a hook's number")? {
        0 => Hook::Prerouting,
        1 => Hook::Input,
        2 => Hook::Forward,
        3 => Hook::Output,
        4 => Hook::Postrouting,
        other => return Err(Malformed::new(format!("hook {other}"))),
    };
    let kind = match text(kind, "a chain's type")? {
        "filter" => ChainKind::Filter,
        "nat" => ChainKind::Nat,
        other => return Err(Malformed::new(format!("chain type {other:?}"))),
    };
    let drop = match optional_be32(policy, "a chain's policy")? {
        Some(uapi::data::DROP) => true,
        Some(uapi::data::ACCEPT) | None => false,
        Some(other) => return Err(Malformed::new(format!("chain policy {other}"))),
    };
    Ok(BaseChain { kind, hook, priority: be32(priority, "a hook's priority")?.cast_signed(), drop })
}

fn unreadable_rule(why: &str) -> Rule {
    Rule { expressions: Shared::default(), id: Arc::from(format!("{UNREADABLE}{why}")) }
}

/// The rule's comment in libnftnl's user data: type, length, value, over and over.
fn comment(userdata: Option<&[u8]>) -> Option<&str> {
    let mut rest = userdata?;
    while let [kind, length, tail @ ..] = rest {
        let (value, next) = tail.split_at_checked(usize::from(*length))?;
        if *kind == uapi::rule::USERDATA_COMMENT {
            return std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok();
        }
        rest = next;
    }
    None
}

fn is_of(bytes: &[u8], table: &str) -> Result<bool, Malformed> {
    let [name] = among(bytes, [uapi::TABLE_NAME])?;
    Ok(text(Some(required(name, "the table's name")?), "the table's name")? == table)
}

fn nftables(message: u16) -> u16 {
    uapi::SUBSYS_NFTABLES << 8 | message
}
