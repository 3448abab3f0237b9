//! What tests of every room need and only tests may have: real servers, a proxy that breaks connections.
//!
//! A dev-dependency. It panics with a clear message where production code would return an error.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "only tests use it")]

pub mod chaos;
pub mod redis;
pub mod wait;
