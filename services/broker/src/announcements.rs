//! What nodes of the fleet say to each other, until somebody takes it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// The longest announcement; longer ones are refused, and ignored when heard.
pub const ANNOUNCEMENT_BYTES: usize = 4096;
/// What may wait to be taken. The newest say the most, so that the oldest is dropped for them.
const WAITING: usize = 1024;

/// A bounded queue with one reader.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    waiting: Mutex<VecDeque<Bytes>>,
    arrived: Notify,
}

impl Announcements {
    /// Adds what was heard. Never waits.
    pub(crate) fn push(&self, message: &[u8]) {
        if message.len() > ANNOUNCEMENT_BYTES {
            return;
        }
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= WAITING {
                waiting.pop_front();
            }
            waiting.push_back(Bytes::copy_from_slice(message));
        }
        self.arrived.notify_one();
    }

    /// Waits for something and takes all of it.
    pub(crate) async fn take(&self) -> Vec<Bytes> {
        loop {
            {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if !waiting.is_empty() {
                    return std::mem::take(&mut *waiting).into();
                }
            }
            self.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_stay() {
        let announcements = Announcements::default();
        for number in 0..=WAITING as u32 {
            announcements.push(&number.to_be_bytes());
        }
        announcements.push(&[0; ANNOUNCEMENT_BYTES + 1]);
        let taken = announcements.take().await;
        assert_eq!((taken.len(), &taken[0][..]), (WAITING, &1_u32.to_be_bytes()[..]));
        announcements.push(b"next");
        assert_eq!(announcements.take().await, [Bytes::from_static(b"next")]);
    }
}
