//! Between the compiled policy and what travels in NodePolicy and AddressGroup.
//!
//! Decoding is strict. Everything must be known and in its canonical form, every reference must lead somewhere, and
//! the digest over the result must be the one that was published; otherwise nothing of the object is used. Encoding
//! makes the same checks, so that the operator never publishes what no agent would take.

mod check;
mod decode;
mod encode;
mod text;

use selvage_policy::compiled;
use serde::Serialize;

use crate::address_group::{AddressGroupSpec, Slice};
use crate::conditions::reason;
use crate::node_policy::NodePolicySpec;
use crate::{Basis, digest};

/// The version of the encoding that is written, and the only one that is read.
pub const FORMAT: u32 = 1;

/// The size that the operator keeps an object's JSON under, in bytes.
pub const SIZE_BUDGET: usize = 256 * 1024;
/// The size above which an object is not written: etcd takes 1.5 MiB with all that comes on top.
pub const SIZE_LIMIT: usize = 1024 * 1024;

/// Something that can't be encoded or decoded, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct CodecError {
    /// The field, as in `spec.profiles[3].ingress[0].policies[2]`.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The format is not one that is read here.
    #[error("unknown format {0}, format {FORMAT} is read")]
    Format(u32),
    /// The digest is not that of the content: something was lost or changed on the way.
    #[error("is {published}, but the content read has {computed}: a field was lost or changed on the way")]
    Digest {
        /// As in the object.
        published: String,
        /// As computed over what was read.
        computed: String,
    },
    /// A word that has no meaning here.
    #[error("unknown {what} {value:?}")]
    Unknown {
        /// What the word should be.
        what: &'static str,
        /// The word.
        value: String,
    },
    /// Text that can't be read.
    #[error("{value:?} is not {expected}")]
    Malformed {
        /// What it should be.
        expected: &'static str,
        /// The text.
        value: String,
    },
    /// A value without a meaning in its place.
    #[error("{0}")]
    Meaningless(&'static str),
    /// A reference that leads nowhere.
    #[error("unknown {what} {value}")]
    Dangling {
        /// What is referred to.
        what: &'static str,
        /// The reference.
        value: String,
    },
    /// A list that is not in its order, or has something twice.
    #[error("out of order, or there twice")]
    Order,
}

/// What a node is sent.
///
/// # Errors
/// Where the policy is not in canonical form or refers to something that is not in it, which is a fault of whoever
/// compiled it.
pub fn encode_node_policy(
    policy: &compiled::NodePolicy,
    basis: Basis,
    teardown: bool,
) -> Result<NodePolicySpec, CodecError> {
    check::node_policy(policy).map_err(|error| error.within("spec"))?;
    encode::node_policy(policy, basis, teardown).map_err(|error| error.within("spec"))
}

/// What the node of that name was sent. `teardown` and `basis` are not part of the policy: read them from the spec.
///
/// # Errors
/// Names the field. Nothing of the object may be used then.
pub fn decode_node_policy(node: &str, spec: &NodePolicySpec) -> Result<compiled::NodePolicy, CodecError> {
    let decoded = || {
        format(spec.format)?;
        let policy = decode::node_policy(node, spec)?;
        check::node_policy(&policy)?;
        same("policySet", &spec.policy_set, digest::policy_set(&policy))?;
        same("digest", &spec.digest, digest::node_policy(&policy))?;
        Ok(policy)
    };
    decoded().map_err(|error: CodecError| error.within("spec"))
}

/// The spec of one slice's object.
///
/// # Errors
/// Where the slice is not in canonical form.
pub fn encode_slice(slice: &Slice, basis: Basis) -> Result<AddressGroupSpec, CodecError> {
    check::slice(slice).map_err(|error| error.within("spec"))?;
    Ok(encode::slice(slice, basis))
}

/// The slice in an object.
///
/// # Errors
/// Names the field. Nothing of the object may be used then.
pub fn decode_slice(spec: &AddressGroupSpec) -> Result<Slice, CodecError> {
    let decoded = || {
        format(spec.format)?;
        let slice = decode::slice(spec)?;
        check::slice(&slice)?;
        same("digest", &spec.digest, digest::slice(&slice))?;
        if let Some((published, computed)) = spec.owners.as_ref().zip(digest::owners(&slice)) {
            same("digest", &published.digest, computed).map_err(|error| error.within("owners"))?;
        }
        Ok(slice)
    };
    decoded().map_err(|error: CodecError| error.within("spec"))
}

/// How many bytes an object's JSON has, to be held against [`SIZE_BUDGET`] and [`SIZE_LIMIT`].
pub fn size(object: &impl Serialize) -> Result<usize, serde_json::Error> {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, object)?;
    Ok(count.0)
}

fn format(format: u32) -> Result<(), CodecError> {
    if format == FORMAT { Ok(()) } else { Err(Problem::Format(format).at("format")) }
}

fn same(field: &str, published: &str, computed: String) -> Result<(), CodecError> {
    if published == computed {
        return Ok(());
    }
    Err(Problem::Digest { published: published.to_owned(), computed }.at(field))
}

impl CodecError {
    /// The reason of the condition that reports this.
    pub fn reason(&self) -> &'static str {
        match self.problem {
            Problem::Format(_) => reason::UNKNOWN_FORMAT,
            _ => reason::UNREADABLE,
        }
    }

    fn within(mut self, field: &str) -> Self {
        let separator = if self.path.starts_with('[') || self.path.is_empty() { "" } else { "." };
        self.path = format!("{field}{separator}{}", self.path);
        self
    }

    fn within_item(mut self, field: &str, index: usize) -> Self {
        let separator = if self.path.starts_with('[') || self.path.is_empty() { "" } else { "." };
        self.path = format!("{field}[{index}]{separator}{}", self.path);
        self
    }
}

impl Problem {
    fn at(self, field: &str) -> CodecError {
        CodecError { path: field.to_owned(), problem: self }
    }

    fn at_item(self, field: &str, index: usize) -> CodecError {
        CodecError { path: String::new(), problem: self }.within_item(field, index)
    }
}

/// Applies a function to every item of a list, and names the item that it fails on.
fn each<T, U, E: Into<CodecError>>(
    field: &str,
    items: impl IntoIterator<Item = T>,
    mut function: impl FnMut(T) -> Result<U, E>,
) -> Result<Vec<U>, CodecError> {
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| function(item).map_err(|error| error.into().within_item(field, index)))
        .collect()
}

impl From<Problem> for CodecError {
    fn from(problem: Problem) -> Self {
        Self { path: String::new(), problem }
    }
}
