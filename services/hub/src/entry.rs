//! One element of a channel's ordered stream on this node, encoded at most once per wire form.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use fanway_protocol::framing::sse;
use fanway_protocol::framing::websocket::{Opcode, frame};
use fanway_protocol::reply::{Event, Gap, Push, PushFrame, WirePublication};
use fanway_protocol::{Channel, GapReason, Position, Publication};

/// How connections write an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A complete WebSocket text frame holding a push of the client protocol.
    JsonFrame,
    /// The lines of a server-sent event without its `id:` line and without the closing blank line.
    SseEvent,
}

/// What happened in the channel.
#[derive(Debug)]
pub enum Kind {
    /// Somebody published. `first_of_epoch` tells that the line's epoch begins here.
    Publication {
        /// What.
        publication: Arc<Publication>,
        /// Carries its epoch on the wire.
        first_of_epoch: bool,
        /// Received by the feed as it was published. False for one that a repair read from the log: it may be old.
        age_known: bool,
    },
    /// Continuity was lost; the stream goes on at the entry's position.
    Gap(GapReason),
}

/// An element of the ordered stream.
#[derive(Debug)]
pub struct Entry {
    /// Place in the log: a publication's own, a gap's new start. `None` for channels without history.
    pub position: Option<Position>,
    /// What it is.
    pub kind: Kind,
    /// When this node learned of it, for the delivery latency.
    pub received: Instant,
    /// Encoded lazily by the first connection that needs the form, shared by all.
    forms: [OnceLock<Bytes>; 2],
}

impl Entry {
    /// A publication.
    pub fn publication(
        publication: Arc<Publication>,
        position: Option<Position>,
        first_of_epoch: bool,
        received: Instant,
    ) -> Self {
        let kind = Kind::Publication { publication, first_of_epoch, age_known: true };
        Self { position, kind, received, forms: Default::default() }
    }

    /// The same entry, published at an unknown time before it was received.
    pub(crate) fn of_unknown_age(mut self) -> Self {
        if let Kind::Publication { age_known, .. } = &mut self.kind {
            *age_known = false;
        }
        self
    }

    /// Whether a publication was received as it was published. A gap counts as such: nothing is served over it.
    pub(crate) fn age_known(&self) -> bool {
        !matches!(self.kind, Kind::Publication { age_known: false, .. })
    }

    /// A gap.
    pub fn gap(reason: GapReason, position: Option<Position>, received: Instant) -> Self {
        Self { position, kind: Kind::Gap(reason), received, forms: Default::default() }
    }

    /// Whether it is a publication.
    pub(crate) fn is_publication(&self) -> bool {
        matches!(self.kind, Kind::Publication { .. })
    }

    /// Why continuity was lost here, if it was.
    pub(crate) fn gap_reason(&self) -> Option<GapReason> {
        match self.kind {
            Kind::Publication { .. } => None,
            Kind::Gap(reason) => Some(reason),
        }
    }

    /// The trace context of a sampled publication.
    pub(crate) fn trace(&self) -> Option<&str> {
        match &self.kind {
            Kind::Publication { publication, .. } => publication.trace.as_deref(),
            Kind::Gap(_) => None,
        }
    }

    /// Whether its place is right after that of the entry before, on the same line; or neither has one.
    pub(crate) fn follows(&self, before: &Self) -> bool {
        match (before.position, self.position) {
            (Some(before), Some(here)) => here == before.plus(1),
            (None, None) => true,
            _ => false,
        }
    }

    /// Approximate memory, for the rings' budgets.
    pub fn cost(&self) -> usize {
        let payload = match &self.kind {
            Kind::Publication { publication, .. } => publication.data.len(),
            Kind::Gap(_) => 0,
        };
        std::mem::size_of::<Self>() + payload
    }

    /// The bytes of a form. A gap has no JSON frame, for the client protocol has no word for it: who has a position is made
    /// to subscribe anew instead (see the session), who has none is told nothing.
    pub fn form(&self, form: Form, channel: &Channel) -> &Bytes {
        self.forms[form as usize].get_or_init(|| match (form, &self.kind) {
            (Form::JsonFrame, Kind::Publication { publication, first_of_epoch, .. }) => {
                json_frame(channel, publication, self.position, *first_of_epoch)
            }
            (Form::JsonFrame, Kind::Gap(_)) => Bytes::new(),
            (Form::SseEvent, Kind::Publication { publication, .. }) => {
                let event = Event::new(channel.as_str(), publication, self.position);
                sse_event(None, &event)
            }
            (Form::SseEvent, Kind::Gap(reason)) => sse_event(Some("gap"), &Gap::new(channel, *reason, self.position)),
        })
    }
}

/// The lines of a server-sent event, without `id:` and the closing blank line.
pub fn sse_event(name: Option<&str>, body: &impl serde::Serialize) -> Bytes {
    let mut out = Vec::with_capacity(256);
    sse::write_event(name, |out| write_json(body, out), &mut out);
    Bytes::from(out)
}

/// Appends a value as JSON. Our own types cannot fail to serialize into memory.
pub(crate) fn write_json(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    if let Err(error) = serde_json::to_writer(&mut *out, value) {
        debug_assert!(false, "{error}");
        tracing::error!(%error, "a value could not be serialized");
    }
}

/// Appends one WebSocket text frame with a JSON value as its payload.
pub(crate) fn write_json_frame(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    frame::write_with(out, Opcode::Text, |out| write_json(value, out));
}

fn json_frame(channel: &Channel, publication: &Publication, position: Option<Position>, first_of_epoch: bool) -> Bytes {
    let mut wire = WirePublication::new(publication, position);
    if first_of_epoch {
        wire.epoch = position.map(|position| position.epoch);
    }
    let push = Push { channel: Some(channel.as_str()), publication: Some(wire), ..Push::default() };
    let mut out = Vec::with_capacity(96 + channel.as_str().len() + publication.data.len());
    write_json_frame(&PushFrame { push }, &mut out);
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 144, "{}", size_of::<Entry>());
    }

    #[test]
    fn frames_have_the_shortest_header() {
        for (len, header) in [(0, 2), (123, 2), (124, 4), (0xffff - 2, 4), (0x1_0000, 10)] {
            let text = "x".repeat(len);
            let mut out = b"before".to_vec();
            write_json_frame(&text, &mut out);
            assert_eq!(out.len(), 6 + header + len + 2, "{len}");
            assert_eq!(&out[6 + header..], format!("\"{text}\"").as_bytes());
        }
    }

    #[test]
    fn a_publication_reads_as_the_sdks_expect() {
        let publication = Publication { data: Bytes::from_static(b"{\"a\":1}"), ..Publication::default() };
        let entry = Entry::publication(Arc::new(publication), None, false, Instant::now());
        let channel = Channel::new("news").unwrap();
        assert_eq!(
            &entry.form(Form::JsonFrame, &channel)[2..],
            br#"{"push":{"channel":"news","pub":{"data":{"a":1}}}}"#
        );
        assert_eq!(
            &entry.form(Form::SseEvent, &channel)[..],
            b"data: {\"channel\":\"news\",\"data\":{\"a\":1},\"time\":0}\n"
        );
    }
}
