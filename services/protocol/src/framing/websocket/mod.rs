//! WebSocket frames (RFC 6455), without extensions.
//!
//! The codec is our own because it costs nothing while a connection is idle: it does no I/O, reads the bytes where they
//! lie, and holds memory only while a frame or message is incomplete.
//!
//! * [`decoder`] turns received bytes into messages and control frames, or a [`Fault`].
//! * [`frame`] writes the server's frames. Every frame header of a server is written there.
//! * [`close`] has the codes and reasons of close frames.

pub mod close;
pub mod decoder;
mod fault;
pub mod frame;
mod header;
mod message;

pub use decoder::{Decoder, Event, Limits};
pub use fault::Fault;
pub use frame::Opcode;

#[cfg(test)]
mod tests;
