//! Keeps the kernel's table equal to what is wanted.

pub mod endpoints;
pub mod hold;
