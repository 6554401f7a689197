//! Selectors: canonical form, evaluation, text.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::build;
use common::random::selector;
use proptest::prelude::*;
use rstest::rstest;
use selvage_policy::oracle::who::holds;
use selvage_policy::selector::Selector;

fn list(values: &str) -> Vec<Arc<str>> {
    values.split_whitespace().map(Arc::from).collect()
}

fn within(key: &str, values: &str) -> Selector {
    Selector::within(key, list(values))
}

fn without(key: &str, values: &str) -> Selector {
    Selector::without(key, list(values))
}

fn has(key: &str) -> Selector {
    Selector::exists(key)
}

fn absent(key: &str) -> Selector {
    Selector::absent(key)
}

#[rstest]
#[case::none(vec![], "all()")]
#[case::one(vec![has("a")], "has('a')")]
#[case::all_says_nothing(vec![Selector::All, has("a")], "has('a')")]
#[case::nothing_wins(vec![Selector::nothing(), has("a")], "!all()")]
#[case::twice(vec![has("a"), has("a")], "has('a')")]
#[case::sorted(vec![has("b"), has("a")], "(has('a') && has('b'))")]
#[case::flattened(
    vec![has("c"), Selector::all_of([has("b"), has("a")])],
    "(has('a') && has('b') && has('c'))"
)]
#[case::lists_meet(vec![within("a", "x y"), within("a", "y z")], "'a' in {'y'}")]
#[case::lists_that_do_not_meet(vec![within("a", "x"), within("a", "y")], "!all()")]
#[case::exclusions_add_up(vec![without("a", "x"), without("a", "y")], "'a' not in {'x', 'y'}")]
#[case::an_exclusion_shortens_a_list(vec![within("a", "x y"), without("a", "y")], "'a' in {'x'}")]
#[case::a_value_implies_presence(vec![within("a", "x"), has("a")], "'a' in {'x'}")]
#[case::absence_implies_exclusion(vec![absent("a"), without("a", "x")], "!has('a')")]
#[case::absence_and_presence(vec![absent("a"), has("a")], "!all()")]
#[case::absence_and_a_value(vec![absent("a"), within("a", "x")], "!all()")]
#[case::presence_with_exclusion(vec![has("a"), without("a", "x")], "(has('a') && 'a' not in {'x'})")]
#[case::empty_list(vec![within("a", "")], "!all()")]
#[case::empty_exclusion(vec![without("a", "")], "all()")]
fn all_of(#[case] parts: Vec<Selector>, #[case] text: &str) {
    assert_eq!(Selector::all_of(parts.clone()).to_string(), text);
    assert_eq!(Selector::all_of(parts.into_iter().rev()).to_string(), text);
}

#[rstest]
#[case::none(vec![], "!all()")]
#[case::one(vec![has("a")], "has('a')")]
#[case::all_wins(vec![Selector::All, has("a")], "all()")]
#[case::nothing_says_nothing(vec![Selector::nothing(), has("a")], "has('a')")]
#[case::sorted(vec![has("b"), has("a")], "(has('a') || has('b'))")]
#[case::lists_add_up(vec![within("a", "x"), within("a", "y")], "'a' in {'x', 'y'}")]
#[case::exclusions_meet(vec![without("a", "x y"), without("a", "y z")], "'a' not in {'y'}")]
#[case::presence_or_absence(vec![absent("a"), has("a")], "all()")]
#[case::presence_covers_a_value(vec![within("a", "x"), has("a")], "has('a')")]
fn any_of(#[case] parts: Vec<Selector>, #[case] text: &str) {
    assert_eq!(Selector::any_of(parts.clone()).to_string(), text);
    assert_eq!(Selector::any_of(parts.into_iter().rev()).to_string(), text);
}

#[test]
fn text_keeps_apart_what_quotes_could_mix_up() {
    let tricky = ["x', 'y", "x\\", "x'", "x\\'", "x"];
    let mut texts: Vec<_> = tricky.iter().map(|value| Selector::equals("a", *value).to_string()).collect();
    texts.push(within("a", "x y").to_string());
    let distinct: std::collections::BTreeSet<_> = texts.iter().collect();
    assert_eq!(distinct.len(), texts.len(), "{texts:?}");
}

#[test]
fn kubernetes_operators() {
    let labels = build::labels(&[("app", "web"), ("env", "")]);
    for (selector, matches) in [
        (Selector::equals("app", "web"), true),
        (Selector::equals("app", "db"), false),
        (Selector::equals("env", ""), true),
        (Selector::equals("none", ""), false),
        (within("app", "db web"), true),
        (without("app", "db web"), false),
        (without("none", "x"), true),
        (has("env"), true),
        (has("none"), false),
        (absent("none"), true),
        (absent("env"), false),
    ] {
        assert_eq!(selector.matches(&labels), matches, "{selector}");
    }
}

fn every_labelling() -> Vec<BTreeMap<Arc<str>, Arc<str>>> {
    let values = [None, Some("x"), Some("y"), Some("z")];
    let mut all = Vec::new();
    for app in values {
        for tier in values {
            for env in values {
                let pairs = [("app", app), ("tier", tier), ("env", env)];
                let pairs: Vec<_> = pairs.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
                all.push(build::labels(&pairs));
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn the_canonical_form_means_the_same_and_is_stable(tree in selector()) {
        let canonical = tree.clone().canonical();
        prop_assert_eq!(&canonical, &canonical.clone().canonical());
        prop_assert_eq!(&canonical, &canonical.clone().negate().negate());
        let negated = canonical.clone().negate();
        prop_assert_eq!(&negated, &negated.clone().canonical());
        for labels in every_labelling() {
            let expected = holds(&tree, &labels);
            prop_assert_eq!(canonical.matches(&labels), expected, "{} for {:?}", canonical, labels);
            prop_assert_eq!(negated.matches(&labels), !expected, "{} for {:?}", negated, labels);
        }
    }

    #[test]
    fn equal_text_is_the_same_tree(a in selector(), b in selector()) {
        let (a, b) = (a.canonical(), b.canonical());
        prop_assert_eq!(a == b, a.to_string() == b.to_string());
    }
}
