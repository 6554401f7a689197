//! rustables, a library that shares no code with ours, sees the same table and chains.

use std::collections::{BTreeMap, BTreeSet};

use rustables::{ProtocolFamily, Table, list_chains_for_table, list_rules_for_chain, list_tables};
use selvage_nftables::model::*;
use selvage_nftables::netlink::Ownership;
use selvage_nftables::transaction::Op;

use crate::netns::Namespace;
use crate::sample::*;

const OWNER: u32 = 2;
const PERSIST: u32 = 4;

#[test]
fn rustables_lists_the_same_table_and_chains() {
    let namespace = Namespace::new();
    namespace.nft("table inet kube-proxy { chain c { accept; }; }");
    let mut connection = connect(&namespace, Ownership::Owned);
    let wish = everything();
    connection.commit(&creation(&wish)).unwrap();

    let (tables, chains) = namespace.run(|| {
        let tables = list_tables().unwrap();
        let ours = Table::new(ProtocolFamily::Inet).with_name("selvage").with_flags(OWNER | PERSIST);
        assert!(tables.contains(&ours), "{tables:?}");
        let chains = list_chains_for_table(&ours).unwrap();
        let names: BTreeSet<String> = tables.iter().filter_map(|table| table.get_name().cloned()).collect();
        (names, chains)
    });
    assert_eq!(tables, BTreeSet::from(["kube-proxy".to_owned(), "selvage".to_owned()]));

    let seen: BTreeMap<&str, Option<(u32, i32)>> = chains
        .iter()
        .map(|chain| {
            let hook = chain.get_hook().map(|hook| {
                let priority = hook.get_priority().copied().unwrap_or(0);
                (*hook.get_class().unwrap(), priority.cast_signed())
            });
            (chain.get_name().unwrap().as_str(), hook)
        })
        .collect();
    let meant = wish
        .chains
        .iter()
        .map(|(name, chain)| (&**name, chain.base.map(|base| (base.hook as u32, base.priority))))
        .collect();
    assert_eq!(seen, meant);
}

#[test]
fn rustables_lists_the_same_rules_where_it_knows_their_expressions() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let mut address = family(2).to_vec();
    address.push(payload(PayloadBase::Network, 12, 4, 0));
    address.push(Expr::Cmp { sreg: Reg(0), op: CmpOp::Eq, data: vec![10, 0, 0, 1] });
    address.push(Expr::Verdict(Verdict::Accept));
    let lengths = [address.len(), 1];
    let rules = vec![rule("a", address), rule("b", vec![Expr::Verdict(Verdict::Drop)])];
    let wish = Ruleset { chains: [("c".into(), chain(rules))].into(), sets: BTreeMap::new() };
    connection.commit(&creation(&wish)).unwrap();

    let seen: Vec<_> = namespace.run(|| {
        let tables = list_tables().unwrap();
        let chains = list_chains_for_table(&tables[0]).unwrap();
        let rules = list_rules_for_chain(&chains[0]).unwrap();
        let expressions = rules.iter().map(|rule| rule.get_expressions().unwrap().iter().count());
        let comments = rules.iter().map(|rule| rule.get_userdata().unwrap().clone());
        comments.zip(expressions).collect()
    });
    let meant = [(vec![0, 2, b'a', 0], lengths[0]), (vec![0, 2, b'b', 0], lengths[1])];
    assert_eq!(seen, meant);

    connection.commit(&[Op::DeleteTable].into_iter().collect()).unwrap();
    assert!(namespace.run(|| list_tables().unwrap()).is_empty());
}
