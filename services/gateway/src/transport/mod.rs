//! How clients are connected: the endpoints, and the drivers between a socket and its session.
//!
//! A connection is a socket and a session behind one lock ([`driver`]); whoever holds the lock is the only one to write.
//! That is the connection's task, a small, hand-written future, or the fan-out where it has marked the connection. It
//! keeps no buffer: reads and writes go through buffers of the thread, and what a socket does not take is given back to
//! the session.

pub mod admission;
mod door;
mod driver;
mod output;
pub mod poll;
pub mod refusal;
pub mod sse;
pub mod websocket;

pub use door::{ClientState, router};
