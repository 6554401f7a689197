//! Numbers of the kernel's interface that the packet crates do not export, from
//! `include/uapi/linux/netfilter/{nfnetlink,nf_tables,nfnetlink_conntrack}.h`.

/// `NFPROTO_INET`: both address families.
pub(super) const NFPROTO_INET: u8 = 1;
/// `NFPROTO_BRIDGE`.
pub(super) const NFPROTO_BRIDGE: u8 = 7;

/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const SUBSYS_NFTABLES: u16 = 10;
/// `NFNLGRP_NFTABLES`: the multicast group that hears of every change.
pub(super) const GROUP_NFTABLES: u32 = 7;

/// Kinds of nftables messages (`NFT_MSG_*`), without the subsystem.
pub(super) mod message {
    pub const NEWCHAIN: u16 = 3;
    pub const NEWRULE: u16 = 6;
    pub const NEWSET: u16 = 9;
    pub const NEWSETELEM: u16 = 12;
    pub const NEWGEN: u16 = 15;
}

/// Every kind of nftables message names its table in this attribute.
pub(super) const TABLE_NAME: u16 = 1;

/// `NFTA_TABLE_*`.
pub(super) mod table {
    pub const FLAGS: u16 = 2;
    pub const OWNER: u16 = 7;
    pub const F_DORMANT: u32 = 1;
    pub const F_OWNER: u32 = 2;
    pub const F_PERSIST: u32 = 4;
}

/// `NFTA_GEN_*`.
pub(super) mod generation {
    pub const ID: u16 = 1;
    pub const PROC_PID: u16 = 2;
    pub const PROC_NAME: u16 = 3;
}

/// `NFTA_CHAIN_*` and `NFTA_HOOK_*`.
pub(super) mod chain {
    pub const NAME: u16 = 3;
    pub const HOOK: u16 = 4;
    pub const POLICY: u16 = 5;
    pub const TYPE: u16 = 7;
    pub const FLAGS: u16 = 10;
    pub const F_BASE: u32 = 1;
    pub const HOOK_NUMBER: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
}

/// `NFTA_RULE_*`.
pub(super) mod rule {
    pub const CHAIN: u16 = 2;
    pub const HANDLE: u16 = 3;
    pub const EXPRESSIONS: u16 = 4;
    pub const COMPAT: u16 = 5;
    pub const USERDATA: u16 = 7;
    /// `NFTNL_UDATA_RULE_COMMENT` of libnftnl: where `nft` keeps a rule's comment.
    pub const USERDATA_COMMENT: u8 = 0;
}

/// `NFTA_LIST_ELEM`.
pub(super) const LIST_ELEMENT: u16 = 1;

/// `NFTA_SET_*`, `NFTA_SET_DESC_*` and `NFTA_SET_FIELD_LEN`.
pub(super) mod set {
    pub const NAME: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const KEY_TYPE: u16 = 4;
    pub const KEY_LEN: u16 = 5;
    pub const DATA_TYPE: u16 = 6;
    pub const DESC: u16 = 9;
    pub const TIMEOUT: u16 = 11;
    pub const EXPR: u16 = 17;
    pub const EXPRESSIONS: u16 = 18;
    pub const DESC_SIZE: u16 = 1;
    pub const FIELD_LEN: u16 = 1;
    /// `NFT_DATA_VERDICT`, the data type of a verdict map.
    pub const DATA_VERDICT: u32 = 0xffff_ff00;
    /// `NFTNL_UDATA_SET_KEYBYTEORDER` of libnftnl, and `BYTEORDER_HOST_ENDIAN` of nft.
    pub const USERDATA_KEY_BYTE_ORDER: u8 = 0;
    pub const BYTE_ORDER_HOST: u32 = 1;
    pub const F_ANONYMOUS: u32 = 0x1;
    pub const F_INTERVAL: u32 = 0x4;
    pub const F_MAP: u32 = 0x8;
    pub const F_CONCAT: u32 = 0x80;
}

/// `NFTA_SET_ELEM_*` and `NFTA_SET_ELEM_LIST_*`.
pub(super) mod element {
    pub const LIST_SET: u16 = 2;
    pub const LIST_ELEMENTS: u16 = 3;
    pub const KEY: u16 = 1;
    pub const DATA: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const USERDATA: u16 = 6;
    pub const PAD: u16 = 8;
    pub const F_INTERVAL_END: u32 = 1;
}

