//! What only the node itself knows.

pub mod cni;
pub mod cni_dir;
pub mod links;
