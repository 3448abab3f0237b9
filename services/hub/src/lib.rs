//! Node-local engine: channels and their subscribers, the sequencer that orders a channel, the sessions of clients and
//! their protocols, and the driver that runs a session on a socket. Depends on neither HTTP nor Redis.
#![forbid(unsafe_code)]

mod age;
mod attach;
pub mod authorizer;
mod channel;
mod close_reason;
mod compare;
mod control;
pub mod dispatch;
pub mod driver;
pub mod encoding;
pub mod entry;
mod eviction;
pub mod handle;
mod held;
mod history;
mod hub;
pub mod identity;
pub mod limits;
pub mod metrics;
mod moment;
pub mod namespace;
mod outbox;
mod pace;
mod pages;
pub mod quota;
mod registry;
#[cfg(test)]
#[path = "registry/tests.rs"]
mod registry_tests;
mod repair;
pub mod resume;
mod ring;
pub mod sequencer;
pub mod session;
mod shared_reads;
mod subscribers;
mod sync;
#[cfg(test)]
mod testing;
pub mod turn;
mod unfinished;
mod wheel;

pub use age::MaxAge;
pub use attach::{AttachError, From, Joined};
pub use close_reason::CloseReason;
pub use control::Target;
pub use dispatch::Inbox;
pub use hub::{Hub, Parts, Verify};
pub use identity::{AuthFailure, Identity};
pub use limits::Limits;
pub use metrics::{HubMetrics, TooManyTransports};
pub use namespace::{Access, Namespace, Namespaces};
pub use pages::Page;
pub use quota::{QuotaSettings, Quotas};
pub use sequencer::{Answered, HoldLimit, Incoming, Sequencer, Step};
