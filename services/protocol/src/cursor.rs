//! The cursor of a stream of several channels: the vector of its positions, held by the client.
//!
//! Grammar (public, version 2): `2~<item>~<item>...` with one item per distinct requested channel, in byte order of the
//! channel names. An item is the channel's hash ([`ChannelHash`], 4 characters), then `<epoch>.<offset>`, or `-` for a
//! channel without a position. Every character is URL-safe. The hash lets a channel set change: items find their channels,
//! and a channel without an item is one that the client has just added.
//!
//! Version 1 has items without hashes and is still read: its items belong to the channels only by their order, so it fits
//! no set but the one that it was made for.

use crate::channel::Channel;
use crate::position::{EPOCH_LEN, Epoch, Position};

/// The most channels one stream may have, and so the most items of a cursor.
pub const MAX_CURSOR_ITEMS: usize = 64;

/// Id of the last event of a stream whose client must not come back by itself, in the place of a cursor. A client that
/// reconnects all the same presents it, and is answered that it must stop. No cursor of any version.
pub const STOP: &str = "stop";

/// Whether a query parameter is the last event id of an `EventSource` that cannot send headers, in any usual spelling:
/// `lastEventId` (event-source-polyfill), `lastEventID` and `Last-Event-ID` (Mercure), `last_event_id` (nchan),
/// `evs_last_event_id` (amvtek's polyfill).
pub fn is_event_id(name: &str) -> bool {
    let letters = name.bytes().filter(|byte| !matches!(byte, b'-' | b'_')).map(|byte| byte.to_ascii_lowercase());
    letters.clone().eq(*b"lasteventid") || letters.eq(*b"evslasteventid")
}

/// The length of a channel hash.
const HASH_LEN: usize = 4;
/// Digits of the largest offset.
const OFFSET_LEN: usize = 20;
/// The 64 digits of a hash.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Tells the channels of a cursor apart: FNV-1a of the channel name in 32 bits, folded to 24 (the upper 8 bits are xored
/// into the lowest), as 4 base64url digits, the highest first. Clients may compute it to write a cursor of their own.
///
/// Two channels of one stream have the same hash once in some ten thousand streams of 64 channels. Their items are told
/// apart by their order, and where that says nothing (one of them was added or removed) each gets a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelHash([u8; HASH_LEN]);

impl ChannelHash {
    /// The hash of a channel.
    pub fn of(channel: &Channel) -> Self {
        let hash = channel
            .as_str()
            .bytes()
            .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let folded = (hash >> 24) ^ (hash & 0x00ff_ffff);
        Self([18, 12, 6, 0].map(|shift| DIGITS[(folded >> shift) as usize & 0x3f]))
    }

    /// A hash as it begins an item; `None` if it is none.
    fn parse(text: &[u8]) -> Option<Self> {
        let hash = text.try_into().ok()?;
        text.iter().all(|byte| DIGITS.contains(byte)).then_some(Self(hash))
    }
}

impl std::fmt::Display for ChannelHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

/// What a cursor says of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartPosition {
    /// Nothing: the client has added the channel.
    Fresh,
    /// The client has everything up to here.
    At(Position),
    /// The client has received the channel, but to where is unknown: the item has no position, or none that there can be.
    Invalid,
}

/// A cursor that was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Hashes are absent in version 1.
    items: Vec<(Option<ChannelHash>, Option<Position>)>,
}

/// Why a text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// It does not begin with a version this node reads.
    #[error("the cursor's version is unknown")]
    Version,
    /// More than [`MAX_CURSOR_ITEMS`] items.
    #[error("the cursor has more than 64 items")]
    TooLong,
    /// An item belongs to no channel.
    #[error("an item of the cursor does not begin with the hash of a channel")]
    Item,
}

