//! One nftables table as plain data, in the kernel's own terms: chains of rules, rules of expressions over
//! registers, and sets of binary keys.
//!
//! Names and meanings follow `include/uapi/linux/netfilter/nf_tables.h`. The same types are rendered, compared,
//! encoded to netlink, decoded from what the kernel reports, dumped as text and interpreted by the packet tracer, so
//! that "what the kernel holds is what was meant" is plain equality.

mod shared;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

pub use shared::Shared;

use crate::sorted::{Encoded, Record, Sorted};

/// The name of a chain or set inside the table; at most 31 bytes, so that older kernels take it too.
pub type Name = Arc<str>;

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TableFamily {
    /// `inet`: IPv4 and IPv6 packets.
    #[default]
    Inet,
    /// `bridge`: frames on their way through any bridge of the node, as they come in by its ports.
    Bridge,
}

/// The wanted or seen content of one table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ruleset {
    /// Chains by name.
    pub chains: BTreeMap<Name, Chain>,
    /// Sets and maps by name.
    pub sets: BTreeMap<Name, Set>,
}

/// A chain and its rules in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// Where packets enter, for a base chain; a regular chain is only reached by jump and goto.
    pub base: Option<BaseChain>,
    /// Rules in order.
    pub rules: Shared<Rule>,
}

/// A base chain's place in the packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseChain {
    /// The kind of chain.
    pub kind: ChainKind,
    /// The hook (`NF_INET_*`, `NF_BR_*`).
    pub hook: Hook,
    /// Lower runs earlier (`NF_IP_PRI_*`).
    pub priority: i32,
    /// True: packets that fall out of the chain are dropped; false: accepted.
    pub drop: bool,
}

/// A base chain's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChainKind {
    /// `filter`.
    Filter,
    /// `nat`.
    Nat,
}

/// A netfilter hook, with its number, which the families share as far as these go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Hook {
    /// NF_INET_PRE_ROUTING
    Prerouting = 0,
    /// NF_INET_LOCAL_IN
    Input = 1,
    /// NF_INET_FORWARD
    Forward = 2,
    /// NF_INET_LOCAL_OUT
    Output = 3,
    /// NF_INET_POST_ROUTING
    Postrouting = 4,
}

/// A rule: expressions run in order until one breaks or gives a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it does.
    pub expressions: Shared<Expr>,
    /// A short id kept in the rule's userdata (at most 64 bytes here; the kernel takes 256), never a user's name.
    pub id: Arc<str>,
}

/// A 32-bit register by its index, 0 to 15 (`NFT_REG32_00` and up). A value of n bytes fills ceil(n / 4) registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reg(pub u8);

/// One expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Loads packet metadata.
    Meta {
        /// Which.
        key: MetaKey,
        /// Where to.
        dreg: Reg,
    },
    /// Loads header bytes; breaks the rule where the packet is too short.
    Payload {
        /// Which header.
        base: PayloadBase,
        /// Bytes from the header's start.
        offset: u32,
        /// How many bytes.
        len: u32,
        /// Where to.
        dreg: Reg,
    },
    /// Loads conntrack data.
    Ct {
        /// Which.
        key: CtKey,
        /// Where to.
        dreg: Reg,
    },
    /// Asks the routing table (`fib`).
    Fib {
        /// `NFTA_FIB_F_*` flags: 1 source address, 2 destination address, 4 mark, 8 input interface.
        flags: u32,
        /// `NFT_FIB_RESULT_*`: 1 oif, 2 oifname, 3 address type (as `RTN_*`).
        result: u32,
        /// Where to.
        dreg: Reg,
    },
    /// dreg = (sreg & mask) ^ xor.
    Bitwise {
        /// From.
        sreg: Reg,
        /// To.
        dreg: Reg,
        /// The mask, as long as the value.
        mask: Vec<u8>,
        /// The xor, as long as the value.
        xor: Vec<u8>,
    },
    /// Breaks unless the register compares so.
    Cmp {
        /// Which register.
        sreg: Reg,
        /// How.
        op: CmpOp,
        /// With what (network byte order for header fields, host byte order for metadata that has one).
        data: Vec<u8>,
    },
    /// Breaks unless the register lies in the inclusive range (outside it where negated).
    Range {
        /// Which register.
        sreg: Reg,
        /// Outside instead of inside.
        negated: bool,
        /// The first value.
        from: Vec<u8>,
        /// The last value.
        to: Vec<u8>,
    },
    /// Breaks unless the key is in the set (is not, where negated).
    Lookup {
        /// The set's name.
        set: Name,
        /// The key's first register.
        sreg: Reg,
        /// Not in the set instead.
        negated: bool,
    },
    /// Looks the key up in a verdict map and does what it says; breaks where it is absent.
    VerdictMap {
        /// The map's name.
        map: Name,
        /// The key's first register.
        sreg: Reg,
    },
    /// A verdict.
    Verdict(Verdict),
    /// Counts packets and bytes. What was counted is not part of the model.
    Counter,
    /// Breaks when over the limit.
    Limit {
        /// Packets per unit.
        rate: u64,
        /// The unit, in seconds.
        unit: u64,
        /// Packets above the rate that pass at first.
        burst: u32,
    },
    /// Sends the packet's head to a log group (NFLOG).
    Log {
        /// The group.
        group: u16,
        /// A short prefix (at most 127 bytes).
        prefix: Arc<str>,
        /// How many bytes of the packet.
        snaplen: u32,
    },
    /// Source NAT to the outgoing interface's address.
    Masquerade,
}

