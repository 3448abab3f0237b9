//! What the server counts.

const HANDSHAKE: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 5.0];

fanway_broker::metrics! {
    /// What the server counts, by listener (`public`, `internal`, `api`), and what it refuses to clients.
    pub struct ServerMetrics {
        /// Most client connections of this node.
        connections_limit: IntGauge,
        /// Connections of clients that were refused, by reason: `limit`, `rate`, `draining`, `auth`, `origin`, `permission`, `bad_request`, `protocol`, `broker`, `tls`, `header_timeout`, `bad_head`. Credentials that come in a connect command are counted as closed sessions instead.
        connections_rejected_total: IntCounterVec["reason"],
        /// Connections accepted.
        sockets_accepted_total: IntCounterVec["listener"],
        /// Connections that are open, from accept to close, whoever owns the socket.
        sockets_open: IntGaugeVec["listener"],
        /// Most connections that may be open at once.
        sockets_limit: IntGaugeVec["listener"],
        /// Connections refused or cut off by the server, by reason: `limit`, `rate`, `tls`, `header_timeout`, `bad_head`, `body_timeout`, `write_timeout`.
        sockets_rejected_total: IntCounterVec["listener", "reason"],
        /// Bytes of answers above 16 KiB that are in memory because clients have not taken all of them.
        large_answer_bytes: IntGaugeVec["listener"],
        /// Failures to accept a connection, as when the limit of open files is reached.
        accept_errors_total: IntCounterVec["listener"],
        /// Sockets handed over to a transport.
        sockets_taken_over_total: IntCounterVec["listener"],
        /// Seconds from accept to the whole first request head, TLS handshake included.
        handshake_seconds: HistogramVec["listener"] = HANDSHAKE,
    }
}

impl ServerMetrics {
    /// Makes the series that alerts look at exist before the first time they count anything.
    pub(super) fn show_from_the_start(&self) {
        for reason in ["limit", "rate", "draining", "auth", "origin", "quota"] {
            self.connections_rejected_total.with_label_values(&[reason]);
        }
    }
}
