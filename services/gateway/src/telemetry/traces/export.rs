//! From ended spans to the collector: a bounded queue, batches, and what became of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::{Context, Key};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use prometheus::IntCounter;
use tokio::runtime::Handle;

/// Ended spans that may wait for the collector; more are lost.
const QUEUE: usize = 2048;

fanway_broker::metrics! {
    /// What became of spans.
    pub(super) struct TraceMetrics {
        /// Spans by what became of them: `exported`, or `lost` because the collector did not take them in time. A collector that
        /// takes a batch and drops a part of it says so to nobody but itself.
        trace_spans_total: IntCounterVec["outcome"],
    }
}

impl TraceMetrics {
    /// Makes the series exist before the first time they count anything.
    pub(super) fn show_from_the_start(&self) {
        for outcome in ["exported", "lost"] {
            self.trace_spans_total.with_label_values(&[outcome]);
        }
    }
}

/// Who sends: what the environment says (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`), and else this node.
pub(super) fn resource(node: &str) -> Resource {
    let of_environment = Resource::builder().build();
    let given = |key: &'static str| {
        let value = of_environment.get(&Key::from_static_str(key)).map(|value| value.to_string());
        value.is_some_and(|value| !value.starts_with("unknown_service"))
    };
    let own = [
        ("service.name", "fanway"),
        ("service.instance.id", node),
        ("service.version", crate::telemetry::metrics::VERSION),
    ];
    let own = own.into_iter().filter(|(key, _)| !given(key));
    let own = own.map(|(key, value)| opentelemetry::KeyValue::new(key, value.to_owned()));
    Resource::builder().with_attributes(own).build()
}

/// Sends spans in batches, from a thread of its own, and counts what became of them. Must be called within a tokio
/// runtime, whose clock ends batches that take longer than `timeout`.
pub(super) fn processor<E: SpanExporter + 'static>(
    exporter: E,
    timeout: Duration,
    metrics: &TraceMetrics,
) -> impl SpanProcessor + use<E> {
    let fate = Arc::new(Fate {
        waiting: AtomicUsize::new(0),
        failing: AtomicBool::new(false),
        exported: metrics.trace_spans_total.with_label_values(&["exported"]),
        lost: metrics.trace_spans_total.with_label_values(&["lost"]),
    });
    // As long as our own, which counts what it refuses: this one is never full.
    let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
    let counting = Counting { exporter, timeout, runtime: Handle::current(), fate: Arc::clone(&fate) };
    let batches = BatchSpanProcessor::builder(counting).with_batch_config(config).build();
    Bounded { batches, fate }
}

/// What became of the spans.
#[derive(Debug)]
struct Fate {
    /// Ended, and neither exported nor lost yet.
    waiting: AtomicUsize,
    /// The last batch was not taken: that is said once, not for each.
    failing: AtomicBool,
    exported: IntCounter,
    lost: IntCounter,
}

/// The queue's bound.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    fate: Arc<Fate>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.fate.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.fate.waiting.fetch_sub(1, Ordering::Relaxed);
            self.fate.lost.inc();
            return;
        }
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// The exporter, and what it achieves.
#[derive(Debug)]
struct Counting<E> {
    exporter: E,
    /// For a batch, tries that follow a first one included.
    timeout: Duration,
    /// Whose clock it is: batches are sent from a thread that is not the runtime's.
    runtime: Handle,
    fate: Arc<Fate>,
}

impl<E: SpanExporter> SpanExporter for Counting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let late = {
            let _within = self.runtime.enter();
            tokio::time::sleep(self.timeout)
        };
        // Whatever the exporter waits for: as long as it does, the spans count as waiting, and the queue has a bound.
        let outcome = tokio::select! {
            outcome = self.exporter.export(batch) => outcome,
            () = late => Err(OTelSdkError::Timeout(self.timeout)),
        };
        self.fate.waiting.fetch_sub(count, Ordering::Relaxed);
        let counter = if outcome.is_ok() { &self.fate.exported } else { &self.fate.lost };
        counter.inc_by(count as u64);
        let failed_before = self.fate.failing.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Err(error) if !failed_before => tracing::warn!(%error, "the collector does not take spans; they are lost"),
            Ok(()) if failed_before => tracing::info!("the collector takes spans again"),
            _ => {}
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
