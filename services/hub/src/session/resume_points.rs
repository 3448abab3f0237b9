//! From a client-held cursor to where it joins each of its channels.

use fanway_protocol::{Channel, Cursor, GapReason};

use crate::attach::From;
use crate::namespace::Namespaces;

/// A channel of a stream, and where the client joins it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// Which.
    pub channel: Channel,
    /// Where.
    pub from: From,
}

/// Sorts the channels into the cursor's order, without duplicates, and gives each its item of the cursor.
///
/// A cursor that is none, or that has another number of items, fits no channel: each of them gets an honest gap. A
/// channel that keeps no positions has the item `-` and is joined at its head.
pub fn resume_points(namespaces: &Namespaces, mut channels: Vec<Channel>, cursor: Option<&str>) -> Vec<ResumePoint> {
    channels.sort();
    channels.dedup();
    let items = cursor.map(|text| match Cursor::parse(text) {
        Ok(cursor) if cursor.items.len() == channels.len() => Some(cursor.items),
        _ => None,
    });
    let point = |(at, channel): (usize, Channel)| {
        let positioned = namespaces.of(&channel).is_some_and(|namespace| namespace.recovery);
        let from = match &items {
            None => From::Head,
            Some(_) if !positioned => From::Head,
            Some(None) => From::Nonsense(GapReason::BadPosition),
            Some(Some(items)) => items[at].map_or(From::Nonsense(GapReason::BadPosition), From::Position),
        };
        ResumePoint { channel, from }
    };
    channels.into_iter().enumerate().map(point).collect()
}
