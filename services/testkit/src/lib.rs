//! What tests of every room need and only tests may have: real servers and nodes as processes, a proxy that breaks
//! connections, small clients of every transport, tokens.
//!
//! A dev-dependency. It panics with a clear message where production code would return an error; what a test may want to
//! see fail (a refused handshake, an error reply, a close) is a value. Every wait has a deadline.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "only tests use it")]

pub mod chaos;
pub mod cursor;
pub mod dial;
pub mod http;
pub mod node;
pub mod poll;
pub mod redis;
pub mod sse;
pub mod token;
pub mod wait;
pub mod websocket;

pub use wait::PATIENCE;
