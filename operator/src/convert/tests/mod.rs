//! What objects mean, row by row. The headings quoted are those of the semantics document.

mod network_policy;
mod objects;
