//! Rules and their expressions.

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, Nla};
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta,
    MetaKey as MetaKeyAttribute, Operator, Payload, Register, RuleAttribute, Verdict as VerdictCode,
    VerdictAttribute,
};

use super::{InvalidOp, checked};
use crate::model::{CmpOp, Expr, Reg, Rule, Verdict};
use crate::netlink::uapi::{data, expr, register, rule as uapi};
use crate::netlink::{RULE_ID_BYTES, UNREADABLE};

/// Longest log prefix (`NF_LOG_PREFIXLEN` with its NUL).
const LOG_PREFIX_BYTES: usize = 127;
/// Bytes in all registers.
const REGISTER_BYTES: usize = 64;

/// The attributes of a new rule.
pub(super) fn attributes(table: &str, chain: String, rule: &Rule) -> Result<Vec<RuleAttribute>, InvalidOp> {
    let expressions = rule.expressions.iter().map(|e| expression(e).map(ListAttribute::from));
    let mut attributes = vec![
        RuleAttribute::Table(table.into()),
        RuleAttribute::Chain(chain),
        RuleAttribute::Expressions(expressions.collect::<Result<_, _>>()?),
    ];
    if !rule.id.is_empty() {
        attributes.push(RuleAttribute::UserData(comment(&rule.id)?));
    }
    Ok(attributes)
}

/// A rule's comment in the form of libnftnl's user data (type, length, text with NUL), so that `nft` shows it.
fn comment(id: &str) -> Result<Vec<u8>, InvalidOp> {
    let length = u8::try_from(id.len() + 1).ok();
    let valid = id.len() <= RULE_ID_BYTES && !id.contains('\0') && !id.starts_with(UNREADABLE);
    let (true, Some(length)) = (valid, length) else { return Err(InvalidOp::RuleId(id.into())) };
    let mut bytes = vec![uapi::USERDATA_COMMENT, length];
    bytes.extend_from_slice(id.as_bytes());
    bytes.push(0);
    Ok(bytes)
}

fn expression(expression: &Expr) -> Result<Expressions, InvalidOp> {
    Ok(match expression {
        Expr::Meta { key, dreg } => Expressions::Meta(vec![
            Meta::DestinationRegister(register(*dreg, 1)?),
            Meta::Key(MetaKeyAttribute::from(*key as u32)),
        ]),
        Expr::Payload { base, offset, len, dreg } => Expressions::Payload(vec![
            Payload::DestinationRegister(register(*dreg, usize::try_from(*len).unwrap_or(usize::MAX))?),
            Payload::Base(*base as u32),
            Payload::Offset(*offset),
            Payload::Len(*len),
        ]),
        Expr::Ct { key, dreg } => {
            other("ct", vec![reg32(expr::CT_DREG, *dreg)?, be32(expr::CT_KEY, *key as u32)])
        }
        Expr::Fib { flags, result, dreg } => other(
            "fib",
            vec![
                reg32(expr::FIB_DREG, *dreg)?,
                be32(expr::FIB_RESULT, *result),
                be32(expr::FIB_FLAGS, *flags),
            ],
        ),
        Expr::Bitwise { sreg, dreg, mask, xor } => {
            if mask.len() != xor.len() {
                return Err(InvalidOp::Value("mask and xor differ in length"));
            }
            Expressions::Bitwise(vec![
                Bitwise::SourceRegister(register(*sreg, mask.len())?),
                Bitwise::DestinationRegister(register(*dreg, mask.len())?),
                Bitwise::Length(u32::try_from(mask.len()).unwrap_or(u32::MAX)),
                Bitwise::Mask(DataAttribute::Value(mask.clone())),
                Bitwise::Xor(DataAttribute::Value(xor.clone())),
            ])
        }
        Expr::Cmp { sreg, op, data } => Expressions::Cmp(vec![
            Cmp::SourceRegister(register(*sreg, data.len())?),
            Cmp::Op(operator(*op)),
            Cmp::Data(DataAttribute::Value(data.clone())),
        ]),
        Expr::Range { sreg, negated, from, to } => other(
            "range",
            vec![
                be32(expr::RANGE_SREG, u32::from(register(*sreg, from.len().max(to.len()))?)),
                be32(expr::RANGE_OP, if *negated { expr::RANGE_NEQ } else { expr::RANGE_EQ }),
                value(expr::RANGE_FROM, from),
                value(expr::RANGE_TO, to),
            ],
        ),
        Expr::Lookup { set, sreg, negated } => {
            let mut lookup = vec![Lookup::Set(checked(set)?), Lookup::SourceRegister(register(*sreg, 1)?)];
            if *negated {
                lookup.push(Lookup::Flags(expr::LOOKUP_F_INV));
            }
            Expressions::Lookup(lookup)
        }
        Expr::VerdictMap { map, sreg } => Expressions::Lookup(vec![
            Lookup::Set(checked(map)?),
            Lookup::SourceRegister(register(*sreg, 1)?),
            Lookup::DestinationRegister(Register::Verdict),
        ]),
        Expr::Verdict(verdict) => Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(verdict_data(verdict)?),
        ]),
        Expr::Counter => other("counter", Vec::new()),
        Expr::Limit { rate, unit, burst } => {
            if *rate == 0 || *unit == 0 || *burst == 0 {
                return Err(InvalidOp::Value("a limit needs a rate, a unit and a burst above zero"));
            }
            other(
                "limit",
                vec![
                    be64(expr::LIMIT_RATE, *rate),
                    be64(expr::LIMIT_UNIT, *unit),
                    be32(expr::LIMIT_BURST, *burst),
                ],
            )
        }
        Expr::Log { group, prefix, snaplen } => log(*group, prefix, *snaplen)?,
        Expr::Masquerade => other("masq", Vec::new()),
    })
}

