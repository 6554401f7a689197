//! "The verdict" of the semantics, line by line, as far as the compiler decides it.
//!
//! | the document says | here |
//! |---|---|
//! | the source's egress and the destination's ingress | [`the_sources_egress_and_the_destinations_ingress_are_both_asked`], `semantics_always::who_asks` |
//! | 1. established, related, invalid, untracked | `semantics_always::step_1` |
//! | 2. tiers in order; which count | [`tiers_are_asked_in_order`], [`a_tier_counts_only_for_endpoints_that_its_policies_select`], [`a_tier_counts_only_for_directions_that_its_policies_have`] |
//! | 3. policies and rules in order, first match, Log, the default action | [`policies_of_a_tier_are_asked_in_order`] and the two after it, [`the_first_match_decides`], [`pass_asks_the_next_tier`], [`no_match_in_a_tier_that_counts_is_its_default_action`] |
//! | 4. no tier left: allowed | [`with_no_policy_everything_is_allowed`], [`pass_asks_the_next_tier`] |
//! | three tiers always exist, their orders | [`three_tiers_always_exist_and_cant_be_changed_or_deleted`], [`kube_admin_is_asked_before_default_and_that_before_kube_baseline`], [`a_tier_of_order_1001_lies_between_kube_admin_and_default`] |
//! | NetworkPolicies are a union; Baseline | [`network_policies_are_a_union`], [`baseline_is_asked_only_where_nothing_in_default_selects_the_endpoint`] |
//! | a missing tier | [`a_policy_in_a_missing_tier_is_not_enforced_and_says_so`] |
//! | deny is a silent drop; a closed port that is allowed answers | `node-agent/nftables/tests/packets/ingress.rs` |

mod common;

use common::build::*;
use rstest::rstest;
use selvage_policy::compiled::Action::{self, Allow, Deny, Log, Pass};
use selvage_policy::engine::{Delta, Enforcement};
use selvage_policy::model::{Change, Policy};
use selvage_policy::selector::Selector;

/// A policy for shop/db with these ingress rules.
fn ingress(tier: &str, order: Option<f64>, rules: &[Action]) -> Policy {
    let subject = pods_in("shop", Selector::equals("app", "db"));
    policy(subject).tier(tier).order(order).ingress(rules.iter().map(|action| rule(*action)))
}

fn open(cluster: &Cluster) -> bool {
    cluster.allows("bank/web", "shop/db", TCP, 80)
}

#[test]
fn with_no_policy_everything_is_allowed() {
    assert!(open(&Cluster::small()));
}

#[test]
fn the_sources_egress_and_the_destinations_ingress_are_both_asked() {
    let mut cluster = Cluster::small();
    cluster.policy("bank/out", policy(pods_in("bank", Selector::All)).egress([]));
    assert!(!open(&cluster));
    assert!(cluster.allows("shop/db", "bank/web", TCP, 80));
    cluster.policy("bank/out", policy(pods_in("bank", Selector::All)).egress([rule(Allow)]));
    assert!(open(&cluster));
    cluster.policy("shop/in", policy(pods_in("shop", Selector::All)).ingress([]));
    assert!(!open(&cluster));
}

#[rstest]
#[case::lower_order_first(Some(1.0), Some(2.0), true)]
#[case::higher_order_later(Some(3.0), Some(2.0), false)]
#[case::same_order_by_name(Some(2.0), Some(2.0), true)]
#[case::without_an_order_last(None, Some(2.0), false)]
#[case::other_without_an_order_last(Some(2.0), None, true)]
#[case::both_without_an_order_by_name(None, None, true)]
#[case::negative_before_zero(Some(-1.0), Some(0.0), true)]
fn tiers_are_asked_in_order(#[case] a: Option<f64>, #[case] b: Option<f64>, #[case] a_first: bool) {
    let mut cluster = Cluster::small();
    cluster.tier("a", a, Deny);
    cluster.tier("b", b, Deny);
    cluster.policy("in-a", ingress("a", None, &[Allow]));
    cluster.policy("in-b", ingress("b", None, &[Deny]));
    assert_eq!(open(&cluster), a_first);
}

