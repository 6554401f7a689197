//! The part of a node agent that stands between a wish and the kernel: render, compare, commit, read back.

use std::collections::BTreeSet;
use std::net::IpAddr;

use selvage_nftables::diff::{self, Plan};
use selvage_nftables::model::{Ruleset, TableFamily};
use selvage_nftables::netlink::conntrack::Conntrack;
use selvage_nftables::netlink::{Connection, Ownership, Settings, Standing};
use selvage_nftables::render;
use selvage_nftables::render::bridge::BridgeFacts;
use selvage_nftables::transaction::{Op, Transaction};

use crate::bed::Bed;
use crate::world::World;

/// An agent on the bed's node, with one of its tables.
pub struct Agent {
    connection: Connection,
    standing: Option<Ruleset>,
    /// What stands while the first ruleset is built.
    closed: Ruleset,
}

impl Agent {
    /// An agent that finds no table.
    pub fn start(bed: &Bed) -> Self {
        let closed = render::closed(&World::of(&[]).facts, &render::Settings::default());
        Self::start_with(bed, TableFamily::Inet, closed)
    }

    /// An agent that finds no table of the bridge family, and keeps that one.
    pub fn start_bridge(bed: &Bed) -> Self {
        Self::start_with(bed, TableFamily::Bridge, render::bridge::bridge(&BridgeFacts::default()))
    }

    fn start_with(bed: &Bed, family: TableFamily, closed: Ruleset) -> Self {
        let mut agent = Self { connection: connect(bed, family), standing: None, closed };
        assert!(agent.connection.read().unwrap().is_none(), "there is a table already");
        agent
    }

    /// An agent that finds what another has left, and takes it over as it is.
    pub fn adopt(bed: &Bed) -> Self {
        let mut connection = connect(bed, TableFamily::Inet);
        let table = connection.read().unwrap().expect("a table to adopt");
        assert_eq!(table.standing, Standing::Orphan, "the table's owner is gone, and the table is not");
        connection.commit(&Transaction { ops: vec![Op::AddTable] }).unwrap();
        assert_eq!(connection.standing().unwrap(), Some(Standing::Ours));
        Self { connection, standing: Some(table.ruleset), closed: Ruleset::default() }
    }

    /// Makes the kernel hold what the world means.
    pub fn apply(&mut self, world: &World) {
        self.apply_ruleset(&world.ruleset());
    }

    /// Makes the kernel hold the ruleset, and looks whether it does.
    pub fn apply_ruleset(&mut self, wanted: &Ruleset) {
        let plan = self.plan(wanted);
        for transaction in &plan.transactions {
            self.commit(transaction);
        }
        let table = self.connection.read().unwrap().expect("the table");
        assert!(table.unreadable.is_empty(), "{:?}", table.unreadable);
        assert_eq!(table.ruleset, plan.after, "the kernel holds something else");
        self.standing = Some(plan.after);
    }

    /// What apply would commit.
    pub fn plan(&self, wanted: &Ruleset) -> Plan {
        match &self.standing {
            Some(standing) => diff::update(standing, wanted),
            None => diff::cold_start(&self.closed, wanted),
        }
    }

    /// Commits without looking.
    pub fn commit(&mut self, transaction: &Transaction) {
        self.connection.commit(transaction).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Takes note of what has been committed by hand.
    pub fn stands(&mut self, ruleset: Ruleset) {
        self.standing = Some(ruleset);
    }

    /// Packets that a rule has counted.
    pub fn counted(&mut self, chain: &str, id: &str) -> u64 {
        let counters = self.connection.counters().unwrap();
        counters.get(&(chain.into(), id.into())).expect("a rule that counts").packets
    }

    /// Removes the table, as for a teardown.
    pub fn remove(mut self) {
        for transaction in &diff::remove().transactions {
            self.commit(transaction);
        }
    }

    /// Ends the connections of an address that changes hands; gives how many.
    pub fn forget_connections(&self, bed: &Bed, addresses: &[IpAddr]) -> usize {
        let mut conntrack = bed.node.run(|| Conntrack::open().unwrap());
        conntrack.delete(&BTreeSet::from_iter(addresses.iter().copied())).unwrap()
    }
}

fn connect(bed: &Bed, family: TableFamily) -> Connection {
    let connection = bed
        .node
        .run(|| Connection::open(&Settings { family, ..Settings::default() }))
        .unwrap_or_else(|error| panic!("prerequisite missing: nftables in the kernel: {error}"));
    assert_eq!(
        connection.ownership(),
        Ownership::Owned,
        "prerequisite missing: a kernel that keeps owned tables (6.9 or later)"
    );
    connection
}
