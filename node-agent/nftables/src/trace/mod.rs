//! Follows a packet through a ruleset, as the kernel would.
//!
//! The tracer interprets the same expressions that go to the kernel, over real header bytes, so that tests and
//! explanations see what the rules do and not what was meant. It is strict: where the kernel would read rubbish (a
//! register never loaded, conntrack before it has run) it returns an error.

mod packet;

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

pub use packet::{Conntrack, Packet, Routing, Transport};

use crate::model::{
    Chain, ChainKind, CmpOp, CtKey, Elements, Expr, Hook, Key, MetaKey, Name, PayloadBase, Range, Reg,
    Ruleset, Verdict,
};

/// NF_IP_PRI_CONNTRACK: below it nothing is known of the connection.
const CONNTRACK_PRIORITY: i32 = -200;
/// NF_CT_STATE_BIT of new.
const NEW: u32 = 8;
/// NFT_JUMP_STACK_SIZE.
const STACK: usize = 16;

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// True where no base chain dropped it.
    pub accepted: bool,
    /// The rule whose verdict was the last: for a dropped packet the one that dropped it. None where none matched.
    pub decided_by: Option<Arc<str>>,
    /// Every verdict on the way, in order.
    pub steps: Vec<Step>,
    /// Rules that noted the packet.
    pub logged: Vec<Arc<str>>,
    /// The packet gets the address of the interface that it leaves by.
    pub masqueraded: bool,
}

/// One rule that gave a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// In which chain.
    pub chain: Name,
    /// Which rule.
    pub rule: Arc<str>,
    /// What it said.
    pub verdict: Verdict,
}

/// Why a ruleset can't be followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TraceError {
    /// A register is read that holds nothing.
    #[error("chain {chain}, rule {rule}: register {register} is read before it is loaded")]
    Unloaded {
        /// In which chain.
        chain: Name,
        /// Which rule.
        rule: Arc<str>,
        /// Which 32-bit register.
        register: u8,
    },
    /// Conntrack is asked before it has seen the packet.
    #[error("chain {chain}, rule {rule}: conntrack has not run at this hook and priority")]
    NoConntrack {
        /// In which chain.
        chain: Name,
        /// Which rule.
        rule: Arc<str>,
    },
    /// An interface is asked for at a hook that does not know it.
    #[error("chain {chain}, rule {rule}: the packet has no {key:?} at this hook")]
    NoInterface {
        /// In which chain.
        chain: Name,
        /// Which rule.
        rule: Arc<str>,
        /// Which interface.
        key: MetaKey,
    },
    /// A chain or set is missing, or of the wrong sort.
    #[error("chain {chain}, rule {rule}: {name} is missing or of another sort")]
    Missing {
        /// In which chain.
        chain: Name,
        /// Which rule.
        rule: Arc<str>,
        /// What is missing.
        name: Name,
    },
    /// Chains nest too deep, or in circles.
    #[error("chain {0}: nested deeper than {STACK}")]
    TooDeep(Name),
}

/// Follows a packet through all hooks on its way.
pub fn trace(ruleset: &Ruleset, packet: &Packet) -> Result<Trace, TraceError> {
    let mut trace =
        Trace { accepted: true, decided_by: None, steps: Vec::new(), logged: Vec::new(), masqueraded: false };
    for hook in packet.hooks() {
        let mut bases: BTreeMap<(i32, &Name), &Chain> = BTreeMap::new();
        for (name, chain) in &ruleset.chains {
            // Address translation asks its chains for the first packet of a connection alone.
            let asked = |kind| kind != ChainKind::Nat || packet.conntrack.state & NEW != 0;
            if let Some(base) = chain.base.filter(|base| base.hook == *hook && asked(base.kind)) {
                bases.insert((base.priority, name), chain);
            }
        }
        for ((priority, name), chain) in bases {
            let mut run = Run { ruleset, packet, hook: *hook, priority, trace: &mut trace };
            let drop_by_default = chain.base.is_some_and(|base| base.drop);
            let dropped = match run.chain(name, chain, 0)? {
                End::Accept => false,
                End::Drop => true,
                End::FellOut => drop_by_default,
            };
            if dropped {
                trace.accepted = false;
                return Ok(trace);
            }
        }
    }
    Ok(trace)
}

/// How a chain ended.
enum End {
    Accept,
    Drop,
    FellOut,
}

