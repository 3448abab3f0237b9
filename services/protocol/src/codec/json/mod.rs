//! JSON: the client protocol's text codec, and the events of SSE and polling.
//!
//! * [`decode`] splits a frame into commands.
//! * [`write_reply`] and [`write_push`] append a reply or a push. [`PING`] is the server's ping.
//! * [`write_event`] and [`write_gap`] append what SSE and polling deliver.

mod command;
mod event;
mod reply;

use serde::Serialize;

pub use command::decode;
pub use event::{write_event, write_gap};
pub use reply::{write_push, write_reply};

/// An empty reply: the protocol's ping.
pub const PING: &[u8] = b"{}";

/// Appends a value as JSON. Values of our own types cannot fail to serialize into memory.
#[inline]
pub fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "{written:?}");
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
