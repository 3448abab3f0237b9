//! What the server API counts.

use std::time::Instant;

const SECONDS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

fanway_broker::metrics! {
    /// What the server API counts.
    pub struct ApiMetrics {
        /// Requests to the server API, by endpoint and outcome: `ok`, the reason of the error, or `abandoned` when the client went away.
        api_requests_total: IntCounterVec["endpoint", "outcome"],
        /// Seconds from a request's head to its answer, by endpoint.
        api_request_seconds: HistogramVec["endpoint"] = SECONDS,
        /// Publications that the broker took from the server API, repeated ones (same idempotency key) not counted.
        api_publications_total: IntCounter,
    }
}

/// Counts one request when it ends, also when it is dropped unanswered.
pub(super) struct Observed {
    metrics: ApiMetrics,
    endpoint: &'static str,
    outcome: &'static str,
    begun: Instant,
}

impl Observed {
    pub(super) fn begin(metrics: &ApiMetrics, endpoint: &'static str) -> Self {
        Self { metrics: metrics.clone(), endpoint, outcome: "abandoned", begun: Instant::now() }
    }

    pub(super) fn end(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.metrics.api_requests_total.with_label_values(&[self.endpoint, self.outcome]).inc();
        let seconds = self.metrics.api_request_seconds.with_label_values(&[self.endpoint]);
        seconds.observe(self.begun.elapsed().as_secs_f64());
    }
}
