//! A message that did not arrive in one piece.

use super::{Fault, Limits, header::Header};

/// The part of a message that has arrived. Exists only while the message is incomplete.
#[derive(Debug)]
pub(super) struct Message {
    /// Text, which must be UTF-8; otherwise binary.
    text: bool,
    /// The payload so far, unmasked. Never larger than what arrived, rounded up to at most its double or what the current frame announces.
    payload: Vec<u8>,
    /// Bytes at the beginning of `payload` that are known to be whole UTF-8 characters.
    checked: usize,
    /// Frames that the message has had.
    fragments: u32,
}

impl Message {
    /// A message whose first frame was admitted.
    pub(super) fn new(text: bool) -> Self {
        Self { text, payload: Vec::new(), checked: 0, fragments: 1 }
    }

    pub(super) fn is_text(&self) -> bool {
        self.text
    }

    /// Bytes allocated.
    pub(super) fn held_bytes(&self) -> usize {
        self.payload.capacity()
    }

    /// Checks the header of a continuation frame against the limits, before any of its payload is read.
    pub(super) fn admit(&mut self, header: &Header, limits: &Limits) -> Result<(), Fault> {
        if header.len > limits.max_message_bytes.saturating_sub(self.payload.len()) as u64 {
            return Err(Fault::MessageTooLong);
        }
        self.fragments += 1;
        if self.fragments > limits.max_fragments {
            return Err(Fault::TooManyFragments);
        }
        Ok(())
    }

    /// Appends unmasked payload of the current frame, of which `outstanding` more bytes are announced. Fails as soon as the text cannot become UTF-8 any more.
    pub(super) fn append(&mut self, part: &[u8], outstanding: u64) -> Result<(), Fault> {
        let needed = self.payload.len() + part.len();
        if needed > self.payload.capacity() {
            // Doubling keeps the copying linear; what the frame announces keeps the last step from overshooting.
            let outstanding = usize::try_from(outstanding).unwrap_or(usize::MAX);
            let capacity = needed.max(self.payload.capacity() * 2).min(needed.saturating_add(outstanding));
            self.payload.reserve_exact(capacity - self.payload.len());
        }
        self.payload.extend_from_slice(part);
        if self.text {
            self.checked += whole_characters(&self.payload[self.checked..])?;
        }
        Ok(())
    }

    /// The payload of the complete message.
    pub(super) fn into_payload(self) -> Vec<u8> {
        self.payload
    }
}

/// Number of bytes at the beginning that are whole characters; the beginning of one more may follow them.
fn whole_characters(bytes: &[u8]) -> Result<usize, Fault> {
    match simdutf8::compat::from_utf8(bytes) {
        Ok(_) => Ok(bytes.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(Fault::InvalidUtf8),
    }
}
