//! Expressions of rules.

use crate::model::{CmpOp, CtKey, Expr, MetaKey, Name, PayloadBase, Reg, Verdict};
use crate::netlink::uapi::{LIST_ELEMENT, data, expr, register};
use crate::netlink::wire::{Malformed, attributes, be16, be32, be64, exactly, optional_be32, required, text};

/// The expressions of a rule.
pub(super) fn list(bytes: &[u8]) -> Result<Vec<Expr>, Malformed> {
    attributes(bytes)
        .map(|attribute| {
            let attribute = attribute?;
            if attribute.kind != LIST_ELEMENT {
                return Err(Malformed::new("something else among the expressions"));
            }
            let (name, body) = named(attribute.value)?;
            expression(name, body)
        })
        .collect()
}

/// The packets and bytes that a counter expression has counted; None for another expression.
pub(super) fn counted(bytes: &[u8]) -> Result<Option<(u64, u64)>, Malformed> {
    match named(bytes)? {
        ("counter", body) => {
            let [bytes, packets, _pad] = counter(body)?;
            Ok(Some((be64(packets, "a counter's packets")?, be64(bytes, "a counter's bytes")?)))
        }
        _ => Ok(None),
    }
}

fn named(bytes: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let [name, body] = exactly(bytes, "an expression", [expr::NAME, expr::DATA])?;
    Ok((text(name, "an expression's name")?, body.unwrap_or_default()))
}

fn expression(name: &str, body: &[u8]) -> Result<Expr, Malformed> {
    match name {
        "meta" => meta(body),
        "payload" => payload(body),
        "ct" => ct(body),
        "fib" => fib(body),
        "bitwise" => bitwise(body),
        "cmp" => cmp(body),
        "range" => range(body),
        "lookup" => lookup(body),
        "immediate" => immediate(body),
        "counter" => counter(body).map(|_| Expr::Counter),
        "limit" => limit(body),
        "log" => log(body),
        "masq" => exactly(body, "masq", []).map(|[]: [Option<&[u8]>; 0]| Expr::Masquerade),
        other => Err(Malformed::new(format!("unknown expression {other:?}"))),
    }
}

fn meta(body: &[u8]) -> Result<Expr, Malformed> {
    let [dreg, key] = exactly(body, "meta", [expr::META_DREG, expr::META_KEY])?;
    let keys = [
        MetaKey::IifName,
        MetaKey::OifName,
        MetaKey::NfProto,
        MetaKey::L4Proto,
        MetaKey::PktType,
        MetaKey::IifKind,
    ];
    Ok(Expr::Meta { key: one_of(key, "meta key", keys, |key| key as u32)?, dreg: reg(dreg)? })
}

fn payload(body: &[u8]) -> Result<Expr, Malformed> {
    let known = [expr::PAYLOAD_DREG, expr::PAYLOAD_BASE, expr::PAYLOAD_OFFSET, expr::PAYLOAD_LEN];
    let [dreg, base, offset, len] = exactly(body, "payload", known)?;
    let bases = [PayloadBase::LinkLayer, PayloadBase::Network, PayloadBase::Transport];
    Ok(Expr::Payload {
        base: one_of(base, "payload base", bases, |base| base as u32)?,
        offset: be32(offset, "a payload's offset")?,
        len: be32(len, "a payload's length")?,
        dreg: reg(dreg)?,
    })
}

fn ct(body: &[u8]) -> Result<Expr, Malformed> {
    let [dreg, key] = exactly(body, "ct", [expr::CT_DREG, expr::CT_KEY])?;
    let keys = [CtKey::State, CtKey::Direction, CtKey::Status];
    Ok(Expr::Ct { key: one_of(key, "ct key", keys, |key| key as u32)?, dreg: reg(dreg)? })
}

