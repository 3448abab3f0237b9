//! What the server API counts.

use std::time::Instant;

use prometheus::{Histogram, IntCounter, IntCounterVec};

/// The outcome of a request that was done.
pub(super) const OK: &str = "ok";

const SECONDS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

fanway_broker::metrics! {
    /// What the server API counts.
    pub struct ApiMetrics {
        /// Requests to the server API, by endpoint and outcome: `ok`, the reason of the error, or `abandoned` when the client went away. Each command of a request to `/api` counts for the endpoint of its method; `api` counts what is refused of such requests before that.
        api_requests_total: IntCounterVec["endpoint", "outcome"],
        /// Seconds from a request's head to its answer, by endpoint.
        api_request_seconds: HistogramVec["endpoint"] = SECONDS,
        /// Publications that the broker took from the server API, repeated ones (same idempotency key) not counted.
        api_publications_total: IntCounter,
    }
}

/// What counts the requests of one endpoint: labels are looked up once, except for what seldom happens.
pub(super) struct Meter {
    endpoint: &'static str,
    all: IntCounterVec,
    ok: IntCounter,
    seconds: Histogram,
}

impl Meter {
    pub(super) fn new(metrics: &ApiMetrics, endpoint: &'static str) -> Self {
        Self {
            endpoint,
            all: metrics.api_requests_total.clone(),
            ok: metrics.api_requests_total.with_label_values(&[endpoint, OK]),
            seconds: metrics.api_request_seconds.with_label_values(&[endpoint]),
        }
    }
}

/// Counts one request when it ends, also when it is dropped unanswered.
pub(super) struct Observed<'a> {
    meter: &'a Meter,
    outcome: &'static str,
    begun: Instant,
}

impl<'a> Observed<'a> {
    pub(super) fn begin(meter: &'a Meter) -> Self {
        Self { meter, outcome: "abandoned", begun: Instant::now() }
    }

    pub(super) fn end(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }

    /// Counts nothing.
    pub(super) fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        let Meter { endpoint, all, ok, seconds } = self.meter;
        match self.outcome {
            OK => ok.inc(),
            outcome => all.with_label_values(&[endpoint, outcome]).inc(),
        }
        seconds.observe(self.begun.elapsed().as_secs_f64());
    }
}
