//! Generators and checks.
fn main() {}
