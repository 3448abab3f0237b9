//! Transports: kinds of connections, by which sessions are counted.

/// Transport of a session: the label of its metrics. A protocol of its own has one by [`crate::Hub::transport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport(pub(crate) u8);

impl Transport {
    /// Names of the transports that every node has, by their numbers.
    pub(crate) const BUILT_IN: [&'static str; 3] = ["websocket", "sse", "poll"];

    /// Client protocol over WebSocket.
    pub(crate) const WEB_SOCKET: Self = Self(0);
    /// Plain server-sent events.
    pub(crate) const SSE: Self = Self(1);
    /// Long and short polling.
    pub(crate) const POLL: Self = Self(2);
}
