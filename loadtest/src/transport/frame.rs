//! WebSocket frames, client side: masked ones out, unmasked ones in.

use super::Fault;

/// Largest message that is put together; larger ones are a fault of the server.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A received message or control frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    /// A whole text message.
    Text(&'a [u8]),
    /// A ping with its payload.
    Ping(&'a [u8]),
    /// A close with its code; 1005 when it has none.
    Close(u16),
}

/// Puts messages together. Holds nothing unless a message comes in fragments.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    fragments: Option<Vec<u8>>,
}

impl Decoder {
    /// Takes whole frames from the front of the bytes and returns how many bytes they had.
    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Received<'_>) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        let mut at = 0;
        while let Some((first, payload, length)) = split(&bytes[at..])? {
            at += length;
            let fin = first & 0x80 != 0;
            match (first & 0x0f, fin) {
                (TEXT, true) if self.fragments.is_none() => take(Received::Text(payload))?,
                (TEXT, false) if self.fragments.is_none() => self.fragments = Some(payload.to_vec()),
                (CONTINUATION, fin) => {
                    let fragments = self.fragments.as_mut().ok_or(Fault::Protocol("a continuation of nothing"))?;
                    if fragments.len() + payload.len() > MAX_MESSAGE {
                        return Err(Fault::Protocol("a message above 16 MiB"));
                    }
                    fragments.extend_from_slice(payload);
                    if let Some(message) = self.fragments.take_if(|_| fin) {
                        take(Received::Text(&message))?;
                    }
                }
                (PING, true) => take(Received::Ping(payload))?,
                (PONG, true) => {}
                (CLOSE, true) => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    take(Received::Close(code))?;
                }
                (BINARY, _) => return Err(Fault::Protocol("a binary message")),
                _ => return Err(Fault::Protocol("a frame out of order or of an unknown kind")),
            }
        }
        Ok(at)
    }
}

/// First byte, payload and whole length of a frame.
type Split<'a> = (u8, &'a [u8], usize);

/// The frame at the front; `None` while it is incomplete.
fn split(bytes: &[u8]) -> Result<Option<Split<'_>>, Fault> {
    let &[first, second, ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Fault::Protocol("reserved bits"));
    }
    let (length, start) = match second {
        0..126 => (u64::from(second), 2),
        126 => match bytes.get(2..4) {
            Some(&[a, b]) => (u64::from(u16::from_be_bytes([a, b])), 4),
            _ => return Ok(None),
        },
        127 => match bytes.get(2..).and_then(|rest| rest.first_chunk()) {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Ok(None),
        },
        _ => return Err(Fault::Protocol("a masked frame")),
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_MESSAGE);
    let end = start + length.ok_or(Fault::Protocol("a message above 16 MiB"))?;
    Ok(bytes.get(start..end).map(|payload| (first, payload, end)))
}

/// Appends a text frame.
pub(super) fn text(payload: &[u8], out: &mut Vec<u8>) {
    encode(TEXT, payload, out);
}

/// Appends a pong.
pub(super) fn pong(payload: &[u8], out: &mut Vec<u8>) {
    encode(PONG, payload, out);
}

fn encode(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..65536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let key: [u8; 4] = rand::random();
    out.extend_from_slice(&key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(length as u8),
            length @ 126..65536 => {
                bytes.push(126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                bytes.push(127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Decodes in two parts, cut everywhere: what is incomplete waits for the rest.
    fn decode(bytes: &[u8]) -> Result<Vec<String>, Fault> {
        let mut whole = None;
        for cut in 0..=bytes.len() {
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            let mut take = |received: Received<'_>| {
                found.push(match received {
                    Received::Text(text) => format!("text {}", String::from_utf8_lossy(text)),
                    Received::Ping(payload) => format!("ping {}", payload.len()),
                    Received::Close(code) => format!("close {code}"),
                });
                Ok(())
            };
            let used = decoder.decode(&bytes[..cut], &mut take)?;
            let rest = decoder.decode(&bytes[used..], &mut take)?;
            assert_eq!(used + rest, bytes.len());
            assert_eq!(*whole.get_or_insert_with(|| found.clone()), found, "cut at {cut}");
        }
        Ok(whole.unwrap_or_default())
    }

    #[test]
    fn messages_fragments_and_control_frames() {
        let bytes = [
            server_frame(0x81, b"one"),
            server_frame(0x01, b"tw"),
            server_frame(0x89, b"??"),
            server_frame(0x00, b""),
            server_frame(0x80, b"o"),
            server_frame(0x8a, b""),
            server_frame(0x88, &[0x0b, 0xb9, b'x']),
        ]
        .concat();
        assert_eq!(decode(&bytes).unwrap(), ["text one", "ping 2", "text two", "close 3001"]);
        assert_eq!(decode(&server_frame(0x88, b"")).unwrap(), ["close 1005"]);
        for length in [125, 126, 300] {
            assert_eq!(decode(&server_frame(0x81, &vec![b'x'; length])).unwrap()[0].len(), length + 5);
        }
        let mut decoder = Decoder::default();
        let large = server_frame(0x81, &vec![b'x'; 70_000]);
        assert_eq!(decoder.decode(&large, |_| Ok(())).unwrap(), large.len());
    }

    #[test]
    fn what_no_server_may_send_is_a_fault() {
        let masked = b"\x81\x81\0\0\0\0x".to_vec();
        let huge = b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff".to_vec();
        let unfinished_twice = [server_frame(0x01, b"a"), server_frame(0x81, b"b")].concat();
        for bytes in [
            masked,
            huge,
            unfinished_twice,
            server_frame(0xc1, b""),
            server_frame(0x80, b""),
            server_frame(0x82, b""),
            server_frame(0x83, b""),
            server_frame(0x09, b""),
        ] {
            assert!(decode(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_sent_is_masked_and_of_the_right_length() {
        for length in [0, 2, 125, 126, 65535, 65536] {
            let payload = vec![b'{'; length];
            let mut out = Vec::new();
            text(&payload, &mut out);
            let start = match length {
                0..126 => 2,
                126..65536 => 4,
                _ => 10,
            };
            assert_eq!(out[0], 0x81);
            assert_eq!(out[1] & 0x80, 0x80);
            assert_eq!(out.len(), start + 4 + length);
            let (key, masked) = out[start..].split_at(4);
            let unmasked: Vec<u8> = masked.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            assert_eq!(unmasked, payload);
        }
    }
}
