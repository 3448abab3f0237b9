//! Reading a client frame's header.

use super::{Fault, Opcode};

/// The longest header of a client frame: two bytes, eight of length, four of mask.
pub(super) const MAX_BYTES: usize = 14;

/// A client frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Last frame of its message.
    pub(super) fin: bool,
    /// Kind of the payload.
    pub(super) opcode: Opcode,
    /// Payload bytes announced; at most 2^63 - 1. Nothing is allocated for them before they arrive.
    pub(super) len: u64,
    /// XORed over the payload, byte by byte in turn.
    pub(super) mask: [u8; 4],
}

impl Header {
    /// Reads a header from the beginning of `bytes`: the header and its length in bytes, or `None` if it is incomplete.
    ///
    /// Each byte is checked as soon as it is there, so garbage is refused at its first wrong byte.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Fault> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Fault::ReservedBit);
        }
        let fin = first & 0x80 != 0;
        let opcode = Opcode::from_bits(first & 0x0F).ok_or(Fault::ReservedOpcode)?;
        if opcode.is_control() && !fin {
            return Err(Fault::ControlFragmented);
        }

        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(Fault::Unmasked);
        }
        let short = second & 0x7F;
        if opcode.is_control() && short > 125 {
            return Err(Fault::ControlTooLong);
        }
        let (len, rest) = match short {
            126 => {
                let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*len)), rest)
            }
            127 => {
                let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*len), rest)
            }
            short => (u64::from(short), rest),
        };
        let shortest_form = match len {
            0..=125 => short <= 125,
            126..=0xFFFF => short == 126,
            _ => len >> 63 == 0,
        };
        if !shortest_form {
            return Err(Fault::BadLength);
        }

        let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        Ok(Some((Self { fin, opcode, len, mask }, bytes.len() - rest.len())))
    }
}

/// Takes the mask off, in place. `at` is the position of the first byte in the frame's payload.
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4], at: u64) {
    let mut mask = mask;
    mask.rotate_left((at % 4) as usize);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= key;
    }
}
