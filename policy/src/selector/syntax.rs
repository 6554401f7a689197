//! The selector language, as users write it.
//!
//! ```text
//! or   := and ('||' and)*
//! and  := term ('&&' term)*
//! term := '!'* ( has(label) | all() | global() | '(' or ')' | label op value )
//! op   := '==' | '!=' | 'in' {..} | 'not in' {..} | 'notin' {..} | 'contains' | 'starts with' | 'ends with'
//! ```
//!
//! Strings stand in `'..'` or `".."`, without escapes; a label is of `[A-Za-z0-9_./-]`. White space may stand between any
//! two of these, and none need stand between two words of an operator (`notin`, `startswith`).

use std::fmt;
use std::sync::Arc;

use winnow::Parser;
use winnow::combinator::{alt, delimited, opt, preceded};
use winnow::error::{AddContext, ParserError};
use winnow::stream::Stream;
use winnow::token::{literal, take_while};

use super::TextTest;

/// How many characters a selector has at most.
pub const MAX_LENGTH: usize = 1024;
/// How deep parentheses may be nested: more than anyone writes, and far from what a thread's stack holds. `!` needs no
/// limit beside [`MAX_LENGTH`].
pub const MAX_DEPTH: usize = 64;

/// A selector as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// `all()`.
    All,
    /// `global()`: the GlobalNetworkSets; it has a meaning as the whole of a `namespaceSelector` alone.
    Global,
    /// `has(label)`.
    Has(Arc<str>),
    /// `label == 'value'`.
    Equals(Arc<str>, Arc<str>),
    /// `label != 'value'`.
    Differs(Arc<str>, Arc<str>),
    /// `label in {'value', ..}`.
    In(Arc<str>, Vec<Arc<str>>),
    /// `label not in {'value', ..}`.
    NotIn(Arc<str>, Vec<Arc<str>>),
    /// `label contains 'text'`, `starts with`, `ends with`.
    Text(Arc<str>, TextTest, Arc<str>),
    /// `!term`.
    Not(Box<Expression>),
    /// Two or more with `&&` between them.
    And(Vec<Expression>),
    /// Two or more with `||` between them.
    Or(Vec<Expression>),
}

/// Why a selector can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// It has too many characters.
    #[error("has {0} characters, {MAX_LENGTH} at most are read")]
    TooLong(usize),
    /// Its parentheses are nested too deep.
    #[error("column {0}: parentheses are nested more than {MAX_DEPTH} deep")]
    TooDeep(usize),
    /// Something else was expected.
    #[error("column {column}: expected {expected}, found {found}")]
    Syntax {
        /// Where, in characters from 1.
        column: usize,
        /// What could have stood there.
        expected: String,
        /// What stands there.
        found: String,
    },
}

/// What could have stood how far from the end.
#[derive(Debug)]
struct Expected {
    left: usize,
    what: Vec<&'static str>,
    too_deep: bool,
}

type Input<'a> = &'a str;
type Parsed<T> = Result<T, Expected>;

impl Expression {
    /// Reads a selector; None where it is blank.
    ///
    /// # Errors
    /// Says the column and what was expected there.
    pub fn parse(text: &str) -> Result<Option<Self>, SelectorError> {
        let length = text.chars().count();
        if length > MAX_LENGTH {
            return Err(SelectorError::TooLong(length));
        }
        if text.trim().is_empty() {
            return Ok(None);
        }
        let mut input = text;
        let parsed = any(&mut input, 0).and_then(|expression| {
            blank.parse_next(&mut input)?;
            match input.is_empty() {
                true => Ok(expression),
                false => Err(Expected::at(input, vec!["&&", "||", "the end"])),
            }
        });
        parsed.map(Some).map_err(|error| error.in_text(text))
    }

    /// Whether [`Expression::Global`] is in it.
    pub fn names_global(&self) -> bool {
        match self {
            Self::Global => true,
            Self::Not(inner) => inner.names_global(),
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::names_global),
            _ => false,
        }
    }
}

fn any(input: &mut Input<'_>, depth: usize) -> Parsed<Expression> {
    let mut parts = vec![all(input, depth)?];
    while opt((blank, "||")).parse_next(input)?.is_some() {
        parts.push(all(input, depth)?);
    }
    Ok(one_or(parts, Expression::Or))
}

