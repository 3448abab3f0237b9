//! How clients are connected: the endpoints, and the drivers between a socket and its session.
//!
//! A driver is one small, hand-written future that owns a socket and a session and is the only one to write to it. It
//! keeps no buffer: reads and writes go through buffers of the thread, and what a socket does not take is given back to
//! the session.

pub mod admission;
mod door;
mod output;
pub mod poll;
pub mod refusal;
pub mod sse;
pub mod websocket;

pub use door::{ClientState, router};
