//! Tests of the codec: bytes as a client writes them, and the resulting events.
#![allow(clippy::unwrap_used)]

mod chunking;
mod frames;
mod garbage;
mod writing;

use super::{Decoder, Event, Fault, Limits};

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What is added to an opcode in a message's last frame.
const FIN: u8 = 0x80;

/// An event that outlives the input.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.into()),
            Event::Binary(bytes) => Self::Binary(bytes.into()),
            Event::Ping(bytes) => Self::Ping(bytes.into()),
            Event::Pong(bytes) => Self::Pong(bytes.into()),
            Event::Close { code, reason } => Self::Close(code, reason.into()),
        }
    }
}

fn text(text: &str) -> Seen {
    Seen::Text(text.into())
}

/// Limits of a test: small, binary allowed.
fn limits(max_message_bytes: usize) -> Limits {
    Limits { max_message_bytes, max_fragments: 1000, binary: true }
}

/// A client's frame: masked, with the shortest header that announces the payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    masked_frame(first, [0x11, 0x82, 0xF3, 0x44], payload)
}

fn masked_frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut out = announce(first, payload.len() as u64);
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// The beginning of a masked frame's header, up to the mask.
fn announce(first: u8, len: u64) -> Vec<u8> {
    let mut out = vec![first];
    match len {
        0..=125 => out.push(0x80 | len as u8),
        126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend(len.to_be_bytes());
        }
    }
    out
}

/// A close frame's payload.
fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

/// Feeds one read.
fn feed(decoder: &mut Decoder, bytes: &[u8]) -> (Vec<Seen>, Option<Fault>) {
    let mut buffer = bytes.to_vec();
    let mut input = buffer.as_mut_slice();
    let mut seen = Vec::new();
    loop {
        match decoder.next(&mut input) {
            Ok(Some(event)) => seen.push(event.into()),
            Ok(None) => {
                assert!(input.is_empty(), "input left over");
                return (seen, None);
            }
            Err(fault) => {
                assert_eq!(decoder.next(&mut input), Ok(None), "a fault ends the stream");
                assert!(input.is_empty(), "input left over after a fault");
                return (seen, Some(fault));
            }
        }
    }
}

/// Feeds a whole stream, in reads of `chunk` bytes.
fn decode(limits: Limits, bytes: &[u8], chunk: usize) -> (Vec<Seen>, Option<Fault>) {
    let mut decoder = Decoder::new(limits);
    let mut seen = Vec::new();
    let mut fault = None;
    for read in bytes.chunks(chunk) {
        let (more, failed) = feed(&mut decoder, read);
        seen.extend(more);
        fault = fault.or(failed);
    }
    (seen, fault)
}

/// Feeds a whole stream in one read and then byte by byte, which must make no difference.
fn decode_both(limits: Limits, bytes: &[u8]) -> (Vec<Seen>, Option<Fault>) {
    let whole = decode(limits, bytes, usize::MAX);
    assert_eq!(whole, decode(limits, bytes, 1), "byte by byte");
    whole
}
