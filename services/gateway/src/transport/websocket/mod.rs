//! WebSocket (RFC 6455), without extensions. Its frames are [`fanway_protocol::framing::websocket`].
//!
//! * [`handshake`] decides on an upgrade request and builds the answer.
//! * `connection` drives an upgraded socket and its session.

pub(crate) mod connection;
pub mod handshake;

#[cfg(test)]
mod tests;