fn fib(body: &[u8]) -> Result<Expr, Malformed> {
    let [dreg, result, flags] = exactly(body, "fib", [expr::FIB_DREG, expr::FIB_RESULT, expr::FIB_FLAGS])?;
    Ok(Expr::Fib { flags: be32(flags, "fib flags")?, result: be32(result, "fib result")?, dreg: reg(dreg)? })
}

fn bitwise(body: &[u8]) -> Result<Expr, Malformed> {
    let known = [
        expr::BITWISE_SREG,
        expr::BITWISE_DREG,
        expr::BITWISE_LEN,
        expr::BITWISE_MASK,
        expr::BITWISE_XOR,
        expr::BITWISE_OP,
    ];
    let [sreg, dreg, len, mask, xor, op] = exactly(body, "bitwise", known)?;
    if optional_be32(op, "a bitwise operation")?.unwrap_or(0) != 0 {
        return Err(Malformed::new("a bitwise operation other than mask and xor"));
    }
    let (mask, xor) = (value(mask, "a mask")?, value(xor, "an xor")?);
    let length = usize::try_from(be32(len, "a bitwise length")?).unwrap_or(usize::MAX);
    if mask.len() != length || xor.len() != length {
        return Err(Malformed::new("a mask or xor of another length"));
    }
    Ok(Expr::Bitwise { sreg: reg(sreg)?, dreg: reg(dreg)?, mask, xor })
}

fn cmp(body: &[u8]) -> Result<Expr, Malformed> {
    let [sreg, op, data] = exactly(body, "cmp", [expr::CMP_SREG, expr::CMP_OP, expr::CMP_DATA])?;
    let ops = [CmpOp::Eq, CmpOp::Neq, CmpOp::Lt, CmpOp::Lte, CmpOp::Gt, CmpOp::Gte];
    Ok(Expr::Cmp {
        sreg: reg(sreg)?,
        op: one_of(op, "comparison", ops, |op| op as u32)?,
        data: value(data, "a comparison's data")?,
    })
}

fn range(body: &[u8]) -> Result<Expr, Malformed> {
    let known = [expr::RANGE_SREG, expr::RANGE_OP, expr::RANGE_FROM, expr::RANGE_TO];
    let [sreg, op, from, to] = exactly(body, "range", known)?;
    let negated = match be32(op, "a range's operator")? {
        expr::RANGE_EQ => false,
        expr::RANGE_NEQ => true,
        other => return Err(Malformed::new(format!("range operator {other}"))),
    };
    Ok(Expr::Range {
        sreg: reg(sreg)?,
        negated,
        from: value(from, "a range's start")?,
        to: value(to, "a range's end")?,
    })
}

fn lookup(body: &[u8]) -> Result<Expr, Malformed> {
    let known = [expr::LOOKUP_SET, expr::LOOKUP_SREG, expr::LOOKUP_DREG, expr::LOOKUP_FLAGS];
    let [set, sreg, dreg, flags] = exactly(body, "lookup", known)?;
    let set = Name::from(text(set, "a lookup's set")?);
    let sreg = reg(sreg)?;
    let negated = match optional_be32(flags, "a lookup's flags")?.unwrap_or(0) {
        0 => false,
        expr::LOOKUP_F_INV => true,
        other => return Err(Malformed::new(format!("lookup flags {other:#x}"))),
    };
    match optional_be32(dreg, "a lookup's register")? {
        None => Ok(Expr::Lookup { set, sreg, negated }),
        Some(register::VERDICT) if !negated => Ok(Expr::VerdictMap { map: set, sreg }),
        Some(_) => Err(Malformed::new("a lookup in a map that is not of verdicts")),
    }
}

fn immediate(body: &[u8]) -> Result<Expr, Malformed> {
    let [dreg, data] = exactly(body, "immediate", [expr::IMMEDIATE_DREG, expr::IMMEDIATE_DATA])?;
    if be32(dreg, "an immediate's register")? != register::VERDICT {
        return Err(Malformed::new("an immediate that is not a verdict"));
    }
    verdict(required(data, "an immediate's data")?).map(Expr::Verdict)
}

