//! Domain and protocol types of Fanway: the messages between nodes, clients and back ends.
//!
//! This crate does not depend on sockets, a runtime or Redis. Everything that arrives from outside is parsed here into
//! types that cannot be wrong: a [`Channel`] has a legal name, an [`Epoch`] a legal text, a [`Cursor`] a known version.
//! Messages are free of bytes: a [`codec`] encodes and decodes them, a [`framing`] adds the bytes around them on the
//! network.
#![forbid(unsafe_code)]

pub mod channel;
pub mod codec;
pub mod codes;
pub mod command;
pub mod cursor;
pub mod envelope;
pub mod framing;
pub mod grants;
pub mod heartbeat;
pub mod position;
pub mod publication;
pub mod reply;

pub use channel::{Channel, ChannelError};
pub use codes::{DisconnectCode, ErrorCode, UnsubscribeCode};
pub use cursor::{ChannelHash, Cursor, CursorError, StartPosition};
pub use grants::{Grants, PatternError, Right, Rule};
pub use heartbeat::{Heartbeat, HeartbeatError};
pub use position::{Epoch, GapReason, Position};
pub use publication::{ClientInfo, Payload, Publication, Tags};
