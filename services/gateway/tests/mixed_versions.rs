//! Nodes of two builds in one fleet: this one and the one before, whose formats this one must read.
//!
//! * [`mixed::recorded`]: bytes that the build before wrote to Redis and sent to other nodes (`mixed/before.json`), read by this one.
//! * [`mixed::side_by_side`]: both binaries in one fleet; `make test-mixed OLD=path/to/fanway` runs these tests.
//!
//! `make record-mixed OLD=path/to/fanway` records the file anew, when a release becomes the build before.
#![allow(clippy::unwrap_used, missing_docs)]

mod mixed;
