//! Unsubscribe: nothing of the channel follows its reply.

use fanway_protocol::reply::{Outcome, Reply};

use super::ClientSession;

/// A waiting unsubscribe.
pub(super) struct Unsubscribe {
    pub(super) channel: String,
}

impl Unsubscribe {
    pub(super) fn run(&self, id: u32, session: &mut ClientSession) {
        if let Some(index) = session.core.sub(&self.channel) {
            session.core.remove(index);
        }
        session.reply(&Reply::ok(id, Outcome::Unsubscribe));
    }
}
