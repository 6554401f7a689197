//! The selector language: what is read, how it is printed, and what is said of what can't be read.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails that way")]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rstest::rstest;
use selvage_policy::selector::syntax::{MAX_DEPTH, MAX_LENGTH};
use selvage_policy::selector::{Chosen, Expression, TextTest};

fn parse(text: &str) -> Expression {
    Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).unwrap()
}

fn canonical(text: &str) -> String {
    parse(text).lower(Chosen::PodsAndSets).to_string()
}

#[rstest]
#[case::all("all()", "all()")]
#[case::all_with_blanks(" all ( ) ", "all()")]
#[case::global("global()", "global()")]
#[case::has("has( a/b.c-d_e )", "has(a/b.c-d_e)")]
#[case::equals("a=='x'", "a == 'x'")]
#[case::double_quotes("a == \"it's\"", "a == \"it's\"")]
#[case::differs("a!='x'", "a != 'x'")]
#[case::within("a in{'x','y'}", "a in {'x', 'y'}")]
#[case::a_comma_behind_the_last("a in {'x' , }", "a in {'x'}")]
#[case::words_in_one("a startswith 'x' && a endswith 'y'", "a starts with 'x' && a ends with 'y'")]
#[case::words_and_strings_in_one("a contains'x'&&a startswith'y'", "a contains 'x' && a starts with 'y'")]
#[case::within_nothing("a in { }", "a in {}")]
#[case::not_in("a  not   in {'x'}", "a not in {'x'}")]
#[case::notin("a notin {'x'}", "a not in {'x'}")]
#[case::contains("a contains 'x'", "a contains 'x'")]
#[case::starts_with("a starts  with 'x'", "a starts with 'x'")]
#[case::ends_with("a ends with'x'", "a ends with 'x'")]
#[case::and_binds_tighter("a=='1'||b=='2'&&c=='3'", "a == '1' || b == '2' && c == '3'")]
#[case::parentheses("(a=='1'||b=='2')&&c=='3'", "(a == '1' || b == '2') && c == '3'")]
#[case::not("!has(a)&&!!(b=='1'&&has(c))", "!has(a) && !!(b == '1' && has(c))")]
#[case::words_as_labels(
    "in in {'x'} && not == 'y' && all == 'z' && has != 'q'",
    "in in {'x'} && not == 'y' && all == 'z' && has != 'q'"
)]
#[case::labels_that_begin_as_words(
    "hasty == 'x' && inner in {'y'} && notable notin {'z'}",
    "hasty == 'x' && inner in {'y'} && notable not in {'z'}"
)]
#[case::lines("a == 'x'\n\t&& has(b)", "a == 'x' && has(b)")]
fn is_read(#[case] text: &str, #[case] printed: &str) {
    assert_eq!(parse(text).to_string(), printed);
    assert_eq!(parse(printed), parse(text));
}

#[rstest]
#[case("")]
#[case("  \t\n")]
fn blank_is_no_expression(#[case] text: &str) {
    assert_eq!(Expression::parse(text), Ok(None));
}

/// Two spellings of one selector share one address group.
#[rstest]
#[case("a == 'x'", "a in {\"x\"}")]
#[case("a != 'x'", "!(a == 'x')")]
#[case("a in {'x','y'}", "a == 'y' || a == 'x'")]
#[case("!(has(a) && has(b))", "!has(b) || !has(a)")]
#[case("all() && has(a)", "(has(a))")]
#[case("a not in {}", "all()")]
#[case("a contains ''", "has(a)")]
#[case("has(a) && a contains 'x'", "a contains 'x'")]
#[case("!has(a) && !(a contains 'x')", "!has(a)")]
#[case("a in {'xy', 'yx', 'y'} && a starts with 'y' && !(a ends with 'x')", "a == 'y'")]
#[case("has(a) || a contains 'x'", "has(a)")]
#[case("!has(a) && a contains 'x'", "!all()")]
#[case("a == 'x' && a contains 'y'", "!all()")]
#[case("a contains 'x' && !(a contains 'x')", "!all()")]
#[case("a contains 'x' || !(a contains 'x')", "all()")]
#[case("!(a starts with 'x' || has(b))", "!has(b) && !(a starts with 'x')")]
#[case("projectcalico.org/namespace == 'x'", "selvage.io/namespace in {'x'}")]
fn spellings_of_one_meaning(#[case] a: &str, #[case] b: &str) {
    assert_eq!(canonical(a), canonical(b));
}

