//! A collector: what nodes export over OTLP, as a real server receives it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A span as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) name: String,
    /// In hexadecimal, as in a `traceparent`.
    pub(super) trace: String,
    pub(super) id: String,
    /// Empty for the first of a trace.
    pub(super) parent: String,
    pub(super) kind: SpanKind,
    pub(super) attributes: BTreeMap<String, String>,
    /// Of whoever sent it.
    pub(super) resource: BTreeMap<String, String>,
    /// Where it is from and to, in nanoseconds since 1970.
    pub(super) times: (u64, u64),
}

#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<Seen>>>);

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut seen = self.0.lock().unwrap();
        for of_node in request.into_inner().resource_spans {
            let resource = attributes(&of_node.resource.unwrap_or_default().attributes);
            for span in of_node.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                seen.push(take(span, resource.clone()));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn take(span: Span, resource: BTreeMap<String, String>) -> Seen {
    Seen {
        kind: span.kind(),
        attributes: attributes(&span.attributes),
        times: (span.start_time_unix_nano, span.end_time_unix_nano),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        resource,
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        // Told apart from the text of the same digits.
        Some(Value::IntValue(number)) => format!("{number} (number)"),
        other => format!("{other:?}"),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A running collector.
pub(super) struct Collector {
    pub(super) url: String,
    received: Received,
    /// Ends with the collector.
    _server: JoinSet<()>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = Received::default();
        let service = TraceServiceServer::new(received.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        Self { url, received, _server: server }
    }

    /// Everything received so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.received.0.lock().unwrap().clone()
    }

    /// Waits for a span.
    pub(super) async fn wait_for(&self, what: &str, is: impl Fn(&Seen) -> bool) -> Seen {
        fanway_testkit::wait::until(what, || self.seen().into_iter().find(|span| is(span))).await
    }
}
