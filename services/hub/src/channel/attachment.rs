//! Holders of a channel: its subscribers, and those who are about to subscribe.

use std::sync::Arc;

use super::{LocalChannel, State};
use crate::handle::Handle;

/// A place in a channel's list of subscribers; given up on drop.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) channel: Arc<LocalChannel>,
    slot: u32,
}

impl Attachment {
    /// Adds a subscriber. From now on its handle is marked for every new entry.
    pub(crate) fn new(channel: &Arc<LocalChannel>, state: &mut State, handle: Arc<Handle>, index: u32) -> Self {
        let slot = state.subscribers.insert(handle, index);
        channel.shared.metrics.subscriptions.inc();
        Self { channel: channel.clone(), slot }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut state = self.channel.state();
        state.subscribers.remove(self.slot);
        self.channel.left(&mut state);
        self.channel.shared.metrics.subscriptions.dec();
    }
}

/// Keeps a channel alive while somebody is about to attach.
#[derive(Debug)]
pub(crate) struct Interest(pub(crate) Arc<LocalChannel>);

impl Drop for Interest {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.interest -= 1;
        self.0.left(&mut state);
    }
}