fn all(input: &mut Input<'_>, depth: usize) -> Parsed<Expression> {
    let mut parts = vec![term(input, depth)?];
    while opt((blank, "&&")).parse_next(input)?.is_some() {
        parts.push(term(input, depth)?);
    }
    Ok(one_or(parts, Expression::And))
}

fn one_or(mut parts: Vec<Expression>, several: fn(Vec<Expression>) -> Expression) -> Expression {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            several(parts)
        }
    }
}

fn term(input: &mut Input<'_>, depth: usize) -> Parsed<Expression> {
    let mut negations = 0;
    while opt((blank, "!")).parse_next(input)?.is_some() {
        negations += 1;
    }
    blank.parse_next(input)?;
    let expression = match opt(literal("(")).parse_next(input)? {
        Some(_) if depth >= MAX_DEPTH => {
            return Err(Expected { too_deep: true, ..Expected::at(input, Vec::new()) });
        }
        Some(_) => {
            let inner = any(input, depth + 1)?;
            preceded(blank, literal(")").context("&&, || or )")).parse_next(input)?;
            inner
        }
        None => alt((call, condition)).parse_next(input)?,
    };
    Ok((0..negations).fold(expression, |inner, _| Expression::Not(Box::new(inner))))
}

/// `has(label)`, `all()`, `global()`.
fn call(input: &mut Input<'_>) -> Parsed<Expression> {
    let empty = || (blank, "(", blank, literal(")").context(")"));
    let label =
        delimited((blank, "(", blank), label.context("a label"), preceded(blank, literal(")").context(")")));
    alt((
        preceded("has", label).map(Expression::Has),
        ("all", empty()).map(|_| Expression::All),
        ("global", empty()).map(|_| Expression::Global),
    ))
    .parse_next(input)
}

/// `label op value`.
fn condition(input: &mut Input<'_>) -> Parsed<Expression> {
    let label = label.context("has(..), all(), global(), !, ( or a label").parse_next(input)?;
    let key = || label.clone();
    let list = || preceded(blank, values);
    let text = || preceded(blank, string);
    let with = || (blank, ("with", word_end).context("with"));
    let operation = alt((
        preceded("==", text()).map(|value| Expression::Equals(key(), value)),
        preceded("!=", text()).map(|value| Expression::Differs(key(), value)),
        preceded(("not", blank, ("in", word_end).context("in")), list())
            .map(|values| Expression::NotIn(key(), values)),
        preceded(("in", word_end), list()).map(|values| Expression::In(key(), values)),
        preceded(("contains", word_end), text())
            .map(|value| Expression::Text(key(), TextTest::Contains, value)),
        preceded(("starts", with()), text())
            .map(|value| Expression::Text(key(), TextTest::StartsWith, value)),
        preceded(("ends", with()), text()).map(|value| Expression::Text(key(), TextTest::EndsWith, value)),
    ));
    preceded(blank, operation.context("==, !=, in, not in, contains, starts with or ends with"))
        .parse_next(input)
}

fn values(input: &mut Input<'_>) -> Parsed<Vec<Arc<str>>> {
    literal("{").context("{").parse_next(input)?;
    let mut values = Vec::new();
    // As in Calico, a comma may stand behind the last one.
    while opt((blank, "}")).parse_next(input)?.is_none() {
        values.push(preceded(blank, string.context("a string in '..' or \"..\", or }")).parse_next(input)?);
        if opt((blank, ",")).parse_next(input)?.is_none() {
            preceded(blank, literal("}").context("a comma or }")).parse_next(input)?;
            break;
        }
    }
    Ok(values)
}

fn string(input: &mut Input<'_>) -> Parsed<Arc<str>> {
    let within = |quote: char| move |c: char| c != quote;
    alt((
        delimited("'", take_while(0.., within('\'')), literal("'").context("'")),
        delimited("\"", take_while(0.., within('"')), literal("\"").context("\"")),
    ))
    .context("a string in '..' or \"..\"")
    .map(|text: &str| text.into())
    .parse_next(input)
}

