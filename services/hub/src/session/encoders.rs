//! Encoders of the protocols that the hub speaks.

use fanway_protocol::Channel;
use fanway_protocol::codec::json;
use fanway_protocol::framing::sse;
use fanway_protocol::framing::websocket::{Opcode, frame};
use fanway_protocol::reply::Push;

use crate::encoding::{Encoder, EncodingId, Encodings};
use crate::entry::{Entry, Kind};

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
        let (channel, position, first_of_epoch) = (channel.as_str(), entry.position, *first_of_epoch);
        let push = Push::Publication { channel, publication, position, first_of_epoch };
        frame::write_with(out, Opcode::Text, |out| json::write_push(&push, out));
    }
}

/// Lines of server-sent events, without the `id:` line and the blank line, which belong to the connection.
struct EventLines;

impl Encoder for EventLines {
    fn encode(&self, channel: &Channel, entry: &Entry, out: &mut Vec<u8>) {
        let name = entry.gap_reason().map(|_| "gap");
        sse::write_event(name, |out| write_item(channel, entry, out), out);
    }
}

/// Items of the lists in the answer to a poll: JSON objects, each followed by a comma.
struct ListItems;

impl Encoder for ListItems {
    fn encode(&self, channel: &Channel, entry: &Entry, out: &mut Vec<u8>) {
        write_item(channel, entry, out);
        out.push(b',');
    }
}

/// Appends an entry as SSE and polling have it.
fn write_item(channel: &Channel, entry: &Entry, out: &mut Vec<u8>) {
    match &entry.kind {
        Kind::Publication { publication, .. } => json::write_event(channel, publication, entry.position, out),
        Kind::Gap { reason, .. } => json::write_gap(channel, *reason, entry.position, out),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::time::Instant;

    use bytes::Bytes;
    use fanway_protocol::{GapReason, Payload, Publication};

    use super::*;

    fn encoded(encoder: &dyn Encoder, entry: &Entry) -> String {
        let mut out = Vec::new();
        encoder.encode(&Channel::new("news").unwrap(), entry, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_publication_and_a_gap_in_each_encoding() {
        let publication =
            Publication { data: Payload::Json(Bytes::from_static(b"{\"a\":1}")), ..Publication::default() };
        let publication = Entry::publication(Arc::new(publication), None, false, Instant::now());
        let bytes = Publication { data: Payload::Binary(Bytes::from_static(b"\xff")), ..Publication::default() };
        let bytes = Entry::publication(Arc::new(bytes), None, false, Instant::now());
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
        // Bytes are never left out.
        let event = r#"{"channel":"news","b64data":"/w==","time":0}"#;
        assert_eq!(encoded(&EventLines, &bytes), format!("data: {event}\n"));
        assert_eq!(encoded(&ListItems, &bytes), format!("{event},"));
        assert_eq!(&encoded(&JsonFrames, &bytes)[4..], r#"{"push":{"channel":"news","pub":{"data":"/w=="}}}"#);
    }
}