#[rstest]
#[case(Chosen::PodsAndSets, "projectcalico.org/namespace", "@namespace")]
#[case(Chosen::PodsAndSets, "selvage.io/serviceaccount", "@serviceaccount")]
#[case(Chosen::PodsAndSets, "projectcalico.org/orchestrator", "@orchestrator")]
#[case(Chosen::PodsAndSets, "projectcalico.org/name", "projectcalico.org/name")]
#[case(Chosen::Namespaces, "projectcalico.org/name", "@name")]
#[case(Chosen::Namespaces, "projectcalico.org/namespace", "projectcalico.org/namespace")]
#[case(Chosen::ServiceAccounts, "selvage.io/name", "@name")]
#[case(Chosen::Nodes, "selvage.io/name", "selvage.io/name")]
fn labels_that_are_given(#[case] chosen: Chosen, #[case] label: &str, #[case] key: &str) {
    assert_eq!(parse(&format!("has({label})")).lower(chosen).to_string(), format!("has('{key}')"));
}

#[rstest]
#[case("a", "column 2: expected ==, !=, in, not in, contains, starts with or ends with, found the end")]
#[case("a = 'x'", "column 3: expected ==, !=, in, not in, contains, starts with or ends with, found '='")]
#[case("a == x", "column 6: expected a string in '..' or \"..\", found 'x'")]
#[case("a == 'x", "column 8: expected ', found the end")]
#[case("a == 'x' b", "column 10: expected && or || or the end, found 'b'")]
#[case("a == 'x' &&", "column 12: expected has(..), all(), global(), !, ( or a label, found the end")]
#[case("(a == 'x'", "column 10: expected &&, || or ), found the end")]
#[case("a in 'x'", "column 6: expected {, found '\\''")]
#[case("a in {'x' 'y'}", "column 11: expected a comma or }, found '\\''")]
#[case("a in {", "column 7: expected a string in '..' or \"..\", or }, found the end")]
#[case("a in {,}", "column 7: expected a string in '..' or \"..\", or }, found ','")]
#[case("a in {'x', b}", "column 12: expected a string in '..' or \"..\", or }, found 'b'")]
#[case("a in {'x', 'y}", "column 15: expected ', found the end")]
#[case("a not 'x'", "column 7: expected in, found '\\''")]
#[case("a starts 'x'", "column 10: expected with, found '\\''")]
#[case("a contains b", "column 12: expected a string in '..' or \"..\", found 'b'")]
#[case("a == b == 'c'", "column 6: expected a string in '..' or \"..\", found 'b'")]
#[case("'a' == 'b'", "column 1: expected has(..), all(), global(), !, ( or a label, found '\\''")]
#[case("a == 'x' & b == 'y'", "column 10: expected && or || or the end, found '&'")]
#[case("has(a b)", "column 7: expected ), found 'b'")]
#[case("all(a)", "column 5: expected ), found 'a'")]
#[case("()", "column 2: expected has(..), all(), global(), !, ( or a label, found ')'")]
#[case("!", "column 2: expected has(..), all(), global(), !, ( or a label, found the end")]
#[case("all())", "column 6: expected && or || or the end, found ')'")]
#[case("has()", "column 5: expected a label, found ')'")]
#[case("has(a", "column 6: expected ), found the end")]
#[case("é == 'x'", "column 1: expected has(..), all(), global(), !, ( or a label, found 'é'")]
#[case("a == 'é' && ü", "column 13: expected has(..), all(), global(), !, ( or a label, found 'ü'")]
fn errors_say_where_and_what(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(Expression::parse(text).unwrap_err().to_string(), expected, "{text}");
}

#[test]
fn the_length_is_counted_in_characters() {
    let of_length = |length: usize| format!("a == '{}'", "é".repeat(length - 7));
    assert!(Expression::parse(&of_length(MAX_LENGTH)).is_ok());
    let error = Expression::parse(&of_length(MAX_LENGTH + 1)).unwrap_err();
    assert_eq!(error.to_string(), "has 1025 characters, 1024 at most are read");
}

#[test]
fn nesting_has_an_end() {
    let nested = |depth: usize| format!("{}has(a){}", "(".repeat(depth), ")".repeat(depth));
    assert!(Expression::parse(&nested(MAX_DEPTH)).is_ok());
    let error = Expression::parse(&nested(MAX_DEPTH + 1)).unwrap_err();
    assert_eq!(error.to_string(), "column 66: parentheses are nested more than 64 deep");
    assert!(Expression::parse(&"(".repeat(MAX_LENGTH)).is_err());
    assert!(Expression::parse(&"!".repeat(MAX_LENGTH)).is_err());
}

