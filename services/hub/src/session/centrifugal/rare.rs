//! State that few connections have.

use std::time::Instant;

use crate::quota::Address;
use crate::unfinished::Share;

/// State that few connections have, behind a pointer: the others pay for that alone.
#[derive(Debug, Default)]
pub(super) struct Rare(Option<Box<State>>);

/// See [`Rare`].
#[derive(Debug, Default)]
pub(super) struct State {
    /// Address of the client, where it is known.
    pub(super) address: Option<Address>,
    /// End of the pause that a quota asks for, which other connections of the user may have used up.
    pub(super) paused_until: Option<Instant>,
    /// Share of the node's unfinished messages, before the client is connected.
    pub(super) unfinished: Option<Share>,
}

impl Rare {
    /// The state, made if need be.
    pub(super) fn make(&mut self) -> &mut State {
        self.0.get_or_insert_default()
    }

    /// The state, if there is any.
    pub(super) fn get_mut(&mut self) -> Option<&mut State> {
        self.0.as_deref_mut()
    }

    /// Address of the client, where it is known.
    pub(super) fn address(&self) -> Option<Address> {
        self.0.as_ref()?.address
    }

    /// End of a pause that a quota asks for.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.0.as_ref()?.paused_until
    }

    /// Forgets the state if nothing is in it.
    pub(super) fn tidy(&mut self) {
        let is_empty = |state: &mut Box<State>| {
            state.address.is_none() && state.paused_until.is_none() && state.unfinished.is_none()
        };
        self.0.take_if(is_empty);
    }
}