struct Run<'a> {
    ruleset: &'a Ruleset,
    packet: &'a Packet,
    hook: Hook,
    priority: i32,
    trace: &'a mut Trace,
}

/// What a rule came to.
enum Outcome {
    Broke,
    Verdict(Verdict),
}

impl Run<'_> {
    fn chain(&mut self, name: &Name, chain: &Chain, depth: usize) -> Result<End, TraceError> {
        if depth >= STACK {
            return Err(TraceError::TooDeep(name.clone()));
        }
        for rule in &chain.rules {
            let Outcome::Verdict(verdict) = self.rule(name, &rule.id, &rule.expressions)? else { continue };
            self.trace.decided_by = Some(rule.id.clone());
            self.trace.steps.push(Step {
                chain: name.clone(),
                rule: rule.id.clone(),
                verdict: verdict.clone(),
            });
            let to = match &verdict {
                Verdict::Accept => return Ok(End::Accept),
                Verdict::Drop => return Ok(End::Drop),
                Verdict::Return => return Ok(End::FellOut),
                Verdict::Jump(to) | Verdict::Goto(to) => to,
            };
            let next = self.ruleset.chains.get(to).ok_or_else(|| TraceError::Missing {
                chain: name.clone(),
                rule: rule.id.clone(),
                name: to.clone(),
            })?;
            match (self.chain(to, next, depth + 1)?, &verdict) {
                (End::FellOut, Verdict::Jump(_)) => {}
                (end, _) => return Ok(end),
            }
        }
        Ok(End::FellOut)
    }

    fn rule(&mut self, chain: &Name, id: &Arc<str>, expressions: &[Expr]) -> Result<Outcome, TraceError> {
        let mut registers = Registers::default();
        for expression in expressions {
            let unloaded =
                |register| TraceError::Unloaded { chain: chain.clone(), rule: id.clone(), register };
            let missing = |name: &Name| TraceError::Missing {
                chain: chain.clone(),
                rule: id.clone(),
                name: name.clone(),
            };
            let holds = match expression {
                Expr::Meta { key, dreg } => {
                    let value = self.meta(*key).ok_or_else(|| TraceError::NoInterface {
                        chain: chain.clone(),
                        rule: id.clone(),
                        key: *key,
                    })?;
                    registers.load(*dreg, &value)
                }
                Expr::Payload { base, offset, len, dreg } => match self.payload(*base, *offset, *len) {
                    Some(bytes) => registers.load(*dreg, &bytes),
                    None => false,
                },
                Expr::Ct { key, dreg } => {
                    if self.hook == Hook::Prerouting && self.priority <= CONNTRACK_PRIORITY {
                        return Err(TraceError::NoConntrack { chain: chain.clone(), rule: id.clone() });
                    }
                    registers.load(*dreg, &self.ct(*key))
                }
                Expr::Fib { flags, result, dreg } => {
                    registers.load(*dreg, &self.packet.routing.fib(*flags, *result).to_ne_bytes())
                }
                Expr::Bitwise { sreg, dreg, mask, xor } => {
                    let value = registers.read(*sreg, mask.len()).map_err(unloaded)?;
                    let value: Vec<u8> =
                        value.iter().zip(mask).zip(xor).map(|((v, m), x)| (v & m) ^ x).collect();
                    registers.load(*dreg, &value)
                }
                Expr::Cmp { sreg, op, data } => {
                    let value = registers.read(*sreg, data.len()).map_err(unloaded)?;
                    compare(*op, &value, data)
                }
                Expr::Range { sreg, negated, from, to } => {
                    let value = registers.read(*sreg, from.len()).map_err(unloaded)?;
                    (*from <= value && value <= *to) != *negated
                }
                Expr::Lookup { set, sreg, negated } => {
                    let found = self.ruleset.sets.get(set).ok_or_else(|| missing(set))?;
                    let key = Key::new(&registers.read(*sreg, found.key_len()).map_err(unloaded)?)
                        .ok_or_else(|| missing(set))?;
                    let is_in = match &found.elements {
                        Elements::Points(points) => points.contains(&key),
                        Elements::Ranges(ranges) => {
                            let latest = Key::new(&vec![0xff; key.as_bytes().len()]).unwrap_or(key);
                            let reaches = |range: Range| range.first <= key && key <= range.last;
                            ranges.floor(&Range { first: key, last: latest }).is_some_and(reaches)
                        }
                        Elements::Verdicts(_) => return Err(missing(set)),
                    };
                    is_in != *negated
                }
                Expr::VerdictMap { map, sreg } => {
                    let found = self.ruleset.sets.get(map).ok_or_else(|| missing(map))?;
                    let key = Key::new(&registers.read(*sreg, found.key_len()).map_err(unloaded)?)
                        .ok_or_else(|| missing(map))?;
                    let Elements::Verdicts(verdicts) = &found.elements else { return Err(missing(map)) };
                    match verdicts.get(&key) {
                        Some(verdict) => return Ok(Outcome::Verdict(verdict.clone())),
                        None => false,
                    }
                }
                Expr::Verdict(verdict) => return Ok(Outcome::Verdict(verdict.clone())),
                Expr::Log { .. } => {
                    self.trace.logged.push(id.clone());
                    true
                }
                // A single packet is never over a limit.
                Expr::Counter | Expr::Limit { .. } => true,
                // Ends the chain (`nf_nat_setup_info` gives NF_ACCEPT).
                Expr::Masquerade => {
                    self.trace.masqueraded = true;
                    return Ok(Outcome::Verdict(Verdict::Accept));
                }
            };
            if !holds {
                return Ok(Outcome::Broke);
            }
        }
        Ok(Outcome::Broke)
    }

    fn meta(&self, key: MetaKey) -> Option<Vec<u8>> {
        let interface = |name: Option<&Arc<str>>| {
            let mut bytes = name?.as_bytes().to_vec();
            bytes.resize(16, 0);
            Some(bytes)
        };
        let leaves = matches!(self.hook, Hook::Forward | Hook::Output | Hook::Postrouting);
        let comes = matches!(self.hook, Hook::Prerouting | Hook::Input | Hook::Forward);
        match key {
            MetaKey::IifName => interface(self.packet.iif.as_ref().filter(|_| comes)),
            MetaKey::OifName => interface(self.packet.oif.as_ref().filter(|_| leaves)),
            MetaKey::NfProto => Some(vec![self.packet.nfproto()]),
            MetaKey::L4Proto => Some(vec![self.packet.transport.protocol()]),
            MetaKey::PktType => Some(vec![self.packet.packet_type]),
            // A look at frames, which are not traced.
            MetaKey::IifKind => None,
        }
    }

    fn payload(&self, base: PayloadBase, offset: u32, len: u32) -> Option<Vec<u8>> {
        let header = match base {
            PayloadBase::LinkLayer => return None,
            PayloadBase::Network => self.packet.network_header(self.hook),
            PayloadBase::Transport => self.packet.transport.header(),
        };
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        header.get(start..end).map(<[u8]>::to_vec)
    }

    fn ct(&self, key: CtKey) -> Vec<u8> {
        match key {
            CtKey::State => self.packet.conntrack.state.to_ne_bytes().to_vec(),
            CtKey::Status => self.packet.conntrack.status.to_ne_bytes().to_vec(),
            CtKey::Direction => vec![u8::from(self.packet.conntrack.reply)],
        }
    }
}

