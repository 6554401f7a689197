//! A canonical text of a ruleset, in the way of `nft list`: equal rulesets give equal text, and a change shows as a
//! readable difference. For golden files and for people; nothing reads it back.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::model::{
    Chain, ChainKind, CmpOp, CtKey, Elements, Expr, Hook, Key, KeyPart, Mac, MetaKey, PayloadBase, Range,
    Ruleset, Set, Verdict,
};

/// The ruleset as text.
pub fn dump(ruleset: &Ruleset) -> String {
    let mut text = String::new();
    // Writing to a String never fails.
    let _ = write_ruleset(&mut text, ruleset);
    text
}

fn write_ruleset(out: &mut String, ruleset: &Ruleset) -> fmt::Result {
    for (name, set) in &ruleset.sets {
        write_set(out, name, set)?;
    }
    for (name, chain) in &ruleset.chains {
        write_chain(out, name, chain)?;
    }
    Ok(())
}

fn write_set(out: &mut String, name: &str, set: &Set) -> fmt::Result {
    let sort = match set.elements {
        Elements::Points(_) => "set",
        Elements::Ranges(_) => "interval set",
        Elements::Verdicts(_) => "map",
    };
    write!(out, "{sort} {name} {{ {}", types(&set.key))?;
    if let Some(size) = set.size {
        write!(out, ", size {size}")?;
    }
    writeln!(out, " }}")?;
    match &set.elements {
        Elements::Points(points) => {
            points.iter().try_for_each(|key| writeln!(out, "  {}", write_key(&set.key, &key)))
        }
        Elements::Ranges(ranges) => ranges.iter().try_for_each(|Range { first, last }| {
            writeln!(out, "  {} - {}", write_key(&set.key, &first), write_key(&set.key, &last))
        }),
        Elements::Verdicts(verdicts) => verdicts.iter().try_for_each(|(key, verdict)| {
            writeln!(out, "  {} : {}", write_key(&set.key, key), write_verdict(verdict))
        }),
    }
}

fn types(parts: &[KeyPart]) -> String {
    let name = |part: &KeyPart| match part {
        KeyPart::Ipv4 => "ipv4",
        KeyPart::Ipv6 => "ipv6",
        KeyPart::Protocol => "protocol",
        KeyPart::Port => "port",
        KeyPart::InterfaceName => "interface",
        KeyPart::Mac => "mac",
    };
    parts.iter().map(name).collect::<Vec<_>>().join(" . ")
}

fn write_key(parts: &[KeyPart], key: &Key) -> String {
    let mut rest = key.as_bytes();
    let mut words = Vec::new();
    for part in parts {
        let len = if parts.len() == 1 { part.size() } else { part.size().next_multiple_of(4) };
        let Some((value, next)) = rest.split_at_checked(len) else { return format!("{key:?}") };
        words.push(write_value(*part, value));
        rest = next;
    }
    words.join(" . ")
}

fn write_value(part: KeyPart, value: &[u8]) -> String {
    match (part, value) {
        (KeyPart::Ipv4 | KeyPart::Ipv6, _) => address(value),
        (KeyPart::Protocol, [number, ..]) => protocol(*number),
        (KeyPart::Port, [high, low, ..]) => u16::from_be_bytes([*high, *low]).to_string(),
        (KeyPart::Mac, [a, b, c, d, e, f, ..]) => Mac([*a, *b, *c, *d, *e, *f]).to_string(),
        (KeyPart::InterfaceName, _) => String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
        _ => hex(value),
    }
}

