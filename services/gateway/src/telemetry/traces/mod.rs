//! Traces: spans of sampled work, sent to a collector in batches (OTLP over gRPC).
//!
//! Off without an endpoint: then there is no exporter and no layer, and whoever could be traced looks at one `Option`.
//! With one, it is decided *before* a span is made whether work is sampled: by the caller of a publish request if its
//! `traceparent` says so, else by chance. So what is not sampled costs a random number, and a span is only ever made to
//! be sent. A request decides nothing before its API key was checked, and clients decide nothing at all.
//!
//! What a trace shows: a publish request, the command to Redis, and on every node one span of the delivery; handshakes
//! and commands of clients. Never a span that lives as long as a connection, never one per subscriber, and in no attribute
//! a token, a payload or the name of a channel.
//!
//! Sending is a thread of its own with a bounded queue: no work waits for the collector. What the collector does not take
//! is counted as lost, and said in the log once.

mod context;
mod export;
mod settings;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use fanway_broker::trace::Trace;
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use prometheus::Registry;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

pub use context::Incoming;
pub use settings::TraceSettings;
pub(crate) use spans::{answered, ended};

/// What all spans are made under, and nothing else: it tells them from what is logged.
pub(super) const TARGET: &str = "fanway::trace";

/// Why traces cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The exporter refuses its settings.
    #[error("telemetry.traces: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// The collector's address or the authorities to trust cannot be used.
    #[error("telemetry.traces.endpoint: {0}")]
    Collector(#[from] tonic::transport::Error),
    /// The metrics cannot be registered.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Begins spans, and sends them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Traces(Arc<Sending>);

#[derive(Debug)]
struct Sending {
    provider: SdkTracerProvider,
    /// See [`TraceSettings::sample_ratio`].
    ratio: f64,
    /// See [`TraceSettings::timeout`].
    timeout: Duration,
}

impl Traces {
    /// Starts sending if there is an endpoint to send to. Must be called within a tokio runtime, on whose threads the
    /// connection to the collector lives; it is made when there is something to send.
    pub fn start(settings: &TraceSettings, node: &str, registry: &Registry) -> Result<Option<Self>, TracesError> {
        let metrics = export::TraceMetrics::register(registry)?;
        metrics.show_from_the_start();
        let Some(endpoint) = &settings.endpoint else { return Ok(None) };
        let channel = channel(endpoint, settings.timeout)?;
        let exporter = SpanExporter::builder().with_tonic().with_channel(channel).with_timeout(settings.timeout);
        let provider = SdkTracerProvider::builder()
            // Spans are made of what is sampled only.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(export::resource(node))
            .with_span_processor(export::processor(exporter.build()?, settings.timeout, &metrics))
            .build();
        Ok(Some(Self(Arc::new(Sending { provider, ratio: settings.sample_ratio, timeout: settings.timeout }))))
    }

    /// Turns the spans made under [`TARGET`] into what is sent.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.provider.tracer("fanway"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_level(false)
            .with_filter(Targets::new().with_target(TARGET, Level::INFO))
    }

    /// For the rooms that know nothing of collectors.
    pub fn hook(&self) -> Arc<Trace> {
        let traces = self.clone();
        Arc::new(move |work| traces.work(work))
    }

    /// Sends what is left, within the timeout. Blocks; the runtime of [`Traces::start`] must still run.
    pub fn stop(&self) {
        if let Err(error) = self.0.provider.shutdown_with_timeout(self.0.timeout) {
            tracing::warn!(%error, "the last spans may not have reached the collector");
        }
    }
}

/// The way to the collector, connected when there is something to send. Connecting, TLS included, has the same deadline as
/// sending; and a connection whose other end has vanished without a word is given up after twice that.
fn channel(endpoint: &str, timeout: Duration) -> Result<Channel, tonic::transport::Error> {
    let mut collector = Endpoint::from_shared(endpoint.to_owned())?.timeout(timeout).connect_timeout(timeout);
    if collector.uri().scheme() == Some(&http::uri::Scheme::HTTPS) {
        collector = collector.tls_config(ClientTlsConfig::new().with_native_roots().timeout(timeout))?;
    }
    let mut connector = HttpConnector::new();
    // It is asked for what lies below TLS, whatever the scheme.
    connector.enforce_http(false);
    connector.set_nodelay(true);
    // Not by pings of HTTP/2: collectors close connections that send more of them than one in five minutes.
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(timeout * 2));
    Ok(collector.connect_with_connector_lazy(connector))
}
