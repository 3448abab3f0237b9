//! What the server counts.

const HANDSHAKE: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 5.0];

fanway_broker::metrics! {
    /// What the server counts, by listener (`public`, `internal`).
    pub struct ServerMetrics {
        /// Connections accepted.
        sockets_accepted_total: IntCounterVec["listener"],
        /// Connections that are open, from accept to close, whoever owns the socket.
        sockets_open: IntGaugeVec["listener"],
        /// Most connections that may be open at once.
        sockets_limit: IntGaugeVec["listener"],
        /// Connections refused or cut off by the server, by reason: `limit`, `tls`, `header_timeout`, `bad_head`, `body_timeout`, `write_timeout`.
        sockets_rejected_total: IntCounterVec["listener", "reason"],
        /// Failures to accept a connection, as when the limit of open files is reached.
        accept_errors_total: IntCounterVec["listener"],
        /// Sockets handed over to a transport.
        sockets_taken_over_total: IntCounterVec["listener"],
        /// Seconds from accept to the whole first request head, TLS handshake included.
        handshake_seconds: HistogramVec["listener"] = HANDSHAKE,
    }
}
