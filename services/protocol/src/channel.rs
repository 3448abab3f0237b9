//! Channel names.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest channel name, in bytes.
pub const MAX_CHANNEL_BYTES: usize = 255;

/// A legal channel name: 1 to 255 bytes of printable ASCII without space, `{`, `}` and `*`.
///
/// Braces would let a publisher choose the Redis Cluster slot, `*` is the wildcard of token grants. Names are compared
/// byte by byte: case matters, nothing is normalised. The part before the first `:` names the namespace.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

impl Channel {
    /// Checks and takes a name.
    pub fn new(name: &str) -> Result<Self, ChannelError> {
        if name.is_empty() {
            return Err(ChannelError::Empty);
        }
        if name.len() > MAX_CHANNEL_BYTES {
            return Err(ChannelError::TooLong);
        }
        if !name.bytes().all(is_legal) {
            return Err(illegal_character(name));
        }
        Ok(Self(Arc::from(name)))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text before the first `:`, or `None` for a channel without a namespace.
    pub fn namespace(&self) -> Option<&str> {
        // Names are ASCII and mostly short: a plain loop over bytes is faster than a search for a character.
        let end = self.0.bytes().position(|byte| byte == b':')?;
        self.0.get(..end)
    }
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}' | b'*')
}

/// The first character that no name may have. There is one.
fn illegal_character(name: &str) -> ChannelError {
    let found = (1..).zip(name.chars()).find(|(_, character)| !u8::try_from(*character).is_ok_and(is_legal));
    let (position, character) = found.unwrap_or((1, char::REPLACEMENT_CHARACTER));
    ChannelError::IllegalCharacter { position, character }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for Channel {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Why a text is not a channel name. Every way into the gateway refuses it in these words, which contain nothing of the
/// text but one escaped character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Zero bytes.
    #[error("the channel name is empty")]
    Empty,
    /// More than [`MAX_CHANNEL_BYTES`].
    #[error("the channel name is longer than 255 bytes")]
    TooLong,
    /// A character that no name may have.
    #[error(
        "character {position} of the channel name is '{}': a channel name is printable ASCII without space, '{{', '}}' and '*'",
        .character.escape_default()
    )]
    IllegalCharacter {
        /// Which of the name's characters it is, counted from 1.
        position: usize,
        /// The character.
        character: char,
    },
}

impl ChannelError {
    /// The error of a name that this text is a part of, with so many characters before it.
    pub(crate) fn after(self, characters: usize) -> Self {
        match self {
            Self::IllegalCharacter { position, character } => {
                Self::IllegalCharacter { position: position + characters, character }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_grammar_names() {
        for name in ["a", "news", "news:1", "user:42:inbox", "fw:x", ":", "..", "%41", "#1,2", "$x", &"n".repeat(255)] {
            assert_eq!(Channel::new(name).unwrap().as_str(), name);
        }
        assert_eq!(Channel::new("news:1:2").unwrap().namespace(), Some("news"));
        assert_eq!(Channel::new("news").unwrap().namespace(), None);
        assert_eq!(Channel::new(":x").unwrap().namespace(), Some(""));
    }

    #[test]
    fn refuses_everything_else() {
        assert_eq!(Channel::new(""), Err(ChannelError::Empty));
        assert_eq!(Channel::new(&"n".repeat(256)), Err(ChannelError::TooLong));
        for name in ["a b", "a\0", "a\n", "\u{202e}", "🦀", "a{b", "a}b", "news:*", "\t", "é", "\x7f"] {
            assert!(matches!(Channel::new(name), Err(ChannelError::IllegalCharacter { .. })), "{name:?}");
        }
    }

    #[test]
    fn names_the_character_without_repeating_it() {
        let rule = "a channel name is printable ASCII without space, '{', '}' and '*'";
        let names = [
            ("a b", 2, " "),
            ("news:*", 6, "*"),
            ("{x}", 1, "{"),
            ("a\0", 2, "\\u{0}"),
            ("line\n", 5, "\\n"),
            ("\x1b[31mred", 1, "\\u{1b}"),
            ("ab\u{202e}", 3, "\\u{202e}"),
            ("café", 4, "\\u{e9}"),
            ("🦀🦀", 1, "\\u{1f980}"),
            ("\x7f", 1, "\\u{7f}"),
        ];
        for (name, position, escaped) in names {
            let message = Channel::new(name).unwrap_err().to_string();
            assert_eq!(message, format!("character {position} of the channel name is '{escaped}': {rule}"));
            assert!(message.bytes().all(|b| b.is_ascii_graphic() || b == b' '), "{message:?}");
        }
    }
}
