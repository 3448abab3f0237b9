//! The data of publications that load generators make, as it is found in what is received.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Signal;
use crate::channels::Channels;

/// See [`crate::publisher::data`].
#[derive(Deserialize)]
struct Data {
    run: u64,
    n: u64,
    at: u64,
}

/// A publication as every JSON form of it has it.
#[derive(Deserialize)]
pub(super) struct Publication<'a> {
    /// Stands elsewhere in the client protocol.
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
}

impl Publication<'_> {
    /// What one that names its channel means.
    pub(super) fn signal(&self) -> Signal {
        signal(Channels::number(&self.channel).unwrap_or(0), self.data)
    }
}

/// What data in a channel means.
pub(super) fn signal(channel: u32, data: &RawValue) -> Signal {
    let Ok(Data { run, n, at }) = serde_json::from_str(data.get()) else { return Signal::Foreign };
    Signal::Publication { run, channel, sequence: n, due: at }
}
