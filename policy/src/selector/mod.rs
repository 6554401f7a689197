//! Selectors over labels: the [language](syntax) that users write, and the canonical form that is evaluated.
//!
//! Build them with [`Selector::all_of`], [`Selector::any_of`], [`Selector::negate`] and the constructors of single
//! conditions: those keep the canonical form, in which negation stands only before [`Selector::All`] and
//! [`Selector::Has`]. A tree put together by hand is brought there by [`Selector::canonical`].

mod lower;
pub mod syntax;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::sync::Arc;

pub use lower::Chosen;
pub use syntax::{Expression, SelectorError};

/// A condition on labels. Equal meaning has one form as far as [`Selector::all_of`] can tell, so that two spellings
/// share one address group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// Every object.
    All,
    /// The label is there.
    Has(Arc<str>),
    /// The label is there with one of these values.
    In(Arc<str>, BTreeSet<Arc<str>>),
    /// The label is absent, or has none of these values.
    NotIn(Arc<str>, BTreeSet<Arc<str>>),
    /// The label is there, and its value passes the test.
    Text(Arc<str>, TextTest, Arc<str>),
    /// The condition does not hold.
    Not(Box<Selector>),
    /// All hold; sorted, without duplicates, at least two.
    And(Vec<Selector>),
    /// One holds; sorted, without duplicates, at least two.
    Or(Vec<Selector>),
}

/// How a value is compared with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TextTest {
    /// The text is a part of it.
    Contains,
    /// It begins with the text.
    StartsWith,
    /// It ends with the text.
    EndsWith,
}

/// What a selector is asked about.
pub trait LabelSource {
    /// The label's value, None where the label is absent.
    fn label(&self, key: &str) -> Option<&str>;
}

impl LabelSource for BTreeMap<Arc<str>, Arc<str>> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(|value| &**value)
    }
}

/// What one label must be for a conjunction to hold.
#[derive(Default)]
struct LabelCondition {
    present: bool,
    absent: bool,
    within: Option<BTreeSet<Arc<str>>>,
    without: BTreeSet<Arc<str>>,
    /// Tests that the value passes.
    passes: BTreeSet<(TextTest, Arc<str>)>,
    /// Tests that the value fails, or the label is absent.
    fails: BTreeSet<(TextTest, Arc<str>)>,
}

impl Selector {
    /// No object.
    pub fn nothing() -> Self {
        Self::Not(Box::new(Self::All))
    }

    /// The label is there.
    pub fn exists(key: impl Into<Arc<str>>) -> Self {
        Self::Has(key.into())
    }

    /// The label is absent.
    pub fn absent(key: impl Into<Arc<str>>) -> Self {
        Self::Not(Box::new(Self::Has(key.into())))
    }

    /// The label is there and has this value.
    pub fn equals(key: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        Self::In(key.into(), BTreeSet::from([value.into()]))
    }

    /// The label is there and has one of these values.
    pub fn within(key: impl Into<Arc<str>>, values: impl IntoIterator<Item = Arc<str>>) -> Self {
        let values: BTreeSet<_> = values.into_iter().collect();
        if values.is_empty() { Self::nothing() } else { Self::In(key.into(), values) }
    }

    /// The label is absent or has none of these values.
    pub fn without(key: impl Into<Arc<str>>, values: impl IntoIterator<Item = Arc<str>>) -> Self {
        let values: BTreeSet<_> = values.into_iter().collect();
        if values.is_empty() { Self::All } else { Self::NotIn(key.into(), values) }
    }

    /// The label is there, and its value passes the test.
    pub fn text(key: impl Into<Arc<str>>, test: TextTest, text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        // The empty text is in every value.
        if text.is_empty() { Self::exists(key) } else { Self::Text(key.into(), test, text) }
    }

    /// All hold; with no part, every object.
    pub fn all_of(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut labels: BTreeMap<Arc<str>, LabelCondition> = BTreeMap::new();
        let mut others = BTreeSet::new();
        let mut todo: Vec<Self> = parts.into_iter().collect();
        while let Some(part) = todo.pop() {
            match part {
                Self::All => {}
                Self::And(parts) => todo.extend(parts),
                Self::Has(key) => labels.entry(key).or_default().present = true,
                Self::In(key, values) => {
                    let condition = labels.entry(key).or_default();
                    condition.within = Some(match condition.within.take() {
                        Some(known) => known.intersection(&values).cloned().collect(),
                        None => values,
                    });
                }
                Self::NotIn(key, values) => labels.entry(key).or_default().without.extend(values),
                Self::Not(inner) => match *inner {
                    Self::Has(key) => labels.entry(key).or_default().absent = true,
                    Self::All => return Self::nothing(),
                    Self::Text(key, test, text) => {
                        labels.entry(key).or_default().fails.insert((test, text));
                    }
                    inner => todo.push(inner.negate()),
                },
                Self::Text(key, test, text) => {
                    labels.entry(key).or_default().passes.insert((test, text));
                }
                part @ Self::Or(_) => {
                    others.insert(part);
                }
            }
        }
        for (key, condition) in labels {
            if !condition.add_to(&key, &mut others) {
                return Self::nothing();
            }
        }
        match others.len() {
            0 => Self::All,
            1 => others.pop_first().unwrap_or(Self::All),
            _ => Self::And(others.into_iter().collect()),
        }
    }

    /// One holds; with no part, no object.
    pub fn any_of(parts: impl IntoIterator<Item = Self>) -> Self {
        // De Morgan: one set of merging rules serves both.
        Self::all_of(parts.into_iter().map(Self::negate)).negate()
    }

