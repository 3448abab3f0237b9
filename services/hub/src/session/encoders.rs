//! Encoders of the protocols that the hub speaks.

use fanway_protocol::reply::{Event, Gap, Push, PushFrame, WirePublication};
use fanway_protocol::{Channel, Position};

use crate::encoding::{Encoder, EncodingId, Encodings};
use crate::entry::{Entry, Kind, write_json, write_json_frame, write_sse_event};

/// Ids of the encodings that every node has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuiltIn {
    pub(crate) json_frames: EncodingId,
    pub(crate) event_lines: EncodingId,
    pub(crate) list_items: EncodingId,
}

impl BuiltIn {
    /// A node's encodings.
    pub(crate) fn encodings() -> (Encodings, Self) {
        let (encodings, [json_frames, event_lines, list_items]) = Encodings::with([
            ("centrifugal json websocket", Box::new(JsonFrames)),
            ("event-stream", Box::new(EventLines)),
            ("poll", Box::new(ListItems)),
        ]);
        (encodings, Self { json_frames, event_lines, list_items })
    }
}

/// Pushes of the client protocol in JSON, each a WebSocket text frame.
///
/// A gap has no bytes, for the client protocol has no word for it: a subscription with a position is renewed instead (see
/// the session), one without is not notified.
struct JsonFrames;

impl Encoder for JsonFrames {
    fn encode(&self, channel: &Channel, entry: &Entry, out: &mut Vec<u8>) {
        let Kind::Publication { publication, first_of_epoch, .. } = &entry.kind else { return };
        let mut wire = WirePublication::new(publication, entry.position);
        if *first_of_epoch {
            wire.epoch = entry.position.map(|position: Position| position.epoch);
        }
        let push = Push { channel: Some(channel.as_str()), publication: Some(wire), ..Push::default() };
        write_json_frame(&PushFrame { push }, out);
    }
}

/// Lines of server-sent events, without the `id:` line and the blank line, which belong to the connection.
struct EventLines;

impl Encoder for EventLines {
    fn encode(&self, channel: &Channel, entry: &Entry, out: &mut Vec<u8>) {
        match &entry.kind {
            Kind::Publication { publication, .. } => {
                write_sse_event(None, &Event::new(channel.as_str(), publication, entry.position), out);
            }
            Kind::Gap(reason) => write_sse_event(Some("gap"), &Gap::new(channel, *reason, entry.position), out),
        }
    }
}

/// Items of the lists in the answer to a poll: JSON objects, each followed by a comma.
struct ListItems;

impl Encoder for ListItems {
    fn encode(&self, channel: &Channel, entry: &Entry, out: &mut Vec<u8>) {
        match &entry.kind {
            Kind::Publication { publication, .. } => {
                write_json(&Event::new(channel.as_str(), publication, entry.position), out);
            }
            Kind::Gap(reason) => write_json(&Gap::new(channel, *reason, entry.position), out),
        }
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::time::Instant;

    use bytes::Bytes;
    use fanway_protocol::{GapReason, Publication};

    use super::*;

    fn encoded(encoder: &dyn Encoder, entry: &Entry) -> String {
        let mut out = Vec::new();
        encoder.encode(&Channel::new("news").unwrap(), entry, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_publication_and_a_gap_in_each_encoding() {
        let publication = Publication { data: Bytes::from_static(b"{\"a\":1}"), ..Publication::default() };
        let publication = Entry::publication(Arc::new(publication), None, false, Instant::now());
        let gap = Entry::gap(GapReason::Slow, None, Instant::now());
        let event = r#"{"channel":"news","data":{"a":1},"time":0}"#;
        let lost = r#"{"channel":"news","reason":"slow"}"#;
        assert_eq!(encoded(&EventLines, &publication), format!("data: {event}\n"));
        assert_eq!(encoded(&EventLines, &gap), format!("event: gap\ndata: {lost}\n"));
        assert_eq!(encoded(&ListItems, &publication), format!("{event},"));
        assert_eq!(encoded(&ListItems, &gap), format!("{lost},"));
        // The frame's header: final, text; 50 bytes.
        let push = r#"{"push":{"channel":"news","pub":{"data":{"a":1}}}}"#;
        assert_eq!(encoded(&JsonFrames, &publication), format!("\u{fffd}2{push}"));
        assert_eq!(encoded(&JsonFrames, &gap), "");
    }
}