/// Whatever is done with what was read, `!` as often as there is room for fits a small stack.
#[test]
fn negations_need_no_limit() {
    let text = format!("{}has(a)", "!".repeat(MAX_LENGTH - 6));
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let used = small.spawn(move || {
        let read = parse(&text);
        assert_eq!((&read.clone(), read.to_string()), (&read, text));
        assert_eq!(read.lower(Chosen::PodsAndSets).to_string(), "has('a')");
        assert!(!read.names_global());
    });
    used.unwrap().join().unwrap();
}

/// What a selector says, from what was written.
fn holds(expression: &Expression, labels: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
    match expression {
        Expression::All => true,
        Expression::Global => false,
        Expression::Has(label) => labels.contains_key(label),
        Expression::Equals(label, value) => labels.get(label) == Some(value),
        Expression::Differs(label, value) => labels.get(label) != Some(value),
        Expression::In(label, values) => labels.get(label).is_some_and(|value| values.contains(value)),
        Expression::NotIn(label, values) => !labels.get(label).is_some_and(|value| values.contains(value)),
        Expression::Text(label, test, text) => labels.get(label).is_some_and(|value| match test {
            TextTest::Contains => value.contains(&**text),
            TextTest::StartsWith => value.starts_with(&**text),
            TextTest::EndsWith => value.ends_with(&**text),
        }),
        Expression::Not(inner) => !holds(inner, labels),
        Expression::And(parts) => parts.iter().all(|part| holds(part, labels)),
        Expression::Or(parts) => parts.iter().any(|part| holds(part, labels)),
    }
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = Arc<str>> {
    select(words).prop_map(Arc::from)
}

fn expression() -> impl Strategy<Value = Expression> {
    let label = || word(&["a", "b", "not", "in", "x/y.z-_", "all", "has"]);
    let value = || word(&["x", "xy", "", "it's", "a \"b\"", "é"]);
    let tests = select(&[TextTest::Contains, TextTest::StartsWith, TextTest::EndsWith][..]);
    let leaf = prop_oneof![
        Just(Expression::All),
        label().prop_map(Expression::Has),
        (label(), value()).prop_map(|(label, value)| Expression::Equals(label, value)),
        (label(), value()).prop_map(|(label, value)| Expression::Differs(label, value)),
        (label(), vec(value(), 0..3)).prop_map(|(label, values)| Expression::In(label, values)),
        (label(), vec(value(), 0..3)).prop_map(|(label, values)| Expression::NotIn(label, values)),
        (label(), tests, value()).prop_map(|(label, test, text)| Expression::Text(label, test, text)),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Expression::Not(Box::new(inner))),
            vec(inner.clone(), 2..4).prop_map(Expression::And),
            vec(inner, 2..4).prop_map(Expression::Or),
        ]
    })
}

/// Strings made of what the language is made of.
fn tokens() -> impl Strategy<Value = String> {
    let token = select(
        &[
            "a", "has", "all", "global", "(", ")", "{", "}", "'x'", "\"y\"", "'", "\"", "==", "!=", "!",
            "&&", "||", "in", "not", "notin", "contains", "starts", "ends", "with", ",", " ", "é", "=", "&",
            "\n",
        ][..],
    );
    vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = Expression::parse(&text);
    }

    #[test]
    fn no_tokens_panic_and_what_is_read_prints(text in tokens()) {
        if let Ok(Some(read)) = Expression::parse(&text) {
            prop_assert_eq!(Expression::parse(&read.to_string()), Ok(Some(read)));
        }
    }

    #[test]
    fn what_is_printed_is_read_the_same(written in expression()) {
        prop_assert_eq!(Expression::parse(&written.to_string()), Ok(Some(written)));
    }

    #[test]
    fn the_canonical_form_says_the_same(
        written in expression(),
        labels in proptest::collection::btree_map(word(&["a", "b", "not", "in"]), word(&["x", "xy", ""]), 0..4),
    ) {
        let canonical = written.lower(Chosen::PodsAndSets);
        prop_assert_eq!(canonical.matches(&labels), holds(&written, &labels), "{} as {}", written, canonical);
        prop_assert_eq!(canonical.clone().canonical(), canonical);
    }
}
