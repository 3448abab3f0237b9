//! Channels whose next subscription must not be taken for recovered, although the client's position is valid: it has
//! passed over a loss, of which it could not be told but by a subscription of its own.

use fanway_protocol::Channel;

/// Most channels. A client has one for each subscription that a loss ended, until it subscribes again.
const MOST: usize = 1024;

/// Channels of which a client is owed a gap; nearly always none.
#[derive(Debug, Default)]
#[allow(clippy::box_collection, reason = "sessions are many, and nearly all have none: a third of the size")]
pub(super) struct OwedGaps(Option<Box<Vec<Channel>>>);

impl OwedGaps {
    /// Adds a channel.
    pub(super) fn add(&mut self, channel: Channel) {
        let channels = self.0.get_or_insert_default();
        if !channels.contains(&channel) {
            channels.push(channel);
        }
        if channels.len() > MOST {
            channels.remove(0);
        }
    }

    /// True if a gap of a channel is owed.
    pub(super) fn has(&self, channel: &Channel) -> bool {
        self.0.as_ref().is_some_and(|channels| channels.contains(channel))
    }

    /// The client was told of a channel.
    pub(super) fn take(&mut self, channel: &Channel) {
        if let Some(channels) = &mut self.0 {
            channels.retain(|owed| owed != channel);
            self.0.take_if(|channels| channels.is_empty());
        }
    }
}