/// `NFT_META_*` keys in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum MetaKey {
    /// Interface name the packet came in by, 16 bytes, zero padded.
    IifName = 6,
    /// Interface name the packet leaves by, 16 bytes, zero padded.
    OifName = 7,
    /// NFPROTO_IPV4 (2) or NFPROTO_IPV6 (10), one byte.
    NfProto = 15,
    /// Transport protocol number, one byte.
    L4Proto = 16,
    /// PACKET_HOST 0, PACKET_BROADCAST 1, PACKET_MULTICAST 2, one byte.
    PktType = 19,
    /// Kind of the device that the packet came in by (`veth`), 16 bytes, zero padded; none for physical devices.
    IifKind = 26,
}

/// `NFT_CT_*` keys in use; values are 32 bits in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum CtKey {
    /// State bits: invalid 1, established 2, related 4, new 8, untracked 64.
    State = 0,
    /// 0 original, 1 reply; one byte.
    Direction = 1,
    /// `IPS_*` bits, among them dst-nat 32 (bit 5).
    Status = 2,
}

/// `NFT_PAYLOAD_*` bases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum PayloadBase {
    /// The link-layer header, VLAN tags included even where the device took them off.
    LinkLayer = 0,
    /// The IPv4 or IPv6 header.
    Network = 1,
    /// The transport header.
    Transport = 2,
}

/// `NFT_CMP_*` operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum CmpOp {
    /// equal
    Eq = 0,
    /// not equal
    Neq = 1,
    /// less
    Lt = 2,
    /// less or equal
    Lte = 3,
    /// greater
    Gt = 4,
    /// greater or equal
    Gte = 5,
}

/// What happens to the packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Ends this base chain; later base chains still see the packet.
    Accept,
    /// Drops the packet.
    Drop,
    /// Goes back to the calling chain.
    Return,
    /// Runs the chain, then goes on with the next rule.
    Jump(Name),
    /// Runs the chain instead of the rest of this one.
    Goto(Name),
}

/// A set or verdict map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// The key's parts; more than one is a concatenation, each part padded to 4 bytes.
    pub key: Vec<KeyPart>,
    /// The set's members.
    pub elements: Elements,
    /// Room for elements, a hard limit of the kernel; None for interval sets, which need none.
    pub size: Option<u32>,
}

/// The type of one part of a set's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyPart {
    /// 4 bytes.
    Ipv4,
    /// 16 bytes.
    Ipv6,
    /// One byte, padded to 4 in a concatenation.
    Protocol,
    /// 2 bytes, padded to 4 in a concatenation.
    Port,
    /// 16 bytes, zero padded.
    InterfaceName,
    /// 6 bytes, padded to 8 in a concatenation.
    Mac,
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// The members of a set, by its sort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// A hash set.
    Points(Sorted<Key>),
    /// An interval set: disjoint ranges, none adjacent to the next.
    Ranges(Sorted<Range>),
    /// A verdict map over a hash.
    Verdicts(BTreeMap<Key, Verdict>),
}

/// An inclusive range of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// The first key.
    pub first: Key,
    /// The last key.
    pub last: Key,
}

/// A key of at most 32 bytes, in network byte order, concatenated parts padded to 4 bytes each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    bytes: [u8; 32],
    len: u8,
}

impl Key {
    /// A key of these bytes; None above 32 bytes.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut key = Self { bytes: [0; 32], len: u8::try_from(bytes.len()).ok()? };
        key.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(key)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl Record for Key {
    fn encode(&self) -> Encoded {
        Encoded::new(0, &[self.as_bytes()])
    }

    fn decode(_: u8, bytes: &[u8]) -> Option<Self> {
        Self::new(bytes)
    }
}

impl Record for Range {
    fn encode(&self) -> Encoded {
        Encoded::new(self.first.len, &[self.first.as_bytes(), self.last.as_bytes()])
    }

    fn decode(shape: u8, bytes: &[u8]) -> Option<Self> {
        let (first, last) = bytes.split_at_checked(shape.into())?;
        Some(Self { first: Key::new(first)?, last: Key::new(last)? })
    }
}

impl FromIterator<(Key, Key)> for Sorted<Range> {
    fn from_iter<T: IntoIterator<Item = (Key, Key)>>(ranges: T) -> Self {
        ranges.into_iter().map(|(first, last)| Range { first, last }).collect()
    }
}

impl From<BTreeMap<Key, Key>> for Sorted<Range> {
    fn from(ranges: BTreeMap<Key, Key>) -> Self {
        ranges.into_iter().collect()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl Mac {
    /// The link-local address that an interface gives itself from its MAC address (RFC 4291, appendix A), unless it
    /// is told to make up another.
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl KeyPart {
    /// Bytes of a value of this type, unpadded.
    pub fn size(self) -> usize {
        match self {
            Self::Protocol => 1,
            Self::Port => 2,
            Self::Ipv4 => 4,
            Self::Mac => 6,
            Self::Ipv6 | Self::InterfaceName => 16,
        }
    }
}

impl Set {
    /// Bytes of a key: one part by itself, or several padded to 4 bytes each.
    pub fn key_len(&self) -> usize {
        match self.key.as_slice() {
            [part] => part.size(),
            parts => parts.iter().map(|part| part.size().next_multiple_of(4)).sum(),
        }
    }
}

impl Verdict {
    /// The chain that it leads to.
    pub fn target(&self) -> Option<&Name> {
        match self {
            Self::Jump(to) | Self::Goto(to) => Some(to),
            Self::Accept | Self::Drop | Self::Return => None,
        }
    }
}
