//! Which pools there are.

use rstest::rstest;
use selvage_crds::IPPool;
use serde_json::json;

use super::*;

fn pools(given: &[&str], blocks: &[&str]) -> Pools {
    let mut pools = Pools::new(given.iter().map(|net| net.parse().unwrap()).collect(), true);
    for (number, block) in blocks.iter().enumerate() {
        pools.node(&format!("n{number}").into(), Some(&[block.parse().unwrap()]));
    }
    pools
}

/// A pool; returns what the engine is told: `+name` and `-name`.
fn stands(pools: &mut Pools, name: &str, cidr: &str, managed: bool, created: i64) -> Vec<String> {
    let spec = json!({ "cidr": cidr, "natOutgoing": managed });
    let object: IPPool =
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
    let seen = SeenPool { managed, created, ..SeenPool::of(&object).unwrap() };
    told(pools.stands(&name.into(), Some(seen)))
}

fn told(changes: Vec<Change>) -> Vec<String> {
    let said = |change| match change {
        Change::Pool(name, Some(_)) => format!("+{name}"),
        Change::Pool(name, None) => format!("-{name}"),
        other => panic!("{other:?}"),
    };
    changes.into_iter().map(said).collect()
}

/// What would be done: `+net`, with `nat` where that is taken over, and `-name`.
fn chores(pools: &Pools) -> Vec<String> {
    let said = |chore| match chore {
        Chore::CreatePool { spec, .. } if spec.nat_outgoing => format!("+{} nat", spec.cidr),
        Chore::CreatePool { spec, .. } => format!("+{}", spec.cidr),
        Chore::DeletePool { name, .. } => format!("-{name}"),
        other => panic!("{other:?}"),
    };
    pools.chores().into_iter().map(said).collect()
}

#[rstest]
#[case::the_smallest_around(&[], &["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"], &["+10.244.0.0/22"])]
#[case::one_block(&[], &["10.244.3.0/24"], &["+10.244.3.0/24"])]
#[case::both_families(&[], &["10.244.0.0/24", "fd00::/64", "fd00:0:0:3::/64"], &["+10.244.0.0/24", "+fd00::/62"])]
#[case::far_apart(&[], &["10.0.0.0/24", "192.168.0.0/24", "192.168.1.0/24"], &["+10.0.0.0/24", "+192.168.0.0/23"])]
#[case::given(&["10.244.0.0/16", "fd00::/56"], &["10.244.0.0/24"], &["+10.244.0.0/16", "+fd00::/56"])]
#[case::no_nodes(&[], &[], &[])]
fn networks(#[case] given: &[&str], #[case] blocks: &[&str], #[case] planned: &[&str]) {
    assert_eq!(chores(&pools(given, blocks)), planned);
}

#[test]
fn a_users_pool_is_enough() {
    let mut pools = pools(&[], &["10.244.0.0/24", "10.244.1.0/24", "fd00::/64"]);
    assert_eq!(stands(&mut pools, "mine", "10.244.0.0/24", false, 1), ["+mine"]);
    assert_eq!(chores(&pools), ["+fd00::/64"], "the other family has none");
}

#[test]
fn a_default_pool_gives_way_to_a_users() {
    let mut pools = pools(&[], &["10.244.0.0/24", "10.244.1.0/24"]);
    stands(&mut pools, "pods-10-244-0-0-23", "10.244.0.0/23", true, 1);
    assert_eq!(
        stands(&mut pools, "mine", "10.244.0.0/16", false, 2),
        Vec::<String>::new(),
        "it is the younger"
    );
    assert_eq!(pools.overlapped_by("mine").map(|(name, _)| &**name), Some("pods-10-244-0-0-23"));
    assert_eq!(chores(&pools), ["-pods-10-244-0-0-23"]);
    assert_eq!(told(pools.stands(&"pods-10-244-0-0-23".into(), None)), ["-pods-10-244-0-0-23", "+mine"]);
    assert_eq!(chores(&pools), Vec::<String>::new());
}

#[test]
fn a_default_pool_grows_by_another_that_takes_over_its_settings() {
    let mut pools = pools(&[], &["10.244.0.0/24"]);
    stands(&mut pools, "pods-10-244-0-0-24", "10.244.0.0/24", true, 1);
    assert_eq!(chores(&pools), Vec::<String>::new());
    pools.node(&"n9".into(), Some(&["10.244.1.0/24".parse().unwrap()]));
    assert_eq!(chores(&pools), ["+10.244.0.0/23 nat"]);
    stands(&mut pools, "pods-10-244-0-0-23", "10.244.0.0/23", true, 2);
    assert_eq!(chores(&pools), ["-pods-10-244-0-0-24"]);
    pools.stands(&"pods-10-244-0-0-24".into(), None);
    assert_eq!(chores(&pools), Vec::<String>::new());
    pools.node(&"n9".into(), None);
    assert_eq!(chores(&pools), Vec::<String>::new(), "it does not shrink");
}

#[test]
fn without_defaults_nothing_is_done() {
    let mut pools = Pools::new(vec!["10.0.0.0/8".parse().unwrap()], false);
    stands(&mut pools, "pods-10-1-0-0-16", "10.1.0.0/16", true, 1);
    assert_eq!(chores(&pools), Vec::<String>::new());
}

#[test]
fn of_two_that_overlap_the_older_counts() {
    let mut pools = pools(&[], &[]);
    assert_eq!(stands(&mut pools, "a", "10.1.0.0/16", false, 2), ["+a"]);
    assert_eq!(stands(&mut pools, "b", "10.0.0.0/8", false, 1), ["-a", "+b"]);
    assert_eq!(stands(&mut pools, "c", "172.16.0.0/12", false, 3), ["+c"]);
    assert_eq!(told(pools.stands(&"b".into(), None)), ["-b", "+a"]);
}