fn log(group: u16, prefix: &str, snaplen: u32) -> Result<Expressions, InvalidOp> {
    if prefix.len() > LOG_PREFIX_BYTES || prefix.contains('\0') {
        return Err(InvalidOp::Value("a log prefix has at most 127 bytes and no NUL"));
    }
    let mut attributes = vec![DefaultNla::new(expr::LOG_GROUP, group.to_be_bytes().to_vec())];
    if !prefix.is_empty() {
        attributes.push(DefaultNla::new(expr::LOG_PREFIX, [prefix.as_bytes(), &[0]].concat()));
    }
    attributes.push(be32(expr::LOG_SNAPLEN, snaplen));
    Ok(other("log", attributes))
}

/// A verdict as data of a rule or of a map's element.
pub(super) fn verdict_data(verdict: &Verdict) -> Result<DataAttribute, InvalidOp> {
    let (code, chain) = match verdict {
        Verdict::Accept => (VerdictCode::Other(data::ACCEPT), None),
        Verdict::Drop => (VerdictCode::Other(data::DROP), None),
        Verdict::Return => (VerdictCode::Return, None),
        Verdict::Jump(chain) => (VerdictCode::Jump, Some(chain)),
        Verdict::Goto(chain) => (VerdictCode::Goto, Some(chain)),
    };
    let mut attributes = vec![VerdictAttribute::Code(code)];
    if let Some(chain) = chain {
        attributes.push(VerdictAttribute::Chain(checked(chain)?));
    }
    Ok(DataAttribute::Verdict(attributes))
}

fn operator(op: CmpOp) -> Operator {
    match op {
        CmpOp::Eq => Operator::Equal,
        CmpOp::Neq => Operator::NotEqual,
        CmpOp::Lt => Operator::LessThan,
        CmpOp::Lte => Operator::LessThanEqual,
        CmpOp::Gt => Operator::GreaterThan,
        CmpOp::Gte => Operator::GreatherThanEqual,
    }
}

/// The register, where `bytes` from its start still are registers.
fn register(reg: Reg, bytes: usize) -> Result<Register, InvalidOp> {
    let end = (usize::from(reg.0) * 4).saturating_add(bytes);
    if end > REGISTER_BYTES {
        return Err(InvalidOp::Register(reg.0));
    }
    Ok(Register::from(register::FIRST + u32::from(reg.0)))
}

/// An expression that the packet crate has no type for.
fn other(name: &str, attributes: Vec<DefaultNla>) -> Expressions {
    Expressions::Other { expression_type: name.into(), attributes }
}

fn reg32(kind: u16, reg: Reg) -> Result<DefaultNla, InvalidOp> {
    Ok(be32(kind, u32::from(register(reg, 1)?)))
}

fn be32(kind: u16, number: u32) -> DefaultNla {
    DefaultNla::new(kind, number.to_be_bytes().to_vec())
}

fn be64(kind: u16, number: u64) -> DefaultNla {
    DefaultNla::new(kind, number.to_be_bytes().to_vec())
}

/// Data nested as a value.
fn value(kind: u16, bytes: &[u8]) -> DefaultNla {
    nested(kind, &[DataAttribute::Value(bytes.to_vec())])
}

/// An attribute of attributes.
pub(super) fn nested<T: Nla>(kind: u16, attributes: &[T]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}