#[rstest]
#[case::lower_order_first(Some(1.0), Some(2.0), true)]
#[case::higher_order_later(Some(3.0), Some(2.0), false)]
#[case::same_order_by_name(Some(2.0), Some(2.0), true)]
#[case::without_an_order_last(None, Some(2.0), false)]
#[case::other_without_an_order_last(Some(2.0), None, true)]
#[case::both_without_an_order_by_name(None, None, true)]
fn policies_of_a_tier_are_asked_in_order(
    #[case] a: Option<f64>,
    #[case] b: Option<f64>,
    #[case] a_first: bool,
) {
    let mut cluster = Cluster::small();
    cluster.policy("a", ingress("default", a, &[Allow]));
    cluster.policy("b", ingress("default", b, &[Deny]));
    assert_eq!(open(&cluster), a_first);
}

#[test]
fn policies_of_one_order_and_name_are_asked_by_namespace() {
    let mut cluster = Cluster::small();
    cluster.policy("a/same", ingress("default", None, &[Allow]));
    cluster.policy("b/same", ingress("default", None, &[Deny]));
    assert!(open(&cluster));
    // The name comes before the namespace.
    cluster.policy("z/first", ingress("default", None, &[Deny]));
    assert!(!open(&cluster));
}

#[test]
fn policies_of_one_order_name_and_namespace_are_asked_by_kind() {
    let mut cluster = Cluster::small();
    let global = policy_key("same");
    let mut network = global.clone();
    network.kind = selvage_policy::compiled::PolicyKind::NetworkPolicy;
    cluster.apply(Change::Policy(global, Some(ingress("default", None, &[Deny]))));
    cluster.apply(Change::Policy(network, Some(ingress("default", None, &[Allow]))));
    assert!(open(&cluster));
}

#[rstest]
#[case::allow(&[Allow, Deny], true)]
#[case::deny(&[Deny, Allow], false)]
#[case::log_goes_on_to_allow(&[Log, Allow], true)]
#[case::log_goes_on_to_deny(&[Log, Deny], false)]
#[case::log_alone_does_not_make_the_tier_count(&[Log], true)]
#[case::pass_leaves_the_tier(&[Pass, Deny], true)]
#[case::no_rule_meets_the_default(&[], false)]
fn the_first_match_decides(#[case] rules: &[Action], #[case] allowed: bool) {
    let mut cluster = Cluster::small();
    cluster.policy("p", ingress("default", None, rules));
    assert_eq!(open(&cluster), allowed);
}

#[rstest]
#[case::allow(Allow, true)]
#[case::deny(Deny, false)]
#[case::pass_and_no_tier_left_is_allowed(Pass, true)]
fn pass_asks_the_next_tier(#[case] next: Action, #[case] allowed: bool) {
    let mut cluster = Cluster::small();
    cluster.policy("a", ingress("default", None, &[Pass]));
    cluster.policy("b", ingress("kube-baseline", None, &[next]));
    assert_eq!(open(&cluster), allowed);
}

#[rstest]
#[case::deny(Deny, false)]
#[case::pass(Pass, true)]
fn no_match_in_a_tier_that_counts_is_its_default_action(#[case] action: Action, #[case] allowed: bool) {
    let mut cluster = Cluster::small();
    cluster.tier("own", Some(1.0), action);
    cluster.policy("p", ingress("own", None, &[]));
    assert_eq!(open(&cluster), allowed);
    // A changed default counts at once.
    cluster.tier("own", Some(1.0), if action == Deny { Pass } else { Deny });
    assert_eq!(open(&cluster), !allowed);
}

#[test]
fn a_tier_counts_only_for_endpoints_that_its_policies_select() {
    let mut cluster = Cluster::small();
    cluster.policy("p", ingress("default", None, &[]));
    assert!(!open(&cluster));
    assert!(cluster.allows("bank/web", "shop/web", TCP, 80));
}

#[test]
fn a_tier_counts_only_for_directions_that_its_policies_have() {
    let mut cluster = Cluster::small();
    cluster.policy("p", policy(all_pods()).egress([rule(Allow)]));
    let profile = cluster.engine.endpoint(&endpoint("shop/db")).unwrap().profile;
    assert!(profile.ingress.is_empty());
    assert_eq!(profile.egress.len(), 1);
    assert!(open(&cluster));
}