/// A verdict in a rule or in a map's element.
pub(super) fn verdict(bytes: &[u8]) -> Result<Verdict, Malformed> {
    let [verdict] = exactly(bytes, "verdict data", [data::VERDICT])?;
    let known = [data::VERDICT_CODE, data::VERDICT_CHAIN];
    let [code, chain] = exactly(required(verdict, "a verdict")?, "a verdict", known)?;
    let chain = || text(chain, "a verdict's chain").map(Name::from);
    match be32(code, "a verdict's code")? {
        data::ACCEPT => Ok(Verdict::Accept),
        data::DROP => Ok(Verdict::Drop),
        data::RETURN => Ok(Verdict::Return),
        data::JUMP => chain().map(Verdict::Jump),
        data::GOTO => chain().map(Verdict::Goto),
        other => Err(Malformed::new(format!("verdict {}", other.cast_signed()))),
    }
}

fn counter(body: &[u8]) -> Result<[Option<&[u8]>; 3], Malformed> {
    exactly(body, "counter", [expr::COUNTER_BYTES, expr::COUNTER_PACKETS, expr::COUNTER_PAD])
}

fn limit(body: &[u8]) -> Result<Expr, Malformed> {
    let known = [
        expr::LIMIT_RATE,
        expr::LIMIT_UNIT,
        expr::LIMIT_BURST,
        expr::LIMIT_TYPE,
        expr::LIMIT_FLAGS,
        expr::LIMIT_PAD,
    ];
    let [rate, unit, burst, kind, flags, _pad] = exactly(body, "limit", known)?;
    let of_bytes = optional_be32(kind, "a limit's type")?.unwrap_or(0) != 0;
    if of_bytes || optional_be32(flags, "a limit's flags")?.unwrap_or(0) != 0 {
        return Err(Malformed::new("a limit of bytes, or turned round"));
    }
    Ok(Expr::Limit {
        rate: be64(rate, "a limit's rate")?,
        unit: be64(unit, "a limit's unit")?,
        burst: be32(burst, "a limit's burst")?,
    })
}

fn log(body: &[u8]) -> Result<Expr, Malformed> {
    let [group, prefix, snaplen] =
        exactly(body, "log", [expr::LOG_GROUP, expr::LOG_PREFIX, expr::LOG_SNAPLEN])?;
    Ok(Expr::Log {
        group: be16(group, "a log group")?,
        prefix: prefix.map_or(Ok(""), |prefix| text(Some(prefix), "a log prefix"))?.into(),
        snaplen: optional_be32(snaplen, "a log's length")?.unwrap_or(0),
    })
}

/// The value nested in data.
fn value(bytes: Option<&[u8]>, what: &str) -> Result<Vec<u8>, Malformed> {
    let [value] = exactly(required(bytes, what)?, what, [data::VALUE])?;
    Ok(required(value, what)?.to_vec())
}

/// A register by its index. The kernel reports every fourth one by its old number, as 16 bytes wide.
fn reg(bytes: Option<&[u8]>) -> Result<Reg, Malformed> {
    let number = be32(bytes, "a register")?;
    let index = match number {
        register::FIRST_WIDE..=register::LAST_WIDE => (number - register::FIRST_WIDE) * 4,
        register::FIRST..=register::LAST => number - register::FIRST,
        other => return Err(Malformed::new(format!("register {other}"))),
    };
    Ok(Reg(u8::try_from(index).unwrap_or(u8::MAX)))
}

fn one_of<T: Copy, const N: usize>(
    bytes: Option<&[u8]>,
    what: &str,
    choices: [T; N],
    number: impl Fn(T) -> u32,
) -> Result<T, Malformed> {
    let wanted = be32(bytes, what)?;
    let found = choices.into_iter().find(|choice| number(*choice) == wanted);
    found.ok_or_else(|| Malformed::new(format!("{what} {wanted}")))
}
