//! Decoder of a client's frames: received bytes in, messages and control frames out.
//!
//! * **Idle costs nothing**: between messages a decoder owns no heap memory. An incomplete message is kept in one box that
//!   is freed with it.
//! * **An announced length costs nothing**: it is checked when its header is read, and memory grows only with bytes that
//!   arrived. While a message of up to `max_message_bytes` is incomplete, at most twice its received bytes are held, and
//!   never more than the limit.
//! * **The usual case copies nothing**: a whole unfragmented message in the input is unmasked and checked in place.
//! * **Any chunking is equal**: the events do not depend on how the bytes are cut into reads. Text fails at its first wrong
//!   byte, even inside a fragment.
//!
//! No clock, no I/O, no locks: one connection's task owns it. Three bounds are the driver's: the age of an incomplete
//! message (see [`Decoder::in_progress`]), the rate of control frames, and the rate of messages.
//!
//! ```ignore
//! let mut input = &mut buffer[..read];
//! while let Some(event) = decoder.next(&mut input)? { /* ... */ }
//! ```

use std::mem;

use super::{
    Fault, Opcode, close,
    header::{self, Header},
    message::Message,
};

/// Limits of what a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message, over all its fragments.
    pub max_message_bytes: usize,
    /// Frames of a message. Bounds what empty fragments, which no byte limit stops, can cost.
    pub max_fragments: u32,
    /// Binary messages are accepted; otherwise their header is refused, before any payload is kept.
    pub binary: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message_bytes: 64 * 1024, max_fragments: 1024, binary: false }
    }
}