/// `NFTA_DATA_*` and `NFTA_VERDICT_*`.
pub(super) mod data {
    pub const VALUE: u16 = 1;
    pub const VERDICT: u16 = 2;
    pub const VERDICT_CODE: u16 = 1;
    pub const VERDICT_CHAIN: u16 = 2;
    pub const DROP: u32 = 0;
    pub const ACCEPT: u32 = 1;
    pub const JUMP: u32 = -3_i32 as u32;
    pub const GOTO: u32 = -4_i32 as u32;
    pub const RETURN: u32 = -5_i32 as u32;
}

/// `NFTA_EXPR_*` and the attributes of each expression, in the order of their numbers from 1.
pub(super) mod expr {
    pub const NAME: u16 = 1;
    pub const DATA: u16 = 2;

    pub const META_DREG: u16 = 1;
    pub const META_KEY: u16 = 2;

    pub const PAYLOAD_DREG: u16 = 1;
    pub const PAYLOAD_BASE: u16 = 2;
    pub const PAYLOAD_OFFSET: u16 = 3;
    pub const PAYLOAD_LEN: u16 = 4;

    pub const CT_DREG: u16 = 1;
    pub const CT_KEY: u16 = 2;

    pub const FIB_DREG: u16 = 1;
    pub const FIB_RESULT: u16 = 2;
    pub const FIB_FLAGS: u16 = 3;

    pub const BITWISE_SREG: u16 = 1;
    pub const BITWISE_DREG: u16 = 2;
    pub const BITWISE_LEN: u16 = 3;
    pub const BITWISE_MASK: u16 = 4;
    pub const BITWISE_XOR: u16 = 5;
    pub const BITWISE_OP: u16 = 6;

    pub const CMP_SREG: u16 = 1;
    pub const CMP_OP: u16 = 2;
    pub const CMP_DATA: u16 = 3;

    pub const RANGE_SREG: u16 = 1;
    pub const RANGE_OP: u16 = 2;
    pub const RANGE_FROM: u16 = 3;
    pub const RANGE_TO: u16 = 4;
    pub const RANGE_EQ: u32 = 0;
    pub const RANGE_NEQ: u32 = 1;

    pub const LOOKUP_SET: u16 = 1;
    pub const LOOKUP_SREG: u16 = 2;
    pub const LOOKUP_DREG: u16 = 3;
    pub const LOOKUP_FLAGS: u16 = 5;
    pub const LOOKUP_F_INV: u32 = 1;

    pub const IMMEDIATE_DREG: u16 = 1;
    pub const IMMEDIATE_DATA: u16 = 2;

    pub const COUNTER_BYTES: u16 = 1;
    pub const COUNTER_PACKETS: u16 = 2;
    pub const COUNTER_PAD: u16 = 3;

    pub const LIMIT_RATE: u16 = 1;
    pub const LIMIT_UNIT: u16 = 2;
    pub const LIMIT_BURST: u16 = 3;
    pub const LIMIT_TYPE: u16 = 4;
    pub const LIMIT_FLAGS: u16 = 5;
    pub const LIMIT_PAD: u16 = 6;

    pub const LOG_GROUP: u16 = 1;
    pub const LOG_PREFIX: u16 = 2;
    pub const LOG_SNAPLEN: u16 = 3;
}

/// Registers: 0 is the verdict, 1 to 4 are 16 bytes wide, 8 to 23 are 4 bytes wide and overlay these.
pub(super) mod register {
    pub const VERDICT: u32 = 0;
    pub const FIRST_WIDE: u32 = 1;
    pub const LAST_WIDE: u32 = 4;
    pub const FIRST: u32 = 8;
    pub const LAST: u32 = 23;
}

/// The types that `nft` writes into a set's key type (`enum datatypes` of nftables' `datatype.h`): the kernel keeps
/// them without looking.
pub(super) mod datatype {
    pub const IPV4_ADDR: u32 = 7;
    pub const IPV6_ADDR: u32 = 8;
    pub const ETHER_ADDR: u32 = 9;
    pub const INET_PROTO: u32 = 12;
    pub const INET_SERVICE: u32 = 13;
    pub const IFNAME: u32 = 41;
    /// Bits a type takes in a concatenation's type.
    pub const BITS: u32 = 6;
}

/// `CTA_*`.
pub(super) mod conntrack {
    /// `NFNL_SUBSYS_CTNETLINK`.
    pub const SUBSYS: u16 = 1;
    /// `IPCTNL_MSG_CT_NEW`.
    pub const NEW: u16 = 0;
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const ID: u16 = 12;
    pub const ZONE: u16 = 18;
    pub const TUPLE_IP: u16 = 1;
    pub const IP_V4_SRC: u16 = 1;
    pub const IP_V4_DST: u16 = 2;
    pub const IP_V6_SRC: u16 = 3;
    pub const IP_V6_DST: u16 = 4;
}
