//! Remembers what recent messages mean.
//!
//! In a fan-out all connections receive the same bytes. Comparing them costs a hundredth of parsing them, which keeps the
//! load generator out of the measurement.

use super::{Fault, Signal};

/// Messages remembered: those of a burst, or one of each of many channels.
const SLOTS: usize = 256;
/// Larger messages are parsed each time.
const MAX_BYTES: usize = 64 * 1024;

/// A small memory of messages, in the order in which they came.
#[derive(Default)]
pub struct Memo {
    slots: Vec<(Box<[u8]>, Signal)>,
    /// The slot to overwrite next, once all are used.
    oldest: usize,
    /// The slot after the last hit: in a burst each connection receives the same messages one after another.
    expected: usize,
    /// Whether nothing is remembered.
    off: bool,
}

impl Memo {
    /// One that remembers nothing, for connections that receive no message in common.
    pub fn off() -> Self {
        Self { off: true, ..Self::default() }
    }

    /// What a message means: remembered, or parsed now.
    pub(super) fn signal(
        &mut self,
        message: &[u8],
        parse: impl FnOnce(&[u8]) -> Result<Signal, Fault>,
    ) -> Result<Signal, Fault> {
        let slots = self.slots.len();
        for step in 0..slots {
            let at = (self.expected + step) % slots;
            if *self.slots[at].0 == *message {
                self.expected = at + 1;
                return Ok(self.slots[at].1);
            }
        }
        let signal = parse(message)?;
        // Replies differ from connection to connection: they would only push out what is worth keeping.
        if !self.off && matches!(signal, Signal::Publication { .. }) && message.len() <= MAX_BYTES {
            let slot = (message.into(), signal);
            if slots < SLOTS {
                self.slots.push(slot);
                self.expected = slots + 1;
            } else {
                self.slots[self.oldest] = slot;
                self.expected = self.oldest + 1;
                self.oldest = (self.oldest + 1) % SLOTS;
            }
        }
        Ok(signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(sequence: u64) -> Signal {
        Signal::Publication { run: 1, channel: 0, sequence, due: 0 }
    }

    #[test]
    fn a_message_is_parsed_once_and_never_taken_for_another() {
        let mut memo = Memo::default();
        let mut parsed = 0;
        for _connection in 0..10 {
            for message in 0..5_u64 {
                let signal = memo.signal(&message.to_be_bytes(), |_| {
                    parsed += 1;
                    Ok(publication(message))
                });
                assert_eq!(signal, Ok(publication(message)));
            }
        }
        assert_eq!(parsed, 5);
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let mut memo = Memo::default();
        for message in 0..1000_u64 {
            let _ = memo.signal(&message.to_be_bytes(), |_| Ok(publication(message)));
        }
        assert_eq!(memo.slots.len(), SLOTS);
        assert!(memo.signal(&999_u64.to_be_bytes(), |_| Err(Fault::Ended)).is_ok());
        assert!(memo.signal(&0_u64.to_be_bytes(), |_| Err(Fault::Ended)).is_err());
    }
}