/// A complete message or control frame of a client. Borrows from the input or the decoder until the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'e> {
    /// A text message.
    Text(&'e str),
    /// A binary message.
    Binary(&'e [u8]),
    /// A ping, to be answered by a pong with the same payload.
    Ping(&'e [u8]),
    /// A pong. Unsolicited ones are legal.
    Pong(&'e [u8]),
    /// The client closes; whatever follows is ignored. Answer with the same code, then close the socket.
    Close {
        /// Close code, one that may be sent back. `None` if the frame was empty.
        code: Option<u16>,
        /// Close reason; untrusted.
        reason: &'e str,
    },
}

/// The receiving half of a WebSocket connection.
#[derive(Debug)]
pub struct Decoder {
    /// Limits of what the client may send.
    limits: Limits,
    /// The incomplete frame or message; `None` between messages.
    progress: Option<Box<Progress>>,
    /// A close frame or a fault was reported: nothing is read any more.
    ended: bool,
}

/// A frame or message of which only the beginning has arrived.
#[derive(Debug, Default)]
struct Progress {
    /// The beginning of a header that is itself incomplete.
    header: [u8; header::MAX_BYTES],
    /// Number of bytes of `header` that have arrived.
    header_len: usize,
    /// The frame whose payload has not arrived completely.
    frame: Option<Frame>,
    /// Payload of that frame, if it is a control frame: one may come in the middle of a message.
    control: Vec<u8>,
    /// The message that is incomplete.
    message: Option<Message>,
    /// The payload of the event last handed out, kept until the next call.
    delivered: Vec<u8>,
}

/// A frame being received.
#[derive(Debug)]
struct Frame {
    header: Header,
    /// Bytes of payload that have arrived.
    arrived: u64,
}

/// A complete payload, in place or held.
enum Whole<'i> {
    /// In the input.
    Here(Opcode, &'i [u8]),
    /// In [`Progress::delivered`].
    Held(Opcode),
}

impl Decoder {
    /// A decoder at the beginning of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, progress: None, ended: false }
    }

    /// Takes the next event off the front of `input`, which holds bytes just read. `None` means that the input is used up:
    /// call until then, both to see every event and to free the last one's memory.
    ///
    /// After a close event or a fault all input is dropped.
    pub fn next<'e, 'i: 'e>(&'e mut self, input: &mut &'i mut [u8]) -> Result<Option<Event<'e>>, Fault> {
        self.release();
        if self.ended {
            *input = &mut [];
            return Ok(None);
        }
        let whole = self.step(input).inspect_err(|_| self.end())?;
        let event = match whole {
            None => return Ok(None),
            Some(Whole::Here(opcode, payload)) => event(opcode, payload),
            Some(Whole::Held(opcode)) => {
                event(opcode, self.progress.as_ref().map_or(&[], |progress| &progress.delivered))
            }
        };
        self.ended = matches!(event, Ok(Event::Close { .. }) | Err(_));
        event.map(Some)
    }

    /// True while a frame or message has begun and is incomplete. A driver closes a connection on which this stays true for
    /// too long without a text or binary event in between (control events do not count: they may come inside a message).
    pub fn in_progress(&self) -> bool {
        self.progress.as_ref().is_some_and(|progress| progress.is_incomplete())
    }

    /// Heap memory held at the moment.
    pub fn held_bytes(&self) -> usize {
        self.progress.as_ref().map_or(0, |progress| {
            size_of::<Progress>()
                + progress.control.capacity()
                + progress.delivered.capacity()
                + progress.message.as_ref().map_or(0, Message::held_bytes)
        })
    }

    /// Frees the last event, and everything if nothing is incomplete.
    fn release(&mut self) {
        if let Some(progress) = &mut self.progress {
            progress.delivered = Vec::new();
            if self.ended || !progress.is_incomplete() {
                self.progress = None;
            }
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.progress = None;
    }

    /// Reads on until a control frame or a message is complete.
    fn step<'i>(&mut self, input: &mut &'i mut [u8]) -> Result<Option<Whole<'i>>, Fault> {
        while let Some(Frame { header, arrived }) = self.frame(input)? {
            let missing = header.len - arrived;
            let part = take(input, usize::try_from(missing).unwrap_or(usize::MAX));
            header::unmask(part, header.mask, arrived);
            let outstanding = missing - part.len() as u64;
            let whole = part.len() as u64 == header.len;
            let in_message = self.progress.as_ref().is_some_and(|progress| progress.message.is_some());
            if whole && (header.opcode.is_control() || (header.fin && !in_message)) {
                return Ok(Some(Whole::Here(header.opcode, part)));
            }

            let arrived = arrived + part.len() as u64;
            let progress = self.progress.get_or_insert_default();
            if header.opcode.is_control() {
                progress.control.extend_from_slice(part);
            } else {
                let message = progress.message.get_or_insert_with(|| Message::new(header.opcode == Opcode::Text));
                message.append(part, outstanding)?;
            }
            if outstanding > 0 {
                progress.frame = Some(Frame { header, arrived });
                return Ok(None);
            }
            if header.opcode.is_control() {
                progress.delivered = mem::take(&mut progress.control);
                return Ok(Some(Whole::Held(header.opcode)));
            }
            if let Some(message) = progress.message.take_if(|_| header.fin) {
                let opcode = if message.is_text() { Opcode::Text } else { Opcode::Binary };
                progress.delivered = message.into_payload();
                return Ok(Some(Whole::Held(opcode)));
            }
        }
        Ok(None)
    }

    /// The frame whose payload comes next: the one being received, or a new one if its whole header has arrived.
    fn frame(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, Fault> {
        if let Some(frame) = self.progress.as_mut().and_then(|progress| progress.frame.take()) {
            return Ok(Some(frame));
        }
        if input.is_empty() {
            return Ok(None);
        }
        let held = self.progress.as_ref().map_or(0, |progress| progress.header_len);
        let header = if held == 0 {
            Header::parse(input)?
        } else {
            let header = &mut self.progress.get_or_insert_default().header;
            let copied = input.len().min(header.len() - held);
            header[held..held + copied].copy_from_slice(&input[..copied]);
            Header::parse(&header[..held + copied])?
        };
        let Some((header, len)) = header else {
            // Fewer bytes than a header has: keep them. (The held ones were copied above.)
            let progress = self.progress.get_or_insert_default();
            progress.header[held..held + input.len()].copy_from_slice(input);
            progress.header_len = held + input.len();
            *input = &mut [];
            return Ok(None);
        };
        if let Some(progress) = &mut self.progress {
            progress.header_len = 0;
        }
        take(input, len - held);
        self.admit(&header)?;
        Ok(Some(Frame { header, arrived: 0 }))
    }

    /// Checks a frame's header: it may come now, and is within the limits.
    fn admit(&mut self, header: &Header) -> Result<(), Fault> {
        let message = self.progress.as_mut().and_then(|progress| progress.message.as_mut());
        match (header.opcode, message) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => Ok(()),
            (Opcode::Continuation, None) => Err(Fault::UnexpectedContinuation),
            (Opcode::Continuation, Some(message)) => message.admit(header, &self.limits),
            (Opcode::Text | Opcode::Binary, Some(_)) => Err(Fault::ExpectedContinuation),
            (Opcode::Binary, None) if !self.limits.binary => Err(Fault::UnexpectedBinary),
            (Opcode::Text | Opcode::Binary, None) if header.len > self.limits.max_message_bytes as u64 => {
                Err(Fault::MessageTooLong)
            }
            (Opcode::Text | Opcode::Binary, None) => Ok(()),
        }
    }
}

impl Progress {
    fn is_incomplete(&self) -> bool {
        self.header_len > 0 || self.frame.is_some() || self.message.is_some()
    }
}

/// Takes up to `len` bytes off the front.
fn take<'i>(input: &mut &'i mut [u8], len: usize) -> &'i mut [u8] {
    let all = mem::take(input);
    let (front, rest) = all.split_at_mut(len.min(all.len()));
    *input = rest;
    front
}

/// The event of a complete, unmasked payload.
fn event(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, Fault> {
    match opcode {
        Opcode::Text => simdutf8::basic::from_utf8(payload).map(Event::Text).map_err(|_| Fault::InvalidUtf8),
        Opcode::Binary => Ok(Event::Binary(payload)),
        Opcode::Ping => Ok(Event::Ping(payload)),
        Opcode::Pong => Ok(Event::Pong(payload)),
        Opcode::Close => close::parse(payload),
        Opcode::Continuation => Err(Fault::UnexpectedContinuation),
    }
}