impl Cursor {
    /// Parses a cursor's text. What is wrong with one item's position is that channel's matter alone; what is wrong with a
    /// hash could be any channel's, so there is no cursor then.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let (version, rest) = text.split_once('~').ok_or(CursorError::Version)?;
        let hashed = match version {
            "2" => true,
            "1" => false,
            _ => return Err(CursorError::Version),
        };
        let mut items = Vec::new();
        for item in rest.split('~') {
            if items.len() == MAX_CURSOR_ITEMS {
                return Err(CursorError::TooLong);
            }
            let (hash, position) = match hashed {
                true => item.as_bytes().split_at_checked(HASH_LEN).ok_or(CursorError::Item)?,
                false => (&[][..], item.as_bytes()),
            };
            let hash = hashed.then(|| ChannelHash::parse(hash).ok_or(CursorError::Item)).transpose()?;
            items.push((hash, parse_position(position)));
        }
        Ok(Self { items })
    }

    /// Where a client with this cursor starts in each of these channels, which are distinct and in byte order.
    pub fn resolve(&self, channels: &[Channel]) -> Vec<StartPosition> {
        let start = |position: &Option<Position>| position.map_or(StartPosition::Invalid, StartPosition::At);
        if self.items.iter().any(|(hash, _)| hash.is_none()) {
            return match self.items.len() == channels.len() {
                true => self.items.iter().map(|(_, position)| start(position)).collect(),
                false => vec![StartPosition::Invalid; channels.len()],
            };
        }
        let hashes: Vec<_> = channels.iter().map(|channel| Some(ChannelHash::of(channel))).collect();
        let resolve = |(at, hash): (usize, &Option<ChannelHash>)| {
            let mut items = self.items.iter().filter(|(item, _)| item == hash);
            let count = items.clone().count();
            let alike = hashes.iter().filter(|other| *other == hash).count();
            match count {
                0 => StartPosition::Fresh,
                _ if count == alike => {
                    let before = hashes[..at].iter().filter(|other| *other == hash).count();
                    items.nth(before).map_or(StartPosition::Invalid, |(_, position)| start(position))
                }
                _ => StartPosition::Invalid,
            }
        };
        hashes.iter().enumerate().map(resolve).collect()
    }

    /// Appends the text of a cursor of these channels, which are distinct and in byte order.
    pub fn write(items: impl IntoIterator<Item = (ChannelHash, Option<Position>)>, out: &mut Vec<u8>) {
        out.push(b'2');
        for (hash, position) in items {
            out.push(b'~');
            out.extend_from_slice(&hash.0);
            match position {
                None => out.push(b'-'),
                Some(position) => {
                    out.extend_from_slice(position.epoch.as_str().as_bytes());
                    out.push(b'.');
                    out.extend_from_slice(itoa::Buffer::new().format(position.offset).as_bytes());
                }
            }
        }
    }

    /// The text of a cursor.
    pub fn text(items: impl IntoIterator<Item = (ChannelHash, Option<Position>)>) -> String {
        let mut out = Vec::new();
        Self::write(items, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Length of the longest text of so many channels.
    pub const fn longest(channels: usize) -> usize {
        1 + channels * (1 + HASH_LEN + EPOCH_LEN + 1 + OFFSET_LEN)
    }
}

fn parse_position(item: &[u8]) -> Option<Position> {
    let (epoch, offset) = std::str::from_utf8(item).ok()?.split_once('.')?;
    let canonical = offset.bytes().all(|b| b.is_ascii_digit()) && (offset == "0" || !offset.starts_with('0'));
    Some(Position { epoch: Epoch::parse(epoch)?, offset: canonical.then(|| offset.parse().ok())?? })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const EPOCH: &str = "abcdefgh0123456789ab";

    fn channel(name: &str) -> Channel {
        Channel::new(name).unwrap()
    }

    fn at(offset: u64) -> StartPosition {
        StartPosition::At(Position { epoch: Epoch::parse(EPOCH).unwrap(), offset })
    }

    fn resolve(text: &str, channels: &[&str]) -> Result<Vec<StartPosition>, CursorError> {
        let channels: Vec<_> = channels.iter().map(|name| channel(name)).collect();
        Cursor::parse(text).map(|cursor| cursor.resolve(&channels))
    }

    fn hash(name: &str) -> String {
        ChannelHash::of(&channel(name)).to_string()
    }

    fn positions() -> impl Strategy<Value = BTreeMap<String, Option<Position>>> {
        let position = ("[A-Za-z0-9_-]{20}", any::<u64>())
            .prop_map(|(epoch, offset)| Position { epoch: Epoch::parse(&epoch).unwrap(), offset });
        proptest::collection::btree_map("[a-z]{1,3}", proptest::option::of(position), 1..=MAX_CURSOR_ITEMS)
    }

    fn text(positions: &BTreeMap<String, Option<Position>>) -> String {
        Cursor::text(positions.iter().map(|(name, position)| (ChannelHash::of(&channel(name)), *position)))
    }

    fn start(position: Option<Position>) -> StartPosition {
        position.map_or(StartPosition::Invalid, StartPosition::At)
    }

    proptest! {
        #[test]
        fn the_same_channels_get_their_positions_back(positions in positions()) {
            let text = text(&positions);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b)));
            prop_assert!(text.len() <= Cursor::longest(positions.len()));
            let channels: Vec<_> = positions.keys().map(|name| channel(name)).collect();
            let expected: Vec<_> = positions.values().map(|position| start(*position)).collect();
            prop_assert_eq!(Cursor::parse(&text).unwrap().resolve(&channels), expected);
        }

        /// Whatever is added and removed: who stays keeps its position, who is new is fresh. Where two have the same hash
        /// there may be a gap instead, and never another channel's position as one's own.
        #[test]
        fn changed_channel_sets_keep_the_positions_of_those_who_stay(
            before in positions(),
            after in positions(),
            kept in any::<prop::sample::Index>(),
        ) {
            let kept = 1 + kept.index(before.len());
            let names: Vec<String> = before.keys().take(kept).chain(after.keys()).cloned().collect();
            let mut channels: Vec<_> = names.iter().map(|name| channel(name)).collect();
            channels.sort();
            channels.dedup();
            let resolved = Cursor::parse(&text(&before)).unwrap().resolve(&channels);
            prop_assert_eq!(resolved.len(), channels.len());
            let hashes = |of: &Channel| {
                let same = |name: &&String| ChannelHash::of(&channel(name)) == ChannelHash::of(of);
                (before.keys().filter(same).count(), channels.iter().filter(|c| ChannelHash::of(c) == ChannelHash::of(of)).count())
            };
            for (channel, resolved) in channels.iter().zip(resolved) {
                match (before.get(channel.as_str()), hashes(channel)) {
                    (Some(position), (1, 1)) => prop_assert_eq!(resolved, start(*position)),
                    (None, (0, _)) => prop_assert_eq!(resolved, StartPosition::Fresh),
                    // A collision: nothing is lost without a word.
                    _ => prop_assert_ne!(resolved, StartPosition::Fresh),
                }
            }
        }

        #[test]
        fn version_1_round_trips(items in proptest::collection::vec(proptest::option::of(any::<u64>()), 1..=MAX_CURSOR_ITEMS)) {
            let text = items.iter().fold("1".to_owned(), |text, item| match item {
                Some(offset) => format!("{text}~{EPOCH}.{offset}"),
                None => format!("{text}~-"),
            });
            let channels: Vec<_> = (0..items.len()).map(|n| channel(&format!("{n:03}"))).collect();
            let expected: Vec<_> = items.iter().map(|item| item.map_or(StartPosition::Invalid, at)).collect();
            prop_assert_eq!(Cursor::parse(&text).unwrap().resolve(&channels), expected);
            let fewer = vec![StartPosition::Invalid; items.len() - 1];
            prop_assert_eq!(Cursor::parse(&text).unwrap().resolve(&channels[1..]), fewer);
        }

        #[test]
        fn any_text_is_answered(text in "([12]~)?.{0,200}", names in proptest::collection::btree_set("[a-z]{1,3}", 0..5)) {
            if let Ok(cursor) = Cursor::parse(&text) {
                let channels: Vec<_> = names.iter().map(|name| channel(name)).collect();
                prop_assert_eq!(cursor.resolve(&channels).len(), channels.len());
            }
        }
    }

    /// Published: clients may compute it.
    #[test]
    fn the_hash_of_a_channel_is_fixed() {
        for (name, expected) in [("a", "DCnI"), ("news", "x7wN"), ("user:42", "a3ut")] {
            assert_eq!(hash(name), expected, "{name}");
        }
    }

    #[test]
    fn items_find_their_channels() {
        let text = format!("2~{}{EPOCH}.7~{}-", hash("news"), hash("sport"));
        assert_eq!(resolve(&text, &["news", "sport"]), Ok(vec![at(7), StartPosition::Invalid]));
        assert_eq!(resolve(&text, &["a", "news", "z"]), Ok(vec![StartPosition::Fresh, at(7), StartPosition::Fresh]));
        assert_eq!(resolve(&text, &["z"]), Ok(vec![StartPosition::Fresh]), "surplus items are ignored");
        // In any order, for a client may put it together by itself.
        let text = format!("2~{}{EPOCH}.2~{}{EPOCH}.1", hash("sport"), hash("news"));
        assert_eq!(resolve(&text, &["news", "sport"]), Ok(vec![at(1), at(2)]));
    }

    #[test]
    fn an_invalid_position_is_that_channels_alone() {
        for item in
            ["", "-", "x", ".1", EPOCH, "é", &format!("{EPOCH}."), &format!("{EPOCH}.01"), &format!("{EPOCH}.+1")]
        {
            let text = format!("2~{}{item}~{}{EPOCH}.3", hash("a"), hash("b"));
            assert_eq!(resolve(&text, &["a", "b"]), Ok(vec![StartPosition::Invalid, at(3)]), "{item}");
            assert_eq!(resolve(&format!("1~{item}~{EPOCH}.3"), &["a", "b"]), Ok(vec![StartPosition::Invalid, at(3)]));
        }
        let large = format!("2~{}{EPOCH}.18446744073709551616", hash("a"));
        assert_eq!(resolve(&large, &["a"]), Ok(vec![StartPosition::Invalid]));
        let twice = format!("2~{0}{EPOCH}.1~{0}{EPOCH}.2", hash("a"));
        assert_eq!(resolve(&twice, &["a"]), Ok(vec![StartPosition::Invalid]));
    }

    #[test]
    fn channels_with_one_hash_are_told_apart_by_their_order_or_not_at_all() {
        let (first, second) = colliding();
        let (first, second) = (first.as_str(), second.as_str());
        assert_eq!(hash(first), hash(second));
        let both = format!("2~{0}{EPOCH}.1~{0}{EPOCH}.2", hash(first));
        assert_eq!(resolve(&both, &[first, second]), Ok(vec![at(1), at(2)]));
        assert_eq!(resolve(&both, &[first]), Ok(vec![StartPosition::Invalid]));
        let one = format!("2~{}{EPOCH}.1", hash(first));
        assert_eq!(resolve(&one, &[first, second]), Ok(vec![StartPosition::Invalid; 2]));
    }

    /// Two channel names with the same hash, in byte order.
    fn colliding() -> (String, String) {
        let mut seen = std::collections::HashMap::new();
        for n in 0.. {
            let name = format!("{n:06}");
            if let Some(other) = seen.insert(hash(&name), name.clone()) {
                return (other, name);
            }
        }
        unreachable!()
    }

    #[test]
    fn refuses_what_is_not_a_cursor() {
        for text in ["", "1", "2", "3~-", "12~-", "x", "invalid"] {
            assert_eq!(Cursor::parse(text), Err(CursorError::Version), "{text}");
        }
        // An item without its channel could be anyone's.
        for text in ["2~", "2~-", "2~abc", "2~abc.-", "2~ab c-", &format!("2~{}-~", hash("a")), "2~éé-"] {
            assert_eq!(Cursor::parse(text), Err(CursorError::Item), "{text}");
        }
        assert_eq!(Cursor::parse(&format!("1{}", "~-".repeat(65))), Err(CursorError::TooLong));
        assert_eq!(Cursor::parse(&format!("2{}", "~aaaa-".repeat(65))), Err(CursorError::TooLong));
    }
}
