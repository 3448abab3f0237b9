//! Control of sessions from outside of them: who is addressed, and what is asked.
//!
//! The registry finds sessions by hashes of 32 bits, so what it finds may be others too: each session confirms that it is
//! meant before it obeys.

use std::sync::Arc;

use uuid::Uuid;

use crate::close_reason::CloseReason;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::registry::Key;

/// The sessions that an operation addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The session with this client id.
    Client(Uuid),
    /// Every session of a user. Anonymous clients have none.
    User(Box<str>),
    /// Every session that was authenticated, or last refreshed, with the token of this id (`jti`).
    Token(Box<str>),
}

/// A message in the mailbox of a session.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// Ends the session if it is meant.
    Disconnect { target: Arc<Target>, reason: CloseReason },
}

impl Message {
    /// True if a newer message makes this one superfluous: it addresses the same target, with the same reason or one that
    /// outlasts this one. A message for another target never does: the session may be included in one of the two only.
    pub(crate) fn yields_to(&self, newer: &Self) -> bool {
        let (Self::Disconnect { target, reason }, Self::Disconnect { target: others, reason: lasting }) = (self, newer);
        target == others && (reason == lasting || lasting.outlasts(*reason))
    }
}

impl Target {
    /// Whether a session with this identity is meant.
    pub(crate) fn includes(&self, identity: &Identity) -> bool {
        match self {
            // Found without doubt, and never by a message.
            Self::Client(_) => false,
            Self::User(user) => identity.user == *user,
            Self::Token(id) => identity.token_id.as_ref() == Some(id),
        }
    }
}

impl Hub {
    /// Ends the sessions of this node that a target addresses. Returns how many were notified; where two users have the
    /// same hash those of the other are among them, and stay open.
    ///
    /// A session that has let its mailbox fill up with messages that do not yield to this one is ended as slow: its client
    /// comes back, and its credential is checked.
    pub fn disconnect(&self, target: Target, reason: CloseReason) -> usize {
        let key = match &target {
            Target::Client(id) => {
                let handle = self.registry.find(*id);
                handle.iter().for_each(|handle| handle.close(reason));
                return usize::from(handle.is_some());
            }
            Target::User(user) => Key::User(self.key(Some(user))),
            Target::Token(id) => Key::Token(self.key(Some(id))),
        };
        let message = Message::Disconnect { target: Arc::new(target), reason };
        let (posted, full) = self.registry.post(key, &message, Message::yields_to);
        full.iter().for_each(|handle| handle.close(CloseReason::Slow));
        posted + full.len()
    }

    /// Makes a session be found by its user and its token's id. It receives the messages for these that were posted since its
    /// credential was presented; if that is too long ago to know, it must present the credential again.
    pub(crate) fn identify(&self, slot: u32, identity: &Identity) {
        let (user, token) = (self.key(Some(&identity.user)), self.key(identity.token_id.as_deref()));
        if !self.registry.identify(slot, user, token, identity.presented_at) {
            self.registry.close(slot, CloseReason::Expired);
        }
    }

    /// Whether a user has more than a number of sessions. An anonymous client has just its own.
    pub(crate) fn has_more_sessions(&self, identity: &Identity, than: usize) -> bool {
        match self.key(Some(&identity.user)) {
            0 => false,
            user => self.registry.count_user(user, than.saturating_add(1)) > than,
        }
    }

    /// The hash of a name in the registry; 0 for none and for an empty one, and only for those.
    fn key(&self, name: Option<&str>) -> u32 {
        match name {
            None | Some("") => 0,
            Some(name) => (self.hasher.hash_one(name) as u32).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::task::{Context, Waker};
    use std::time::Instant;

    use super::*;
    use crate::Limits;
    use crate::handle::Handle;
    use crate::session::ClientSession;
    use crate::testing::hub;

    /// Names with the same hash are too rare to be found: the message is put into the wrong mailbox.
    #[tokio::test]
    async fn a_session_that_is_not_meant_stays() {
        let hub = hub(Limits::default());
        let mut session = ClientSession::new(hub.clone(), None, Handle::by_task(), Instant::now());
        let poll = |session: &mut ClientSession| {
            session.poll(&mut Context::from_waker(Waker::noop()), Instant::now());
            session.closing()
        };
        session.on_frame(r#"{"id":1,"connect":{"token":"t"}}"#, Instant::now());
        assert_eq!(poll(&mut session), None);
        let key = Key::User(hub.key(Some("alice")));
        for (user, closing) in [("bob", None), ("alice", Some(CloseReason::Disconnected))] {
            let target = Arc::new(Target::User(user.into()));
            let (posted, full) = hub.registry.post(
                key,
                &Message::Disconnect { target, reason: CloseReason::Disconnected },
                Message::yields_to,
            );
            assert_eq!((posted, full.len(), poll(&mut session)), (1, 0, closing));
        }
    }
}
