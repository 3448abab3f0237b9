//! Events of SSE and polling. A binary payload is `b64data` in place of `data`.

use serde::Serialize;

use super::reply::Data;
use super::write;
use crate::publication::{ClientInfo, Payload, Publication, Tags};
use crate::{Channel, Epoch, GapReason, Position};

/// A publication: everything a client needs to go on over any transport.
#[derive(Serialize)]
struct Event<'a> {
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
    /// Instead of `data`, so that a client can tell bytes from a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<Data<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a Tags>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a ClientInfo>,
    time: u64,
}

/// A gap, and the position after it.
#[derive(Serialize)]
struct Gap<'a> {
    channel: &'a str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
}

/// Appends a publication: its channel, position (none in channels without history), data and labels.
pub fn write_event(channel: &Channel, publication: &Publication, position: Option<Position>, out: &mut Vec<u8>) {
    let data = Data(&publication.data);
    let (data, b64data) = match publication.data {
        Payload::Json(_) => (Some(data), None),
        Payload::Binary(_) => (None, Some(data)),
    };
    let event = Event {
        channel: channel.as_str(),
        offset: position.map(|position| position.offset),
        epoch: position.map(|position| position.epoch),
        data,
        b64data,
        tags: publication.tags.as_ref(),
        info: publication.info.as_deref(),
        time: publication.time,
    };
    write(&event, out);
}

/// Appends a gap, after which the channel's stream continues at `position` (none in channels without history).
pub fn write_gap(channel: &Channel, reason: GapReason, position: Option<Position>, out: &mut Vec<u8>) {
    let gap = Gap {
        channel: channel.as_str(),
        reason: reason.as_str(),
        offset: position.map(|position| position.offset),
        epoch: position.map(|position| position.epoch),
    };
    write(&gap, out);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;

    #[test]
    fn events_and_gaps_have_a_position_where_there_is_one() {
        let channel = Channel::new("news").unwrap();
        let position = Position { epoch: Epoch::parse("aaaaaaaa0123456789ab").unwrap(), offset: 7 };
        let publication =
            Publication { data: Payload::Json(Bytes::from_static(b"[1.0]")), time: 5, ..Publication::default() };
        let text = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            text(&|out| write_event(&channel, &publication, None, out)),
            r#"{"channel":"news","data":[1.0],"time":5}"#
        );
        assert_eq!(
            text(&|out| write_event(&channel, &publication, Some(position), out)),
            r#"{"channel":"news","offset":7,"epoch":"aaaaaaaa0123456789ab","data":[1.0],"time":5}"#
        );
        let binary = Publication { data: Payload::Binary(Bytes::from_static(b"\xff")), ..publication };
        assert_eq!(
            text(&|out| write_event(&channel, &binary, None, out)),
            r#"{"channel":"news","b64data":"/w==","time":5}"#
        );
        assert_eq!(
            text(&|out| write_gap(&channel, GapReason::Retention, Some(position), out)),
            r#"{"channel":"news","reason":"retention","offset":7,"epoch":"aaaaaaaa0123456789ab"}"#
        );
        assert_eq!(
            text(&|out| write_gap(&channel, GapReason::Slow, None, out)),
            r#"{"channel":"news","reason":"slow"}"#
        );
    }
}
