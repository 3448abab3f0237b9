//! What a credential allows: channel patterns with separate rights.

use crate::channel::{Channel, ChannelError, MAX_CHANNEL_BYTES};

/// The most patterns of one credential.
pub const MAX_PATTERNS: usize = 64;

/// One thing a client may do with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// Receive the channel's publications (`sub`).
    Subscribe,
    /// Publish into the channel (`pub`).
    Publish,
    /// See who is there (`prs`).
    Presence,
    /// Read the channel's history (`hst`).
    History,
}

impl Right {
    /// From the word used in tokens.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "sub" => Self::Subscribe,
            "pub" => Self::Publish,
            "prs" => Self::Presence,
            "hst" => Self::History,
            _ => return None,
        })
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A channel pattern with the rights it gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pattern: Box<str>,
    wildcard: bool,
    rights: u8,
}

impl Rule {
    /// A rule for exactly one channel name.
    pub fn exact(channel: &str, rights: &[Right]) -> Result<Self, PatternError> {
        Channel::new(channel)?;
        Ok(Self { pattern: channel.into(), wildcard: false, rights: bits(rights) })
    }

    /// A rule for a wildcard pattern, which is compared segment by segment, segments being parted by `:`.
    ///
    /// `*` stands for one whole segment; as the last segment it stands for the rest, one or more. `*` inside a segment is
    /// refused, so that nobody reads `user*` as they would a shell's.
    pub fn wildcard(pattern: &str, rights: &[Right]) -> Result<Self, PatternError> {
        if pattern.is_empty() {
            return Err(ChannelError::Empty.into());
        }
        if pattern.len() > MAX_CHANNEL_BYTES {
            return Err(ChannelError::TooLong.into());
        }
        let mut before = 0;
        for segment in pattern.split(':') {
            if segment != "*" && segment.contains('*') {
                return Err(PatternError::PartialWildcard);
            }
            if segment != "*" && !segment.is_empty() {
                Channel::new(segment).map_err(|error| error.after(before))?;
            }
            // What was passed is ASCII, a byte for each character.
            before += segment.len() + 1;
        }
        Ok(Self { pattern: pattern.into(), wildcard: true, rights: bits(rights) })
    }

    fn matches(&self, channel: &str) -> bool {
        if !self.wildcard {
            return &*self.pattern == channel;
        }
        // By bytes: a search for a character costs more than the comparison of such short texts.
        let is_colon = |byte: &u8| *byte == b':';
        let mut pattern = self.pattern.as_bytes().split(is_colon).peekable();
        let mut name = channel.as_bytes().split(is_colon);
        loop {
            match (pattern.next(), name.next()) {
                (None, None) => return true,
                (Some(b"*"), Some(_)) if pattern.peek().is_none() => return true,
                (Some(p), Some(n)) if p == b"*" || p == n => {}
                _ => return false,
            }
        }
    }
}

/// Why a pattern is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It could never match a legal channel name.
    #[error(transparent)]
    NotAChannel(#[from] ChannelError),
    /// A `*` that is not a whole segment.
    #[error("'*' stands for whole segments between ':' only")]
    PartialWildcard,
}

/// The rules of one credential. Without any, nothing is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    rules: Box<[Rule]>,
}

impl Grants {
    /// Collects the rules of a credential.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules: rules.into() }
    }

    /// Whether any rule gives the right for this channel.
    pub fn allows(&self, right: Right, channel: &Channel) -> bool {
        self.rules.iter().any(|rule| rule.rights & right.bit() != 0 && rule.matches(channel.as_str()))
    }
}

fn bits(rights: &[Right]) -> u8 {
    rights.iter().fold(0, |bits, right| bits | right.bit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let rule = Rule::wildcard(pattern, &[Right::Subscribe]).unwrap();
        Grants::new(vec![rule]).allows(Right::Subscribe, &Channel::new(name).unwrap())
    }

    #[test]
    fn wildcards_stand_for_whole_segments() {
        assert!(matches("news:*", "news:1"));
        assert!(matches("news:*", "news:1:2"));
        assert!(!matches("news:*", "news"));
        assert!(!matches("news:*", "newsx:1"));
        assert!(matches("user:*:inbox", "user:42:inbox"));
        assert!(!matches("user:*:inbox", "user:42:outbox"));
        assert!(!matches("user:*:inbox", "user:42:43:inbox"));
        assert!(!matches("user:42", "user:42:"));
        assert!(!matches("user:42", "user:42x"));
        assert!(!matches("user:4", "user:42"));
        assert!(matches("*", "anything:at:all"));
        assert_eq!(Rule::wildcard("user*", &[]), Err(PatternError::PartialWildcard));
        assert_eq!(Rule::wildcard("", &[]), Err(ChannelError::Empty.into()));
        let illegal = |position, character| ChannelError::IllegalCharacter { position, character }.into();
        assert_eq!(Rule::exact("news:*", &[]), Err(illegal(6, '*')));
        assert_eq!(Rule::wildcard("news:*:a b", &[]), Err(illegal(9, ' ')));
    }

    #[test]
    fn rights_are_separate() {
        let grants = Grants::new(vec![
            Rule::exact("a", &[Right::Subscribe]).unwrap(),
            Rule::exact("a_b", &[Right::Publish, Right::History]).unwrap(),
        ]);
        let (a, a_b) = (Channel::new("a").unwrap(), Channel::new("a_b").unwrap());
        assert!(grants.allows(Right::Subscribe, &a) && !grants.allows(Right::Publish, &a));
        assert!(grants.allows(Right::Publish, &a_b) && grants.allows(Right::History, &a_b));
        assert!(!grants.allows(Right::Subscribe, &a_b) && !Grants::default().allows(Right::Subscribe, &a));
    }
}
