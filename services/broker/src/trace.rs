//! Spans of sampled work, for whoever keeps traces.
//!
//! The rooms know when work begins and ends; what a trace is and where it goes, only the one who puts the node together
//! knows, and gives them a [`Trace`]. It is asked for nothing but what is sampled or may be: what travels without a trace
//! context costs one look at an `Option`. No work is a span for as long as a connection lives.

use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

/// Work that may be a span.
#[derive(Clone, Copy, Debug)]
pub enum Work<'a> {
    /// Publishing a sampled publication by a command of Redis.
    Redis {
        /// The trace context that the publication came with.
        parent: &'a str,
    },
    /// Handing a sampled publication to the connections of this node.
    Delivery {
        /// The trace context that the publication came with.
        parent: &'a str,
        /// Namespace of its channel.
        namespace: &'a str,
        /// Connections of this node that are subscribed.
        connections: usize,
        /// How long ago this node received it.
        waited: Duration,
    },
    /// A client's command, from its arrival to its reply.
    Command {
        /// What the protocol calls it.
        name: &'static str,
    },
}

/// Sampled work under way.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Ends when its last clone is dropped.
    pub span: Span,
    /// W3C `traceparent` for what is done because of it.
    pub context: Arc<str>,
}

impl Begun {
    /// Tells that the work failed, and why.
    pub fn failed(&self, reason: &'static str) {
        self.span.record("otel.status_code", "ERROR");
        self.span.record("error.type", reason);
    }
}

/// Begins the span of work that is sampled. Must not block: it is called where publications are put in order.
pub type Trace = dyn Fn(Work<'_>) -> Option<Begun> + Send + Sync;
