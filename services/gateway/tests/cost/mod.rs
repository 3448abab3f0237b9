//! What the guards of costs share.
//!
//! They count what neither the machine nor its load changes: instructions and allocations, of the profile that the
//! tests are built with, and of the node without the kernel. The limits are generous: something that makes one of the
//! costs half as dear again is found. How fast the node is, `fanway-loadtest` measures.

pub(crate) mod clients;

/// Compares a cost with its limit, and shows both.
pub(crate) fn assert_below(what: &str, cost: f64, limit: f64) {
    println!("{what}: {cost:.2}, limit {limit}");
    assert!(cost < limit, "{what}: {cost:.2} is above {limit}");
    assert!(cost > limit / 3.0, "{what}: {cost:.2} is far below {limit}: lower the limit");
}
