//! Buckets of nodes, which let an agent watch the address groups it needs with one constant label selector.
//!
//! A node falls into one of 64 buckets by a hash of its name. A slice of a group carries the label of every bucket
//! that holds a node of the group's span, so a slice has at most 64 such labels however many nodes there are.

use std::fmt;

/// How many buckets there are. A change of this number moves nodes between buckets, so it needs a new label prefix.
pub const BUCKETS: u8 = 64;

/// The label on a slice that names its group, as 32 hexadecimal digits.
pub const GROUP_LABEL: &str = "selvage.io/group";

/// What the labels of buckets start with; two decimal digits follow.
const BUCKET_LABEL_PREFIX: &str = "selvage.io/bucket-";

/// One bucket of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u8);

impl Bucket {
    /// The bucket that a node is in. The hash is BLAKE3 of the name: every version on every machine agrees.
    pub fn of_node(name: &str) -> Self {
        let [first, ..] = *blake3::hash(name.as_bytes()).as_bytes();
        Self(first % BUCKETS)
    }

    /// The bucket that a label's key names; None for any other label.
    pub fn from_label(key: &str) -> Option<Self> {
        let digits = key.strip_prefix(BUCKET_LABEL_PREFIX)?;
        let number: u8 = digits.parse().ok()?;
        let bucket = Self(number);
        (number < BUCKETS && bucket.label() == key).then_some(bucket)
    }

    /// The key of the bucket's label, whose value is empty. It is also the selector that an agent watches with.
    pub fn label(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BUCKET_LABEL_PREFIX}{:02}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_has_one_bucket_for_ever() {
        // Agents of one version read what operators of another labelled: these values must never change.
        let buckets = ["node-1", "node-2", "node-3"].map(|name| Bucket::of_node(name).label());
        assert_eq!(buckets, ["selvage.io/bucket-34", "selvage.io/bucket-17", "selvage.io/bucket-12"]);
    }

    #[test]
    fn labels_are_read_back_and_nothing_else_is() {
        let labels: BTreeSet<String> = (0..BUCKETS).map(|number| Bucket(number).label()).collect();
        assert_eq!(labels.len(), usize::from(BUCKETS));
        for label in &labels {
            assert_eq!(Bucket::from_label(label).map(Bucket::label).as_ref(), Some(label));
        }
        for other in
            ["selvage.io/bucket-64", "selvage.io/bucket-7", "selvage.io/bucket-+7", "selvage.io/group"]
        {
            assert_eq!(Bucket::from_label(other), None, "{other}");
        }
    }

    #[test]
    fn nodes_spread_over_all_buckets() {
        let used: BTreeSet<Bucket> = (0..1000).map(|n| Bucket::of_node(&format!("node-{n}"))).collect();
        assert_eq!(used.len(), usize::from(BUCKETS));
    }
}
