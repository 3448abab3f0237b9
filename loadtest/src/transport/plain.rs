//! Bare WebSocket: a channel is a path, a publication a text message with nothing around it. nchan speaks it, and so do the
//! small servers of `ws` and uWebSockets in `loadtest/peers`.
//!
//! One channel per connection: what is received does not say where it is from.

use serde_json::value::RawValue;

use super::socket::{self, Event, Socket};
use super::{Fault, Memo, Opening, Signal, channel_path, data};
use crate::channels::Channels;

/// Where the channels are.
const PATH: &str = "/sub/";

/// One connection's state.
pub struct Wire {
    socket: Socket,
    /// The channel's number.
    channel: u32,
}

impl Wire {
    pub(super) fn open(opening: &Opening<'_>, out: &mut Vec<u8>) -> Self {
        let Opening { target, channels, .. } = opening;
        let name = channels.first().map_or("", |channel| channel.as_str());
        socket::request(target, &channel_path(PATH, name), out);
        Self { socket: Socket::default(), channel: Channels::number(name).unwrap_or(0) }
    }

    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        memo: &mut Memo,
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Signal),
    ) -> Result<usize, Fault> {
        let channel = self.channel;
        self.socket.receive(bytes, out, |event, _| {
            take(match event {
                // Such a server has nothing else to say.
                Event::Opened => Signal::Ready,
                Event::Text(text) => match memo.signal(text, publication)? {
                    Signal::Publication { run, sequence, due, .. } => {
                        Signal::Publication { run, channel, sequence, due }
                    }
                    signal => signal,
                },
            });
            Ok(())
        })
    }
}

/// What a text means, whichever channel it is from.
fn publication(text: &[u8]) -> Result<Signal, Fault> {
    Ok(serde_json::from_slice::<&RawValue>(text).map_or(Signal::Foreign, |data| data::signal(0, data)))
}

#[cfg(test)]
mod tests {
    use super::super::Transport;
    use super::super::socket::testing::{HEAD, said, talk};
    use super::*;

    #[test]
    fn a_text_is_a_publication_of_the_only_channel() {
        let stream = [
            HEAD,
            &said(r#"{"run":5,"n":0,"at":6,"pad":"xxx"}"#),
            &[0x89, 0],
            &said(r#"{"run":5,"n":1,"at":7,"pad":"xxx"}"#),
            &said("hello"),
        ]
        .concat();
        let (first, signals, said) = talk(Transport::Plain, &["a/b-3"], &stream);
        assert!(first.starts_with("GET /base/sub/a%2Fb-3 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"), "{first}");
        let publication = |sequence, due| Signal::Publication { run: 5, channel: 3, sequence, due };
        assert_eq!(signals, Ok(vec![Signal::Ready, publication(0, 6), publication(1, 7), Signal::Foreign]));
        assert_eq!(said, Vec::<String>::new());
    }

    #[test]
    fn one_memory_serves_connections_of_several_channels() {
        let target = crate::target::Target::parse("http://127.0.0.1:1", false).unwrap();
        let mut memo = Memo::default();
        for number in [1, 2] {
            let channels = [fanway_protocol::Channel::new(&format!("c-{number}")).unwrap()];
            let opening = Opening { target: &target, token: "", channels: &channels, resume: None };
            let (mut wire, mut signals) = (Wire::open(&opening, &mut Vec::new()), Vec::new());
            let stream = [HEAD, &said(r#"{"run":5,"n":0,"at":6}"#)].concat();
            wire.receive(&stream, &mut memo, &mut Vec::new(), &mut |signal| signals.push(signal)).unwrap();
            assert_eq!(signals[1], Signal::Publication { run: 5, channel: number, sequence: 0, due: 6 });
        }
    }

    #[test]
    fn refusals_and_ends_are_told_apart() {
        let refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(talk(Transport::Plain, &["c-0"], refused).1, Err(Fault::Status(403)));
        let closed = [HEAD, &[0x88, 2, 0x03, 0xe9]].concat();
        assert_eq!(talk(Transport::Plain, &["c-0"], &closed).1, Err(Fault::Closed(1001)));
    }
}
