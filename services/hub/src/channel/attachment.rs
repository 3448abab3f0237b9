//! Holders of a channel: its subscribers, and those who are about to subscribe.

use std::sync::Arc;

use super::{LocalChannel, State};
use crate::handle::Handle;

/// A place in a channel's list of subscribers; given up on drop.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) channel: Arc<LocalChannel>,
    slot: u32,
    /// Of the subscription that holds the place. Here, where they take no room: there are very many subscriptions.
    pub(crate) traits: Traits,
}

/// Trait of a subscription, as a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Trait {
    /// It had a gap on this node.
    HadGap = 1,
    /// The client learns the epoch only from a subscribe reply, which named that of its position. It is never sent anything
    /// of another epoch, but made to subscribe anew. Not of clients that read each entry's own.
    Labelled = 2,
    /// The client can resume here, so its position is kept.
    Positioned = 4,
    /// Made by the server (the token's `channels`), not by the client.
    ServerSide = 8,
    /// Granted by a back end, so that a new token does not end it.
    ByBackEnd = 16,
}

/// Traits of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits(u8);

impl Traits {
    /// Whether it has a trait.
    pub(crate) fn has(self, one: Trait) -> bool {
        self.0 & one as u8 != 0
    }

    /// Gives it a trait, or takes it away.
    pub(crate) fn set(&mut self, one: Trait, has: bool) {
        self.0 = if has { self.0 | one as u8 } else { self.0 & !(one as u8) };
    }
}

impl Attachment {
    /// Adds a subscriber. From now on its handle is marked for every new entry.
    pub(crate) fn new(channel: &Arc<LocalChannel>, state: &mut State, handle: Arc<Handle>, index: u32) -> Self {
        let slot = state.subscribers.insert(handle, index);
        channel.shared.metrics.subscriptions.inc();
        Self { channel: channel.clone(), slot, traits: Traits::default() }
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