#[rstest]
#[case("kube-admin")]
#[case("default")]
#[case("kube-baseline")]
fn three_tiers_always_exist_and_cant_be_changed_or_deleted(#[case] tier: &str) {
    let mut cluster = Cluster::small();
    cluster.policy("p", ingress(tier, None, &[]));
    let before = cluster.snapshot();
    assert_eq!(cluster.engine.policy(&policy_key("p")).unwrap().enforcement, Enforcement::Enforced);
    for action in [Deny, Pass] {
        assert_eq!(cluster.tier(tier, Some(1.0), action), Delta::default());
    }
    assert_eq!(cluster.apply(Change::Tier(tier.into(), None)), Delta::default());
    assert_eq!(cluster.snapshot(), before);
    assert_eq!(open(&cluster), tier != "default");
}

#[test]
fn kube_admin_is_asked_before_default_and_that_before_kube_baseline() {
    let mut cluster = Cluster::small();
    for tier in ["kube-baseline", "default", "kube-admin"] {
        cluster.policy(tier, ingress(tier, None, &[]));
    }
    let profile = cluster.engine.endpoint(&endpoint("shop/db")).unwrap().profile;
    let steps: Vec<_> = profile.ingress.iter().map(|step| (&*step.tier, step.default_action)).collect();
    assert_eq!(steps, [("kube-admin", Pass), ("default", Deny), ("kube-baseline", Pass)]);
}

#[test]
fn a_tier_of_order_1001_lies_between_kube_admin_and_default() {
    let mut cluster = Cluster::small();
    cluster.tier("own", Some(1001.0), Deny);
    cluster.policy("p", ingress("own", None, &[]));
    cluster.policy("q", ingress("default", None, &[]));
    cluster.policy("r", ingress("kube-admin", None, &[]));
    let profile = cluster.engine.endpoint(&endpoint("shop/db")).unwrap().profile;
    let steps: Vec<_> = profile.ingress.iter().map(|step| &*step.tier).collect();
    assert_eq!(steps, ["kube-admin", "own", "default"]);
}

#[test]
fn network_policies_are_a_union() {
    let mut cluster = Cluster::small();
    let from = |net| rule(Allow).from([block(net, &[])]);
    let shop = || policy(pods_in("shop", Selector::All));
    cluster.policy("shop/a", shop().ingress([from("10.0.1.0/24")]));
    cluster.policy("shop/b", shop().ingress([from("10.0.2.2/32")]));
    cluster.policy("shop/c", shop().ingress([]));
    assert!(open(&cluster));
    assert!(cluster.allows("shop/web", "shop/db", TCP, 80));
    assert!(!cluster.allows("10.0.3.1", "shop/db", TCP, 80));
}

#[test]
fn baseline_is_asked_only_where_nothing_in_default_selects_the_endpoint() {
    let mut cluster = Cluster::small();
    cluster.policy("base", ingress("kube-baseline", None, &[Deny]));
    assert!(!open(&cluster));
    cluster.policy("shop/allow", policy(pods_in("shop", Selector::All)).ingress([rule(Allow)]));
    assert!(open(&cluster));
}

#[test]
fn a_policy_in_a_missing_tier_is_not_enforced_and_says_so() {
    let mut cluster = Cluster::small();
    let delta = cluster.policy("p", ingress("own", None, &[Deny]));
    assert!(delta.policies.contains(&policy_key("p")));
    let status = cluster.engine.policy(&policy_key("p")).unwrap();
    assert_eq!(status.enforcement, Enforcement::MissingTier("own".into()));
    assert_eq!((status.endpoints, status.nodes.len()), (1, 0));
    assert!(open(&cluster));

    let delta = cluster.tier("own", None, Deny);
    assert!(delta.policies.contains(&policy_key("p")));
    let status = cluster.engine.policy(&policy_key("p")).unwrap();
    assert_eq!(status.enforcement, Enforcement::Enforced);
    assert_eq!((status.endpoints, &*status.nodes), (1, &["node-2".into()][..]));
    assert!(!open(&cluster));

    cluster.apply(Change::Tier("own".into(), None));
    assert!(open(&cluster));
}
