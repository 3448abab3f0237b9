//! The cursor of a stream of several channels: the vector of its positions, held by the client.
//!
//! Grammar (public, version 1): `1~<item>~<item>...` with one item per distinct requested channel, in byte order of the
//! channel names; an item is `<epoch>.<offset>`, or `-` for a channel without a position. Every character is URL-safe.

use crate::position::{Epoch, Position};

/// The most channels one stream may have, and so the most items of a cursor.
pub const MAX_CURSOR_ITEMS: usize = 64;

/// One item per channel, in byte order of the channel names.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cursor {
    /// `None` where the channel keeps no history.
    pub items: Vec<Option<Position>>,
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
    /// An item is neither `-` nor `<epoch>.<offset>`.
    #[error("an item of the cursor is not a position")]
    Item,
}

impl Cursor {
    /// Parses a cursor's text.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let rest = text.strip_prefix("1~").ok_or(CursorError::Version)?;
        let mut items = Vec::new();
        for item in rest.split('~') {
            if items.len() == MAX_CURSOR_ITEMS {
                return Err(CursorError::TooLong);
            }
            items.push(if item == "-" { None } else { Some(parse_position(item).ok_or(CursorError::Item)?) });
        }
        Ok(Self { items })
    }

    /// Appends the cursor's text.
    pub fn write(items: impl IntoIterator<Item = Option<Position>>, out: &mut Vec<u8>) {
        out.push(b'1');
        for item in items {
            out.push(b'~');
            match item {
                None => out.push(b'-'),
                Some(position) => {
                    out.extend_from_slice(position.epoch.as_str().as_bytes());
                    out.push(b'.');
                    out.extend_from_slice(itoa::Buffer::new().format(position.offset).as_bytes());
                }
            }
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("1")?;
        self.items.iter().try_for_each(|item| match item {
            None => f.write_str("~-"),
            Some(position) => write!(f, "~{}.{}", position.epoch, position.offset),
        })
    }
}

fn parse_position(item: &str) -> Option<Position> {
    let (epoch, offset) = item.split_once('.')?;
    let canonical = offset.bytes().all(|b| b.is_ascii_digit()) && (offset == "0" || !offset.starts_with('0'));
    Some(Position { epoch: Epoch::parse(epoch)?, offset: canonical.then(|| offset.parse().ok())?? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position() -> impl Strategy<Value = Option<Position>> {
        proptest::option::of(
            ("[A-Za-z0-9_-]{20}", any::<u64>())
                .prop_map(|(epoch, offset)| Position { epoch: Epoch::parse(&epoch).unwrap(), offset }),
        )
    }

    proptest! {
        #[test]
        fn text_round_trips(items in proptest::collection::vec(position(), 1..=MAX_CURSOR_ITEMS)) {
            let cursor = Cursor { items };
            let text = cursor.to_string();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b)));
            prop_assert_eq!(Cursor::parse(&text), Ok(cursor));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,200}") {
            if let Ok(cursor) = Cursor::parse(&text) {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }

    #[test]
    fn refuses_what_is_not_a_cursor() {
        let epoch = "abcdefgh0123456789ab";
        assert_eq!(Cursor::parse(""), Err(CursorError::Version));
        assert_eq!(Cursor::parse("2~-"), Err(CursorError::Version));
        for item in ["", "x", ".1", epoch, &format!("{epoch}."), &format!("{epoch}.01"), &format!("{epoch}.+1")] {
            assert_eq!(Cursor::parse(&format!("1~{item}")), Err(CursorError::Item), "{item}");
        }
        assert_eq!(Cursor::parse(&format!("1~{epoch}.18446744073709551616")), Err(CursorError::Item));
        assert_eq!(Cursor::parse(&format!("1{}", "~-".repeat(65))), Err(CursorError::TooLong));
    }
}
