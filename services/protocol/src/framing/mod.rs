//! Framings: the bytes around a message on the network, as pure functions.
//!
//! A framing does not depend on what it frames: payloads come from a codec, or from a closure that appends them. Nothing
//! here does I/O, reads a clock or takes a lock.
//!
//! * [`websocket`]: frames of RFC 6455, received and sent.
//! * [`sse`]: server-sent events (WHATWG HTML, section 9.2), sent.
//! * [`chunk`]: the chunked transfer coding of HTTP/1.1, sent.

pub mod chunk;
pub mod sse;
pub mod websocket;
