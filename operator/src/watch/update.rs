//! What watches tell of one object.

use std::sync::Arc;

use selvage_policy::compiled::PolicyKey;
use selvage_policy::model::{Change, Key, NetworkSet};

use super::seen::{Agent, SeenNode, SeenPool, SeenSlice, SeenTier, Stood};
use crate::convert::{Converted, Read};
use crate::status::About;

/// What happened to one object; None says that it is gone.
#[derive(Debug)]
pub enum Update {
    /// Something that the engine takes as it is.
    Change(Change),
    /// A policy of any kind.
    Policy(PolicyKey, Option<Box<Converted>>),
    /// A policy that can't be decoded. What was known of it stays; if that is nothing, this is to be said.
    Unreadable(PolicyKey, Box<Converted>),
    /// A NetworkSet or GlobalNetworkSet.
    Set(Key, Option<Box<Read<NetworkSet>>>),
    /// A Tier, by name.
    Tier(Arc<str>, Option<Box<SeenTier>>),
    /// An IPPool, by name.
    Pool(Arc<str>, Option<Box<SeenPool>>),
    /// An agent's pod, by name.
    Agent(Arc<str>, Option<Agent>),
    /// A NodePolicy, by name.
    NodePolicy(Arc<str>, Option<Box<SeenNode>>),
    /// An AddressGroup, by name.
    Slice(Arc<str>, Option<SeenSlice>),
    /// What is said of an object, and where.
    Stands(About, Option<Box<Stood>>),
}

/// What translating needs to know.
#[derive(Debug, Clone)]
pub struct Context {
    /// The system namespace.
    pub namespace: Arc<str>,
}
