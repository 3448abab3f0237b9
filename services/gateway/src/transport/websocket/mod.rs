//! WebSocket (RFC 6455), without extensions.
//!
//! The codec is our own because nothing else costs nothing while a connection is idle: it does no I/O, reads the bytes
//! where they lie, and holds memory only while a frame or message is incomplete.
//!
//! * [`handshake`] decides on an upgrade request and builds the answer.
//! * [`decoder`] turns received bytes into messages and control frames, or a [`Fault`].
//! * [`frame`] writes the server's frames.
//! * [`close`] knows the codes and reasons of close frames.

pub mod close;
pub(crate) mod connection;
pub mod decoder;
mod fault;
pub mod frame;
pub mod handshake;
mod head;
mod message;

pub use decoder::{Decoder, Event, Limits};
pub use fault::Fault;
pub use frame::Opcode;

#[cfg(test)]
mod tests;