fn address(bytes: &[u8]) -> String {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ipv4Addr::from(octets).to_string();
    }
    <[u8; 16]>::try_from(bytes).map_or_else(|_| hex(bytes), |octets| Ipv6Addr::from(octets).to_string())
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmpv6".into(),
        132 => "sctp".into(),
        other => other.to_string(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn write_chain(out: &mut String, name: &str, chain: &Chain) -> fmt::Result {
    write!(out, "chain {name} {{")?;
    if let Some(base) = chain.base {
        let kind = match base.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        let hook = match base.hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        let policy = if base.drop { "drop" } else { "accept" };
        write!(out, " {kind} {hook} {}, policy {policy}", base.priority)?;
    }
    writeln!(out, " }}")?;
    for rule in &chain.rules {
        write!(out, "  ")?;
        write_expressions(out, &rule.expressions)?;
        writeln!(out, "  # {}", rule.id)?;
    }
    Ok(())
}

fn write_expressions(out: &mut String, expressions: &[Expr]) -> fmt::Result {
    // What the register holds, for the test that follows; kept while several are loaded for one concatenation.
    let mut loaded: Vec<String> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    for expression in expressions {
        let subject = |loaded: &mut Vec<String>| std::mem::take(loaded).join(" . ");
        match expression {
            Expr::Meta { key, .. } => loaded.push(meta(*key).into()),
            Expr::Payload { base, offset, len, .. } => loaded.push(payload(*base, *offset, *len)),
            Expr::Ct { key, .. } => loaded.push(ct(*key).into()),
            Expr::Fib { flags, result, .. } => loaded.push(format!("fib({flags}, {result})")),
            Expr::Bitwise { mask, xor, .. } => {
                let value = subject(&mut loaded);
                let flip = if xor.iter().all(|b| *b == 0) {
                    String::new()
                } else {
                    format!(" ^ {}", constant(&value, xor))
                };
                loaded.push(match prefix(mask) {
                    Some(prefix) if mask.len() != 4 || value.starts_with("ip") => format!("{value}/{prefix}"),
                    _ => format!("{value} & {}{flip}", constant(&value, mask)),
                });
            }
            Expr::Cmp { op, data, .. } => {
                let value = subject(&mut loaded);
                let data = constant(&value, data);
                words.push(format!("{value} {}{data}", operator(*op)));
            }
            Expr::Range { negated, from, to, .. } => {
                let value = subject(&mut loaded);
                let (from, to) = (constant(&value, from), constant(&value, to));
                words.push(format!("{value} {}{from}-{to}", if *negated { "!= " } else { "" }));
            }
            Expr::Lookup { set, negated, .. } => {
                words.push(format!("{} {}@{set}", subject(&mut loaded), if *negated { "!= " } else { "" }));
            }
            Expr::VerdictMap { map, .. } => words.push(format!("{} vmap @{map}", subject(&mut loaded))),
            Expr::Verdict(verdict) => words.push(write_verdict(verdict)),
            Expr::Counter => words.push("counter".into()),
            Expr::Limit { rate, unit, burst } => words.push(format!("limit {rate}/{unit}s burst {burst}")),
            Expr::Log { group, prefix, snaplen } => {
                words.push(format!("log group {group} prefix {prefix:?} snaplen {snaplen}"));
            }
            Expr::Masquerade => words.push("masquerade".into()),
        }
    }
    // A load that nothing tests still breaks rules for packets that are too short.
    words.extend(loaded.into_iter().map(|value| format!("load {value}")));
    write!(out, "{}", words.join(" "))
}

fn meta(key: MetaKey) -> &'static str {
    match key {
        MetaKey::IifName => "iifname",
        MetaKey::OifName => "oifname",
        MetaKey::NfProto => "nfproto",
        MetaKey::L4Proto => "l4proto",
        MetaKey::PktType => "pkttype",
        MetaKey::IifKind => "iifkind",
    }
}

fn ct(key: CtKey) -> &'static str {
    match key {
        CtKey::State => "ct state",
        CtKey::Direction => "ct direction",
        CtKey::Status => "ct status",
    }
}

fn payload(base: PayloadBase, offset: u32, len: u32) -> String {
    match (base, offset, len) {
        (PayloadBase::Network, 12, 4) => "ip saddr".into(),
        (PayloadBase::Network, 16, 4) => "ip daddr".into(),
        (PayloadBase::Network, 8, 16) => "ip6 saddr".into(),
        (PayloadBase::Network, 24, 16) => "ip6 daddr".into(),
        (PayloadBase::Network, 7, 1) => "ip6 hoplimit".into(),
        (PayloadBase::LinkLayer, 0, 6) => "ether daddr".into(),
        (PayloadBase::LinkLayer, 6, 6) => "ether saddr".into(),
        (PayloadBase::LinkLayer, 12, 2) => "ether type".into(),
        (PayloadBase::Transport, 0, 2) => "sport".into(),
        (PayloadBase::Transport, 2, 2) => "dport".into(),
        (PayloadBase::Transport, 0, 1) => "icmp type".into(),
        (PayloadBase::Transport, 1, 1) => "icmp code".into(),
        (base, offset, len) => format!("{base:?}[{offset}..{}]", offset.saturating_add(len)),
    }
}

fn prefix(mask: &[u8]) -> Option<u32> {
    let ones: u32 = mask.iter().map(|b| b.leading_ones()).sum();
    let set: u32 = mask.iter().map(|b| b.count_ones()).sum();
    let solid = mask.iter().skip_while(|b| **b == 0xff).skip(1).all(|b| *b == 0);
    (ones == set && solid).then_some(ones)
}

fn operator(op: CmpOp) -> &'static str {
    match op {
        CmpOp::Eq => "",
        CmpOp::Neq => "!= ",
        CmpOp::Lt => "< ",
        CmpOp::Lte => "<= ",
        CmpOp::Gt => "> ",
        CmpOp::Gte => ">= ",
    }
}

fn constant(subject: &str, data: &[u8]) -> String {
    match (subject, data) {
        ("nfproto", [2]) => "ipv4".into(),
        ("nfproto", [10]) => "ipv6".into(),
        ("l4proto", [number]) => protocol(*number),
        ("ether type", [high, low]) => format!("{:#06x}", u16::from_be_bytes([*high, *low])),
        (subject, [a, b, c, d, e, f]) if subject.starts_with("ether") => {
            Mac([*a, *b, *c, *d, *e, *f]).to_string()
        }
        (_, [number]) => number.to_string(),
        (_, [high, low]) => u16::from_be_bytes([*high, *low]).to_string(),
        (subject, data) if subject.starts_with("ip") => address(data),
        (_, [a, b, c, d]) => u32::from_ne_bytes([*a, *b, *c, *d]).to_string(),
        (_, data) => hex(data),
    }
}

fn write_verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".into(),
        Verdict::Drop => "drop".into(),
        Verdict::Return => "return".into(),
        Verdict::Jump(to) => format!("jump {to}"),
        Verdict::Goto(to) => format!("goto {to}"),
    }
}
