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
        if !name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'{' | b'}' | b'*')) {
            return Err(ChannelError::IllegalByte);
        }
        Ok(Self(Arc::from(name)))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text before the first `:`, or `None` for a channel without a namespace.
    pub fn namespace(&self) -> Option<&str> {
        self.0.split_once(':').map(|(namespace, _)| namespace)
    }
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

/// Why a text is not a channel name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Zero bytes.
    #[error("the channel name is empty")]
    Empty,
    /// More than [`MAX_CHANNEL_BYTES`].
    #[error("the channel name is longer than 255 bytes")]
    TooLong,
    /// A byte that no name may have.
    #[error("a channel name is printable ASCII without space, '{{', '}}' and '*'")]
    IllegalByte,
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
            assert_eq!(Channel::new(name), Err(ChannelError::IllegalByte), "{name:?}");
        }
    }
}
