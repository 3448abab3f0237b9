//! What all protocols over WebSocket share: the handshake, and frames taken apart.

use super::frame::{self, Decoder, Received};
use super::{Fault, head, header_has};
use crate::target::Target;

/// What happens on a WebSocket.
pub(super) enum Event<'a> {
    /// The handshake is done.
    Opened,
    /// A text message.
    Text(&'a [u8]),
}

/// One connection's state below its protocol.
#[derive(Debug, Default)]
pub(super) struct Socket {
    opened: bool,
    decoder: Decoder,
}

impl Socket {
    /// Takes received bytes, gives what happens to `take`, answers pings, and returns how many bytes it used.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mut take: impl FnMut(Event<'_>, &mut Vec<u8>) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        let mut used = 0;
        if !self.opened {
            let Some(length) = upgraded(bytes)? else { return Ok(0) };
            used = length;
            self.opened = true;
            take(Event::Opened, out)?;
        }
        let frames = self.decoder.decode(&bytes[used..], |received| match received {
            Received::Text(text) => take(Event::Text(text), out),
            Received::Ping(payload) => {
                frame::pong(payload, out);
                Ok(())
            }
            Received::Close(code) => Err(Fault::Closed(code)),
        })?;
        Ok(used + frames)
    }
}

/// Appends the request that opens a WebSocket.
pub(super) fn request(target: &Target, path: &str, out: &mut Vec<u8>) {
    // The key only has to be 16 bytes; that the answer matches it is the business of protocol tests.
    out.extend_from_slice(
        format!(
            "GET {}{path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            target.base, target.host
        )
        .as_bytes(),
    );
}

/// The length of the response that opens a WebSocket; `None` while it is incomplete.
pub(super) fn upgraded(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    head(bytes, |response, length| match response.code {
        Some(101) if header_has(response, "upgrade", "websocket") => Ok(length),
        code => Err(Fault::Status(code.unwrap_or(0))),
    })
}

/// What tests of the protocols need.
#[cfg(test)]
pub(super) mod testing {
    use fanway_protocol::Channel;

    use super::super::{Memo, Opening, Signal, Transport, Wire};
    use super::*;

    /// A server's answer to the handshake, as nchan sends it.
    pub(in super::super) const HEAD: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\n\r\n";

    /// A server's text message.
    pub(in super::super) fn said(text: &str) -> Vec<u8> {
        let mut frame = vec![0x81];
        match text.len() {
            length @ 0..126 => frame.push(length as u8),
            length => {
                frame.push(126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(text.as_bytes());
        frame
    }

    /// The client's text messages in what it sends.
    pub(in super::super) fn texts(mut out: &[u8]) -> Vec<String> {
        let mut texts = Vec::new();
        while let [first, length, rest @ ..] = out {
            let length = usize::from(length & 0x7f);
            assert!(length < 126, "tests say little");
            let (key, payload) = rest.split_at(4);
            let text = payload[..length].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            if *first == 0x81 {
                texts.push(String::from_utf8(text).unwrap());
            }
            out = &payload[length..];
        }
        texts
    }

    /// What a client of the channels says first, then what it understands of a stream and what it answers: the same
    /// however the stream is cut.
    pub(in super::super) fn talk(
        transport: Transport,
        channels: &[&str],
        stream: &[u8],
    ) -> (String, Result<Vec<Signal>, Fault>, Vec<String>) {
        let target = Target::parse("http://127.0.0.1:1/base", false).unwrap();
        let channels: Vec<Channel> = channels.iter().map(|name| Channel::new(name).unwrap()).collect();
        let opening = Opening { target: &target, token: "t", channels: &channels, resume: None };
        let mut whole = None;
        for cut in 0..=stream.len() {
            let (mut first, mut out, mut signals) = (Vec::new(), Vec::new(), Vec::new());
            let (mut wire, mut memo) = (Wire::open(transport, &opening, &mut first), Memo::default());
            let mut take = |signal| signals.push(signal);
            let end = wire
                .receive(&stream[..cut], &mut memo, &mut out, &mut take)
                .and_then(|used| wire.receive(&stream[used..], &mut memo, &mut out, &mut take));
            let found = (String::from_utf8(first).unwrap(), end.map(|_| signals), texts(&out));
            assert_eq!(*whole.get_or_insert_with(|| found.clone()), found, "cut at {cut}");
        }
        whole.unwrap()
    }
}
