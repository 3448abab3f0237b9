//! The Pusher channels protocol, version 7: public channels, a publication is an event whose data is JSON in a string.

use std::borrow::Cow;

use fanway_protocol::Channel;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::frame;
use super::socket::{self, Event, Socket};
use super::{Fault, Memo, Opening, Signal, channel_path, data};
use crate::channels::Channels;

/// One connection's state.
pub struct Wire {
    socket: Socket,
    /// The channels to subscribe to once the connection stands.
    channels: Box<[Channel]>,
    /// How many subscriptions are still to be confirmed.
    awaited: usize,
}

impl Wire {
    /// The token is the application's key.
    pub(super) fn open(opening: &Opening<'_>, out: &mut Vec<u8>) -> Self {
        let path = channel_path("/app/", opening.token) + "?protocol=7&client=fanway-loadtest&version=1.0";
        socket::request(opening.target, &path, out);
        Self { socket: Socket::default(), channels: opening.channels.into(), awaited: opening.channels.len() }
    }

    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        memo: &mut Memo,
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Signal),
    ) -> Result<usize, Fault> {
        let Self { socket, channels, awaited } = self;
        socket.receive(bytes, out, |event, out| {
            let Event::Text(text) = event else { return Ok(()) };
            let mut own = None;
            let mut signal = memo.signal(text, |text| {
                let message: Message<'_> = serde_json::from_slice(text)
                    .map_err(|_| Fault::Protocol("a message that is none of the protocol"))?;
                let signal = message.signal();
                own = Some(message.event.into_owned());
                Ok(signal)
            })?;
            // A publication that is remembered has no event of the protocol itself.
            match own.as_deref() {
                Some("pusher:connection_established") => {
                    for channel in &std::mem::take(channels) {
                        let subscribe = serde_json::json!({"event": "pusher:subscribe", "data": {"channel": channel}});
                        frame::text(subscribe.to_string().as_bytes(), out);
                    }
                }
                Some("pusher_internal:subscription_succeeded") => {
                    *awaited = awaited.saturating_sub(1);
                    if *awaited == 0 {
                        signal = Signal::Ready;
                    }
                }
                Some("pusher:ping") => {
                    frame::text(br#"{"event":"pusher:pong","data":{}}"#, out);
                    signal = Signal::Ping;
                }
                Some("pusher:error" | "pusher:subscription_error") => return Err(Fault::Refused(code(text))),
                _ => {}
            }
            take(signal);
            Ok(())
        })
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
    #[serde(default)]
    data: Value,
}

impl Message<'_> {
    /// What it means, unless it is of the protocol itself.
    fn signal(&self) -> Signal {
        if self.event.starts_with("pusher:") || self.event.starts_with("pusher_internal:") {
            return Signal::Other;
        }
        let number = self.channel.as_deref().and_then(Channels::number).unwrap_or(0);
        let text = self.data.as_str().unwrap_or_default();
        serde_json::from_str::<&RawValue>(text).map_or(Signal::Foreign, |data| data::signal(number, data))
    }
}

/// The code in an error, or 0.
fn code(text: &[u8]) -> u32 {
    let error: Value = serde_json::from_slice(text).unwrap_or_default();
    let data = match &error["data"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        data => data.clone(),
    };
    data["code"].as_u64().and_then(|code| u32::try_from(code).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::Transport;
    use super::super::socket::testing::{HEAD, said, talk};
    use super::*;

    #[test]
    fn connects_subscribes_receives_and_answers_pings() {
        // As the protocol's documentation has it.
        let stream = [
            HEAD,
            &said(r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"123.456\",\"activity_timeout\":120}"}"#),
            &said(r#"{"event":"pusher_internal:subscription_succeeded","channel":"c-1","data":"{}"}"#),
            &said(r#"{"event":"pusher:ping","data":{}}"#),
            &said(r#"{"event":"pusher_internal:subscription_succeeded","channel":"c-2","data":{}}"#),
            &said(r#"{"event":"publication","channel":"c-2","data":"{\"run\":5,\"n\":0,\"at\":6,\"pad\":\"x\"}"}"#),
            &said(r#"{"event":"publication","channel":"c-2","data":"{\"run\":5,\"n\":0,\"at\":6,\"pad\":\"x\"}"}"#),
            &said(r#"{"event":"other","channel":"c-2","data":"hello"}"#),
        ]
        .concat();
        let (first, signals, said) = talk(Transport::Pusher, &["c-1", "c-2"], &stream);
        assert!(first.starts_with("GET /base/app/t?protocol=7&client=fanway-loadtest&version=1.0 HTTP/1.1\r\n"));
        let publication = Signal::Publication { run: 5, channel: 2, sequence: 0, due: 6 };
        let other = Signal::Other;
        assert_eq!(
            signals,
            Ok(vec![other, other, Signal::Ping, Signal::Ready, publication, publication, Signal::Foreign])
        );
        let subscribe = |channel| format!(r#"{{"data":{{"channel":"{channel}"}},"event":"pusher:subscribe"}}"#);
        assert_eq!(said, [subscribe("c-1"), subscribe("c-2"), r#"{"event":"pusher:pong","data":{}}"#.to_owned()]);
    }

    #[test]
    fn refusals_are_told_apart() {
        for (text, fault) in [
            (r#"{"event":"pusher:error","data":{"code":4001,"message":"no such app"}}"#, Fault::Refused(4001)),
            (r#"{"event":"pusher:error","data":"{\"code\":4100}"}"#, Fault::Refused(4100)),
            (r#"{"event":"pusher:error"}"#, Fault::Refused(0)),
            ("nonsense", Fault::Protocol("a message that is none of the protocol")),
        ] {
            let stream = [HEAD, &said(text)].concat();
            assert_eq!(talk(Transport::Pusher, &["c-0"], &stream).1, Err(fault), "{text}");
        }
    }
}
