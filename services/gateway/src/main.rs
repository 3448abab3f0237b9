//! The `fanway` binary.
fn main() {}
