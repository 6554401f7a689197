//! Addresses and CIDRs, read strictly.
//!
//! The API server still accepts spellings that programs read differently (`010.0.0.0/8` is octal to some, and
//! `::ffff:10.0.0.0/104` is IPv4 to some). Guessing would widen access on one of the readings, so these are not read
//! at all (KEP-4858 refuses them for new fields).

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Issue, Reason};

/// A network and whether host bits had to be masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The network, host bits masked.
    pub net: IpNet,
    /// The text had host bits set.
    pub masked: bool,
}

/// Reads a CIDR.
///
/// # Errors
/// Why the text can't be read, to follow the text itself in a message.
pub fn block(text: &str) -> Result<Block, &'static str> {
    let (address, prefix) = text.split_once('/').ok_or("has no prefix length")?;
    let address: IpAddr =
        address.parse().map_err(|_| "is not an address in its usual form (leading zeros are not read)")?;
    if mapped(address) {
        return Err("is an IPv4-mapped IPv6 address");
    }
    let canonical = prefix == "0" || !prefix.starts_with('0');
    if prefix.is_empty() || !canonical || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return Err("has no readable prefix length");
    }
    let prefix: u8 = prefix.parse().map_err(|_| "has a prefix length out of range")?;
    let net = IpNet::new(address, prefix).map_err(|_| "has a prefix length out of range")?;
    Ok(Block { net: net.trunc(), masked: net.trunc() != net })
}

/// Reads a CIDR or one address, which is a network of its own.
///
/// # Errors
/// As [`block`].
pub(super) fn net(text: &str) -> Result<Block, &'static str> {
    if text.contains('/') {
        return block(text);
    }
    address(text)
        .map(|address| Block { net: IpNet::from(address), masked: false })
        .ok_or("is neither a network nor an address in its usual form")
}

/// Notes that a network is not quite what was written.
pub(super) fn note_masked(path: &str, text: &str, block: Block, issues: &mut Vec<Issue>) {
    if block.masked {
        issues.push(Issue::new(path, Reason::HostBitsMasked, format!("{text:?} is read as {}", block.net)));
    }
}

/// Reads one address in its usual form; None for IPv4-mapped IPv6 and whatever else can't be read.
pub fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|address| !mapped(*address))
}

fn mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10.0.0.0/8", "10.0.0.0/8", false)]
    #[case("10.0.0.1/8", "10.0.0.0/8", true)]
    #[case("10.1.2.3/32", "10.1.2.3/32", false)]
    #[case("0.0.0.0/0", "0.0.0.0/0", false)]
    #[case("1.2.3.4/0", "0.0.0.0/0", true)]
    #[case("::/0", "::/0", false)]
    #[case("2001:DB8::/32", "2001:db8::/32", false)]
    #[case("2001:db8::1/32", "2001:db8::/32", true)]
    #[case("64:ff9b::1.2.3.4/128", "64:ff9b::102:304/128", false)]
    fn reads(#[case] text: &str, #[case] net: &str, #[case] masked: bool) {
        assert_eq!(block(text), Ok(Block { net: net.parse().unwrap(), masked }));
    }

    #[rstest]
    #[case("")]
    #[case("/8")]
    #[case("10.0.0.0")]
    #[case("10.0.0.0/")]
    #[case("10.0.0.0/33")]
    #[case("10.0.0.0/08")]
    #[case("10.0.0.0/00")]
    #[case("10.0.0.0/+8")]
    #[case("10.0.0.0/-1")]
    #[case("10.0.0.0/8/8")]
    #[case("10.0.0.0/255.0.0.0")]
    #[case("10.0.0.0/8 ")]
    #[case(" 10.0.0.0/8")]
    #[case("010.0.0.0/8")]
    #[case("10.0.0/8")]
    #[case("10/8")]
    #[case("0x0a.0.0.0/8")]
    #[case("::ffff:10.0.0.0/104")]
    #[case("::ffff:0:0/96")]
    #[case("2001:db8::/129")]
    #[case("2001:db8::/999")]
    #[case("fe80::1%eth0/64")]
    #[case("example.com/24")]
    fn refuses(#[case] text: &str) {
        assert!(block(text).is_err(), "{text:?} was read as {:?}", block(text));
    }

    #[rstest]
    #[case("10.0.0.1", true)]
    #[case("2001:db8::1", true)]
    #[case("010.0.0.1", false)]
    #[case("::ffff:10.0.0.1", false)]
    #[case("node-1", false)]
    fn addresses(#[case] text: &str, #[case] readable: bool) {
        assert_eq!(address(text).is_some(), readable);
    }
}
