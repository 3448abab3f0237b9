//! The server's frames: never masked, never fragmented, so identical for all clients and encoded once.

use super::close;

/// The longest header of a server frame.
pub const MAX_HEADER_BYTES: usize = 10;

/// The bit that marks a message's last (here: only) frame.
const FIN: u8 = 0x80;

/// Kind of a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names of RFC 6455")]
pub enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl Opcode {
    /// The opcode of these four bits, unless reserved.
    pub fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// True for a control frame: short, whole, and allowed between the fragments of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The header of a whole, unmasked frame with a payload of `len` bytes, and its own length in bytes.
#[inline]
pub fn header(opcode: Opcode, len: usize) -> ([u8; MAX_HEADER_BYTES], usize) {
    let mut header = [0; MAX_HEADER_BYTES];
    header[0] = FIN | opcode as u8;
    let written = if let Ok(short @ 0..=125) = u8::try_from(len) {
        header[1] = short;
        2
    } else if let Ok(medium) = u16::try_from(len) {
        header[1] = 126;
        header[2..4].copy_from_slice(&medium.to_be_bytes());
        4
    } else {
        header[1] = 127;
        header[2..].copy_from_slice(&(len as u64).to_be_bytes());
        MAX_HEADER_BYTES
    };
    (header, written)
}

/// Appends a whole frame. A control frame's payload must not exceed 125 bytes.
pub fn write(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    debug_assert!(!opcode.is_control() || payload.len() <= 125, "control frame too long");
    let (header, len) = header(opcode, payload.len());
    out.reserve(len + payload.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(payload);
}

/// Appends a whole frame with the payload that `write_payload` appends, which need not be a buffer of its own.
///
/// Room for the longest header is left first; the payload is moved down once its length is known.
#[inline]
pub fn write_with(out: &mut Vec<u8>, opcode: Opcode, write_payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; MAX_HEADER_BYTES]);
    let payload = out.len();
    write_payload(out);
    let (header, len) = header(opcode, out.len() - payload);
    out[payload - len..payload].copy_from_slice(&header[..len]);
    out.drain(start..payload - len);
}

/// Appends a close frame. Without a code it is empty, the answer to an empty close frame. The reason is plain text and
/// cut to the length that fits.
pub fn write_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let Some(code) = code else { return write(out, Opcode::Close, &[]) };
    debug_assert!(close::is_sendable(code), "close code {code} must not be sent");
    let reason = close::cut_reason(reason).as_bytes();
    let (header, len) = header(Opcode::Close, 2 + reason.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason);
}
