//! What objects mean, row by row. The headings quoted are those of the semantics document.

mod cluster_policy;
mod network_policy;
mod objects;
mod others;
mod ours;
mod random;