    /// The condition does not hold.
    pub fn negate(self) -> Self {
        match self {
            Self::All | Self::Has(_) | Self::Text(..) => Self::Not(Box::new(self)),
            Self::In(key, values) => Self::without(key, values),
            Self::NotIn(key, values) => Self::within(key, values),
            Self::Not(inner) => *inner,
            Self::And(parts) => Self::Or(Self::negated(parts)),
            Self::Or(parts) => Self::And(Self::negated(parts)),
        }
    }

    fn negated(parts: Vec<Self>) -> Vec<Self> {
        let mut parts: Vec<Self> = parts.into_iter().map(Self::negate).collect();
        parts.sort();
        parts
    }

    /// The canonical form of a tree that may have been built by hand.
    pub fn canonical(self) -> Self {
        match self {
            Self::All | Self::Has(_) => self,
            Self::In(key, values) => Self::within(key, values),
            Self::NotIn(key, values) => Self::without(key, values),
            Self::Text(key, test, text) => Self::text(key, test, text),
            Self::Not(inner) => inner.canonical().negate(),
            Self::And(parts) => Self::all_of(parts.into_iter().map(Self::canonical)),
            Self::Or(parts) => Self::any_of(parts.into_iter().map(Self::canonical)),
        }
    }

    /// Whether the condition holds for these labels.
    pub fn matches(&self, labels: &impl LabelSource) -> bool {
        match self {
            Self::All => true,
            Self::Has(key) => labels.label(key).is_some(),
            Self::In(key, values) => labels.label(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => !labels.label(key).is_some_and(|value| values.contains(value)),
            Self::Text(key, test, text) => labels.label(key).is_some_and(|value| test.holds(value, text)),
            Self::Not(inner) => !inner.matches(labels),
            Self::And(parts) => parts.iter().all(|part| part.matches(labels)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(labels)),
        }
    }
}

impl TextTest {
    fn holds(self, value: &str, text: &str) -> bool {
        match self {
            Self::Contains => value.contains(text),
            Self::StartsWith => value.starts_with(text),
            Self::EndsWith => value.ends_with(text),
        }
    }
}

/// As it is written.
impl fmt::Display for TextTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Contains => "contains",
            Self::StartsWith => "starts with",
            Self::EndsWith => "ends with",
        })
    }
}

impl LabelCondition {
    /// Adds what this means to a conjunction; false where it can't hold.
    fn add_to(self, key: &Arc<str>, parts: &mut BTreeSet<Selector>) -> bool {
        if self.absent {
            // An absent label is in no list and fails every test, so the rest holds by itself.
            parts.insert(Selector::absent(key.clone()));
            return !self.present && self.within.is_none() && self.passes.is_empty();
        }
        if let Some(within) = &self.within {
            let left: BTreeSet<_> = within.iter().filter(|value| self.allows(value)).cloned().collect();
            let possible = !left.is_empty();
            parts.insert(Selector::In(key.clone(), left));
            return possible;
        }
        if self.present && self.passes.is_empty() {
            parts.insert(Selector::Has(key.clone()));
        }
        let possible = self.passes.is_disjoint(&self.fails);
        if !self.without.is_empty() {
            parts.insert(Selector::NotIn(key.clone(), self.without));
        }
        let text = |(test, text)| Selector::Text(key.clone(), test, text);
        parts.extend(self.passes.into_iter().map(text));
        parts.extend(self.fails.into_iter().map(|tested| Selector::Not(Box::new(text(tested)))));
        possible
    }

    /// Whether a label with this value fulfils the conditions on values.
    fn allows(&self, value: &Arc<str>) -> bool {
        !self.without.contains(value)
            && self.passes.iter().all(|(test, text)| test.holds(value, text))
            && !self.fails.iter().any(|(test, text)| test.holds(value, text))
    }
}

/// The canonical text: two selectors have the same text only if they are the same tree. Group names are hashes of it,
/// so no release may change it without renaming every group.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all()"),
            Self::Has(key) => write!(f, "has({})", Quoted(key)),
            Self::In(key, values) => write_list(f, key, "in", values),
            Self::NotIn(key, values) => write_list(f, key, "not in", values),
            Self::Text(key, test, text) => write!(f, "{} {test} {}", Quoted(key), Quoted(text)),
            Self::Not(inner) => write!(f, "!{inner}"),
            Self::And(parts) => write_parts(f, parts, " && "),
            Self::Or(parts) => write_parts(f, parts, " || "),
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, key: &str, op: &str, values: &BTreeSet<Arc<str>>) -> fmt::Result {
    write!(f, "{} {op} {{", Quoted(key))?;
    for (index, value) in values.iter().enumerate() {
        write!(f, "{}{}", if index == 0 { "" } else { ", " }, Quoted(value))?;
    }
    f.write_str("}")
}

fn write_parts(f: &mut fmt::Formatter<'_>, parts: &[Selector], between: &str) -> fmt::Result {
    f.write_str("(")?;
    for (index, part) in parts.iter().enumerate() {
        write!(f, "{}{part}", if index == 0 { "" } else { between })?;
    }
    f.write_str(")")
}

/// A string in quotes, so that nothing in it can be taken for syntax.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'")?;
        if self.0.contains(['\'', '\\']) {
            for character in self.0.chars() {
                if matches!(character, '\'' | '\\') {
                    f.write_char('\\')?;
                }
                f.write_char(character)?;
            }
        } else {
            f.write_str(self.0)?;
        }
        f.write_str("'")
    }
}