fn label(input: &mut Input<'_>) -> Parsed<Arc<str>> {
    take_while(1.., is_label).map(|text: &str| text.into()).parse_next(input)
}

fn is_label(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

fn blank(input: &mut Input<'_>) -> Parsed<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

/// No word goes on here.
fn word_end(input: &mut Input<'_>) -> Parsed<()> {
    match input.starts_with(is_label) {
        true => Err(Expected::from_input(input)),
        false => Ok(()),
    }
}

impl Expected {
    fn at(input: &str, what: Vec<&'static str>) -> Self {
        Self { left: input.len(), what, too_deep: false }
    }

    fn in_text(self, text: &str) -> SelectorError {
        let at = text.len().saturating_sub(self.left);
        let column = text.get(..at).unwrap_or(text).chars().count() + 1;
        if self.too_deep {
            return SelectorError::TooDeep(column);
        }
        let found = match text.get(at..).and_then(|rest| rest.chars().next()) {
            Some(character) => format!("{character:?}"),
            None => "the end".to_owned(),
        };
        SelectorError::Syntax { column, expected: self.what.join(" or "), found }
    }
}

impl<'a> ParserError<Input<'a>> for Expected {
    type Inner = Self;

    fn from_input(input: &Input<'a>) -> Self {
        Self::at(input, Vec::new())
    }

    /// Of two ways that failed, what the one that came further asked for.
    fn or(mut self, other: Self) -> Self {
        if self.too_deep || (!other.too_deep && self.left < other.left) {
            return self;
        }
        if other.too_deep || other.left < self.left {
            return other;
        }
        self.what.extend(other.what.into_iter().filter(|what| !self.what.contains(what)).collect::<Vec<_>>());
        self
    }

    fn into_inner(self) -> Result<Self::Inner, Self> {
        Ok(self)
    }
}

impl<'a> AddContext<Input<'a>, &'static str> for Expected {
    fn add_context(
        mut self,
        input: &Input<'a>,
        start: &<Input<'a> as Stream>::Checkpoint,
        context: &'static str,
    ) -> Self {
        let mut from = *input;
        from.reset(start);
        if self.left == from.len() || self.what.is_empty() {
            self.what = vec![context];
        }
        self
    }
}

/// What [`Expression::parse`] reads as the same again.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all()"),
            Self::Global => f.write_str("global()"),
            Self::Has(label) => write!(f, "has({label})"),
            Self::Equals(label, value) => write!(f, "{label} == {}", InQuotes(value)),
            Self::Differs(label, value) => write!(f, "{label} != {}", InQuotes(value)),
            Self::In(label, values) => write_list(f, label, "in", values),
            Self::NotIn(label, values) => write_list(f, label, "not in", values),
            Self::Text(label, test, text) => write!(f, "{label} {test} {}", InQuotes(text)),
            Self::Not(inner) => match &**inner {
                Self::And(_) | Self::Or(_) => write!(f, "!({inner})"),
                inner => write!(f, "!{inner}"),
            },
            Self::And(parts) => {
                write_parts(f, parts, " && ", |part| matches!(part, Self::And(_) | Self::Or(_)))
            }
            Self::Or(parts) => write_parts(f, parts, " || ", |part| matches!(part, Self::Or(_))),
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, label: &str, op: &str, values: &[Arc<str>]) -> fmt::Result {
    write!(f, "{label} {op} {{")?;
    for (index, value) in values.iter().enumerate() {
        write!(f, "{}{}", if index == 0 { "" } else { ", " }, InQuotes(value))?;
    }
    f.write_str("}")
}

fn write_parts(
    f: &mut fmt::Formatter<'_>,
    parts: &[Expression],
    between: &str,
    nested: fn(&Expression) -> bool,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        let between = if index == 0 { "" } else { between };
        match nested(part) {
            true => write!(f, "{between}({part})")?,
            false => write!(f, "{between}{part}")?,
        }
    }
    Ok(())
}

/// A string in quotes of the sort that it does not hold itself.
struct InQuotes<'a>(&'a str);

impl fmt::Display for InQuotes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('\'') { '"' } else { '\'' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}
