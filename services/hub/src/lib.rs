//! The node-local engine: channels and their subscribers, the sequencer that orders a channel, the state machine of one
//! client's session, and the outbox that a connection writes from. Knows no HTTP and no Redis.
#![forbid(unsafe_code)]

pub mod identity;
pub mod limits;
pub mod metrics;
pub mod namespace;
pub mod resume;
pub mod sequencer;

pub use identity::{AuthFailure, Identity};
pub use limits::Limits;
pub use metrics::HubMetrics;
pub use namespace::{Access, Namespace, Namespaces};
pub use sequencer::{Incoming, Sequencer, Step};
