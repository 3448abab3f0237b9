//! WebSocket (RFC 6455), without extensions. Its frames are [`fanway_protocol::framing::websocket`].
//!
//! * [`handshake`] decides on an upgrade request and builds the answer.

pub mod handshake;

#[cfg(test)]
mod tests;
