//! From a client-held cursor to where it joins each of its channels.

use fanway_protocol::cursor::MAX_CURSOR_ITEMS;
use fanway_protocol::{Channel, Cursor, GapReason, StartPosition};

use crate::attach::From;
use crate::namespace::Namespaces;
use crate::pages::PAGE_BYTES;

/// A text that is no cursor: a client that resumes with it gets a gap in each channel.
const NO_CURSOR: &str = "invalid";

/// A channel of a stream, and where the client joins it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// Which.
    pub channel: Channel,
    /// Where.
    pub from: From,
    /// The client has added the channel: its cursor, if it has one, does not name it.
    pub fresh: bool,
}

/// Where a client joins the channels of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// In byte order of the channels, without duplicates.
    pub points: Vec<ResumePoint>,
    /// The client's own cursor, as an event id: with this it comes back to the same gaps.
    pub id: Option<String>,
}

impl Resume {
    /// Sorts the channels into the order of cursors, and finds the position of each in the client's cursor.
    ///
    /// A text that is no cursor fits no channel: each of them gets an explicit gap. A channel that keeps no positions is
    /// joined at its head, and has the item `-` from then on.
    pub fn new(namespaces: &Namespaces, mut channels: Vec<Channel>, cursor: Option<&str>) -> Self {
        channels.sort();
        channels.dedup();
        let starts = cursor.map(|text| match Cursor::parse(text) {
            Ok(cursor) => cursor.resolve(&channels),
            Err(_) => vec![StartPosition::Invalid; channels.len()],
        });
        let starts = starts.unwrap_or_else(|| vec![StartPosition::Fresh; channels.len()]);
        let point = |(channel, start): (Channel, StartPosition)| {
            let positioned = namespaces.of(&channel).is_some_and(|namespace| namespace.recovery);
            let from = match start {
                StartPosition::At(position) if positioned => From::Position(position),
                StartPosition::Invalid if positioned => From::Nonsense(GapReason::BadPosition),
                _ => From::Head,
            };
            ResumePoint { channel, from, fresh: start == StartPosition::Fresh }
        };
        Self { points: channels.into_iter().zip(starts).map(point).collect(), id: cursor.map(event_id) }
    }
}

/// Bytes of the first page of each channel, so that all of them together are one page.
pub(super) fn share(points: &[ResumePoint]) -> usize {
    let resumed = points.iter().filter(|point| matches!(point.from, From::Position(_))).count();
    // Few sizes, as clients share reads of the same size.
    PAGE_BYTES / resumed.max(1).next_power_of_two()
}

/// A cursor as it may stand in an `id:` line. What a client made up may be too long for that, or break the line; then
/// another text that is no cursor either stands for it.
fn event_id(cursor: &str) -> String {
    let fits = cursor.len() <= Cursor::longest(MAX_CURSOR_ITEMS) && cursor.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { cursor } else { NO_CURSOR }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_one_short_line() {
        assert_eq!(event_id("2~abcd-"), "2~abcd-");
        assert_eq!(event_id("nonsense"), "nonsense");
        for cursor in ["a\nb", "a b", "a\0", "\u{e9}", "a\rdata: x", &"x".repeat(3000)] {
            assert_eq!(event_id(cursor), NO_CURSOR);
        }
        assert!(Cursor::parse(NO_CURSOR).is_err());
        assert_eq!(event_id(&"x".repeat(2945)).len(), 2945, "the longest cursor");
        assert_eq!(Cursor::longest(MAX_CURSOR_ITEMS), 2945);
    }
}