fn compare(op: CmpOp, value: &[u8], data: &[u8]) -> bool {
    match op {
        CmpOp::Eq => value == data,
        CmpOp::Neq => value != data,
        CmpOp::Lt => value < data,
        CmpOp::Lte => value <= data,
        CmpOp::Gt => value > data,
        CmpOp::Gte => value >= data,
    }
}

/// 16 registers of 4 bytes; None where nothing was loaded.
#[derive(Default)]
struct Registers([Option<[u8; 4]>; 16]);

impl Registers {
    /// Always true, as a load never breaks a rule by itself.
    fn load(&mut self, dreg: Reg, value: &[u8]) -> bool {
        let words = value.chunks(4).map(|chunk| {
            let mut word = [0; 4];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            word
        });
        self.0.iter_mut().skip(usize::from(dreg.0)).zip(words).for_each(|(to, word)| *to = Some(word));
        true
    }

    fn read(&self, sreg: Reg, len: usize) -> Result<Vec<u8>, u8> {
        let mut bytes = Vec::with_capacity(len);
        for register in (sreg.0..).take(len.div_ceil(4)) {
            let word = self.0.get(usize::from(register)).copied().flatten().ok_or(register)?;
            bytes.extend_from_slice(&word);
        }
        bytes.truncate(len);
        Ok(bytes)
    }
}
