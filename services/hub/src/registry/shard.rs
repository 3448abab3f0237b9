//! Part of the registry: sessions, the index of their users, and the mailboxes that have something.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Key;
use super::slab::{NONE, Slab};
use super::users::Users;
use crate::handle::Handle;

/// Messages that may wait for one session.
pub(crate) const MAILBOX: usize = 64;

/// Sessions of a shard, by index. `M` is a message.
#[derive(Debug)]
pub(crate) struct Shard<M> {
    pub(crate) sessions: Slab,
    users: Users,
    /// By index; only mailboxes that are not empty.
    mail: HashMap<u32, VecDeque<M>>,
}

impl<M> Default for Shard<M> {
    fn default() -> Self {
        Self { sessions: Slab::default(), users: Users::default(), mail: HashMap::new() }
    }
}

impl<M> Shard<M> {
    /// Removes a session with all that is known of it.
    ///
    /// Returns the hash of its user besides.
    pub(crate) fn remove(&mut self, index: usize) -> (Option<Arc<Handle>>, u32) {
        let user = self.identify(index, NONE, NONE);
        drop(self.take_mail(index));
        (self.sessions.remove(index), user)
    }

    /// Sets the hashes of a session's user and token id. Returns the hash that its user had before.
    pub(crate) fn identify(&mut self, index: usize, user: u32, token: u32) -> u32 {
        let before = self.sessions.user(index);
        self.users.set(&mut self.sessions, index, user);
        self.sessions.set_token(index, token);
        before
    }

    /// Indices of the sessions with a key.
    pub(crate) fn with(&self, key: Key) -> Vec<usize> {
        match key {
            Key::User(hash) => self.users.with(&self.sessions, hash).collect(),
            Key::Token(hash) => self.sessions.with_token(hash).collect(),
        }
    }

    /// Number of sessions whose users have a hash, counted up to a number.
    pub(crate) fn count_user(&self, hash: u32, most: usize) -> usize {
        self.users.with(&self.sessions, hash).take(most).count()
    }

    /// Puts a message into a session's mailbox; if that is full, in place of the oldest that yields to it. False if none does.
    #[must_use]
    pub(crate) fn post(&mut self, index: usize, message: M, yields: impl Fn(&M, &M) -> bool) -> bool {
        let mailbox = self.mail.entry(index as u32).or_default();
        if mailbox.len() >= MAILBOX {
            let Some(at) = mailbox.iter().position(|older| yields(older, &message)) else { return false };
            mailbox.remove(at);
        }
        mailbox.push_back(message);
        true
    }

    /// Empties a session's mailbox.
    pub(crate) fn take_mail(&mut self, index: usize) -> VecDeque<M> {
        // Nearly always. Saves a hash for each session that ends.
        if self.mail.is_empty() {
            return VecDeque::new();
        }
        let mail = self.mail.remove(&(index as u32)).unwrap_or_default();
        if self.mail.is_empty() {
            self.mail = HashMap::new();
        }
        mail
    }
}
