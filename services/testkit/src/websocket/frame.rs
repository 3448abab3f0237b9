//! WebSocket frames (RFC 6455 section 5.2), proper and improper ones.

/// What a frame is: four bits. The known ones are constants of [`Frame`].
pub type Opcode = u8;

/// A frame to send or one received.
///
/// Every part can be wrong on purpose: reserved bits, opcodes, a missing mask, a length that lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The last fragment of its message.
    pub fin: bool,
    /// The three reserved bits, RSV1 as the highest.
    pub rsv: u8,
    /// The opcode, four bits.
    pub opcode: Opcode,
    /// The masking key; clients must have one, servers must not.
    pub mask: Option<[u8; 4]>,
    /// The unmasked payload.
    pub payload: Vec<u8>,
    /// The length to declare instead of the payload's, in the given number of bytes (0: in the header's 7 bits, 2 or 8).
    pub declared: Option<(u64, u8)>,
}

impl Frame {
    /// Opcode of a continuation.
    pub const CONTINUATION: Opcode = 0;
    /// Opcode of a text message.
    pub const TEXT: Opcode = 1;
    /// Opcode of a binary message.
    pub const BINARY: Opcode = 2;
    /// Opcode of a close.
    pub const CLOSE: Opcode = 8;
    /// Opcode of a ping.
    pub const PING: Opcode = 9;
    /// Opcode of a pong.
    pub const PONG: Opcode = 10;

    /// A proper client frame: final, masked.
    pub fn new(opcode: Opcode, payload: impl Into<Vec<u8>>) -> Self {
        Self { fin: true, rsv: 0, opcode, mask: Some(rand::random()), payload: payload.into(), declared: None }
    }

    /// A text message.
    pub fn text(text: &str) -> Self {
        Self::new(Self::TEXT, text)
    }

    /// A close with a code and a reason.
    pub fn close(code: u16, reason: &str) -> Self {
        Self::new(Self::CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    /// Without a mask.
    pub fn unmasked(mut self) -> Self {
        self.mask = None;
        self
    }

    /// With more fragments to follow.
    pub fn unfinished(mut self) -> Self {
        self.fin = false;
        self
    }

    /// With reserved bits set.
    pub fn with_rsv(mut self, rsv: u8) -> Self {
        self.rsv = rsv;
        self
    }

    /// With a declared length of the caller's.
    pub fn declaring(mut self, length: u64, bytes: u8) -> Self {
        self.declared = Some((length, bytes));
        self
    }

    /// The frame's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let length = self.payload.len() as u64;
        let (length, size) = self.declared.unwrap_or(match length {
            0..126 => (length, 0),
            126..65536 => (length, 2),
            _ => (length, 8),
        });
        let mut out = vec![u8::from(self.fin) << 7 | (self.rsv & 7) << 4 | self.opcode & 15];
        let masked = u8::from(self.mask.is_some()) << 7;
        match size {
            0 => out.push(masked | (length as u8 & 127)),
            2 => {
                out.push(masked | 126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                out.push(masked | 127);
                out.extend_from_slice(&length.to_be_bytes());
            }
        }
        let key = self.mask.unwrap_or_default();
        out.extend(self.mask.iter().flatten());
        out.extend(self.payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
        out
    }

    /// Parses one frame from the front of the bytes, with the number of bytes it took; `None` while incomplete.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (&[first, second], mut rest) = bytes.split_first_chunk::<2>()?;
        let length = match second & 127 {
            126 => {
                let (length, after) = rest.split_first_chunk::<2>()?;
                rest = after;
                u64::from(u16::from_be_bytes(*length))
            }
            127 => {
                let (length, after) = rest.split_first_chunk::<8>()?;
                rest = after;
                u64::from_be_bytes(*length)
            }
            short => u64::from(short),
        };
        let mut mask = None;
        if second & 128 != 0 {
            let (key, after) = rest.split_first_chunk::<4>()?;
            rest = after;
            mask = Some(*key);
        }
        let length = usize::try_from(length).ok()?;
        let key = mask.unwrap_or_default();
        let payload = rest.get(..length)?.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
        let frame =
            Self { fin: first & 128 != 0, rsv: first >> 4 & 7, opcode: first & 15, mask, payload, declared: None };
        Some((frame, bytes.len() - rest.len() + length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_parses_back_once_complete() {
        for length in [0, 1, 125, 126, 65535, 65536] {
            for frame in
                [Frame::new(Frame::BINARY, vec![7; length]), Frame::new(0, vec![7; length]).unfinished().unmasked()]
            {
                let bytes = frame.bytes();
                assert_eq!(Frame::parse(&bytes), Some((frame, bytes.len())));
                for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
                    assert_eq!(Frame::parse(&bytes[..cut]), None);
                }
            }
        }
    }

    #[test]
    fn the_standard_s_examples() {
        assert_eq!(Frame::text("Hello").unmasked().bytes(), b"\x81\x05Hello");
        let masked = Frame { mask: Some([0x37, 0xfa, 0x21, 0x3d]), ..Frame::text("Hello") };
        assert_eq!(masked.bytes(), [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        assert_eq!(Frame::text("a").unmasked().declaring(300, 2).bytes(), b"\x81\x7e\x01\x2ca");
    }
}
